"""The report as a page: draws charts, fills tables, and escapes everything that comes from data or users."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from trainer_plugins.report.curves import BinaryCurves
from trainer_plugins.report.document import Document, finite

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

MAX_LINES = 8
"""The most lines in one chart."""
MAX_CHARTS = 8
"""The most charts of metrics by epoch; the table shows every metric."""
MAX_WEIGHTS = 40

TITLES = {
    "roc": ("ROC curve", "Recall against the false-positive rate, over all thresholds."),
    "precision-recall": ("Precision and recall", "Precision against recall, over all thresholds."),
    "calibration": ("Calibration", "The share of class 1 against the mean predicted probability."),
    "scores": ("Scores", "The distribution of the predicted probabilities of each class."),
    "threshold-curve": ("Thresholds", "Precision, recall and F1 against the decision threshold."),
}


@dataclass(frozen=True)
class Chart:
    """One chart of the page."""

    name: str
    title: str
    caption: str
    svg: Markup


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix as a table: rows are the actual classes, columns the predicted ones."""

    title: str
    classes: list[str]
    counts: list[list[float]]

    def share(self, row: int, column: int) -> float:
        """The cell's fraction of its row, 0 to 1."""
        total = sum(self.counts[row])
        return self.counts[row][column] / total if total else 0.0


def page(document: Document) -> str:
    """The report as one HTML file without scripts, external fonts or external images."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    from trainer_plugins.report.svg import style

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": _number, "when": _when, "duration": _duration}
    here = resources.files(__package__)
    with style():
        curves = list(_metric_charts(document))
        splits = [_split(name, each) for name, each in document.data.get("splits", {}).items()]
        weights = _weights(document)
    return environment.from_string(here.joinpath("report.html.jinja").read_text(encoding="utf-8")).render(
        # Our own file, without any outside input.
        css=Markup(here.joinpath("report.css").read_text(encoding="utf-8")),  # noqa: S704
        document=document,
        record=document.record,
        about=[str(line) for line in document.data.get("about", [])],
        tiles=_tiles(document),
        facts=list(_facts(document)),
        curves=curves,
        splits=splits,
        weights=weights,
        restored=[each for each in document.record.get("decisions") or [] if each.get("action") == "restore"],
        metrics=_metrics_table(document.record.get("metrics") or {}),
        plugins=list(_plugin_rows(document)),
        written=time.time(),
    )


# ---- curves of the run ----------------------------------------------------------------------------------------------


def _metric_charts(document: Document) -> Iterator[Chart]:
    """The loss first; then metrics between 0 and 1, grouped; then every other metric in a chart of its own."""
    from trainer_plugins.report.charts import series

    directions = document.record.get("directions") or {}
    groups: dict[tuple[int, str, str], dict[str, list[tuple[float, float]]]] = {}
    for name, points in _lines(document).items():
        groups.setdefault(_group(name, points, directions), {})[name] = points
    parts = [
        (title, remark, members[first : first + MAX_LINES])
        for (_, title, remark), lines in sorted(groups.items())
        for members in [list(lines.items())]
        for first in range(0, len(members), MAX_LINES)
    ]
    for number, (title, remark, members) in enumerate(parts[:MAX_CHARTS]):
        lines = {_short(name, title): points for name, points in members}
        yield _chart(f"curve-{number}", title, f"By epoch{remark}.", series(lines), ", ".join(lines))


def _lines(document: Document) -> dict[str, list[tuple[float, float]]]:
    """The points (epoch, value) of every logged metric except counts."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for entry in document.history:
        for name, value in entry.items():
            if name not in ("epoch", "step") and finite([value]) and finite([entry.get("epoch")]):
                lines.setdefault(name, []).append((float(entry["epoch"]), float(value)))
    return {name: points for name, points in lines.items() if not _is_count(points)}


def _is_count(points: list[tuple[float, float]]) -> bool:
    """Whether all values are whole numbers and at least one is above 1, like those of a confusion matrix."""
    return all(value.is_integer() for _, value in points) and any(value > 1 for _, value in points)


def _group(name: str, points: list[tuple[float, float]], directions: Mapping[str, str]) -> tuple[int, str, str]:
    """The chart that a line belongs to: its position, its title and a remark."""
    split, slash, last = name.rpartition("/")
    if last in ("loss", "batch-loss"):
        return 0, "Loss", ""
    if slash and name in directions and all(0 <= value <= 1 for _, value in points):
        better = "higher" if directions[name] == "max" else "lower"
        if last.startswith("tuned-"):
            return 2, f"{split.capitalize()}, tuned", f", at the tuned threshold; {better} is better"
        return 1, f"{split.capitalize()}, {better} is better", ""
    return 3, name, ""


def _short(name: str, title: str) -> str:
    """A line's name, without the split if the title has it."""
    split, _, last = name.rpartition("/")
    return last if title.startswith(f"{split.capitalize()},") else name


# ---- evaluations ----------------------------------------------------------------------------------------------------


def _split(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """The charts and matrices of one split."""
    charts: list[Chart] = []
    matrices: list[Matrix] = []
    if "binary" in found:
        from trainer_plugins.report.charts import binary_charts

        curves = BinaryCurves(**found["binary"])
        for kind, figure in binary_charts(curves).items():
            title, caption = TITLES[kind]
            charts.append(_chart(f"{name}-{kind}", title, caption, figure))
        matrices = [
            Matrix(f"Confusion matrix at the {kind} threshold, {each['threshold']:.4g}", ["0", "1"], each["counts"])
            for kind, each in curves.confusion.items()
        ]
    elif "classes" in found:
        classes = found.get("names") or [str(number) for number in range(len(found["classes"]))]
        matrices = [Matrix("Confusion matrix", classes, found["classes"])]
    return {
        "name": name,
        "epoch": found.get("epoch"),
        "rows": found.get("rows"),
        "charts": charts,
        "matrices": matrices,
    }


def _weights(document: Document) -> dict[str, Any] | None:
    """The largest weights of a linear model as bars; None for any other model."""
    found = document.data.get("weights")
    if not found:
        return None
    from trainer_plugins.report.charts import weights

    pairs = sorted(zip(found["names"], found["values"], strict=True), key=lambda pair: -abs(pair[1]))
    shown = pairs[:MAX_WEIGHTS]
    figure = weights([name for name, _ in shown], [value for _, value in shown])
    return {
        "chart": _chart("weights", "Weights by feature", "The largest first.", figure),
        "pairs": pairs,
        "shown": len(shown),
        "bias": found.get("bias"),
        "standardized": bool(found.get("standardized")),
    }


def _chart(name: str, title: str, caption: str, figure: Figure, shown: str = "") -> Chart:
    from trainer_plugins.report.svg import svg

    label = f"{title}. {caption}" + (f" Lines: {shown}." if shown else "")
    return Chart(name, title, caption, svg(figure, name, label))


# ---- tables ---------------------------------------------------------------------------------------------------------


def _tiles(document: Document) -> list[tuple[str, Any]]:
    """The task's headline metrics, and the test split's metrics of the same names."""
    metrics = document.record.get("metrics") or {}
    names = [str(name) for name in document.data.get("headline", ("train/loss", "validation/loss"))]
    names += [name.replace("validation/", "test/", 1) for name in names if name.startswith("validation/")]
    return [(name, metrics[name]) for name in names if name in metrics]


def _facts(document: Document) -> Iterator[tuple[str, str]]:
    record = document.record
    yield "task", str(record.get("task", ""))
    if record.get("started"):
        yield "started", _when(record["started"])
    if _seconds(record):
        yield "took", _duration(_seconds(record))
    yield "epochs", str(record.get("epoch", 0))
    yield "steps", str(record.get("step", 0))
    if record.get("devices"):
        yield "devices", ", ".join(map(str, record["devices"]))
    if record.get("step_kind"):
        why = f" ({record['step_why']})" if record.get("step_why") else ""
        yield "step", f"{record['step_kind']}{why}"
    if record.get("threshold") is not None:
        yield "threshold", _number(record["threshold"])
    for package, version in (record.get("versions") or {}).items():
        yield str(package), str(version)


def _seconds(record: Mapping[str, Any]) -> float:
    """How long the run took, in seconds; older records have only the times of its start and end."""
    if finite([record.get("seconds")]):
        return float(record["seconds"])
    times = finite([record.get("started"), record.get("ended")])
    return times[1] - times[0] if len(times) == 2 else 0.0


def _metrics_table(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The final metrics: one row per name, one column per split; the column without a name is for those without one."""
    rows: dict[str, dict[str, Any]] = {}
    splits: dict[str, None] = {}
    for name, value in metrics.items():
        split, _, last = name.rpartition("/")
        rows.setdefault(last, {})[split] = value
        splits[split] = None
    return {"splits": list(splits), "rows": rows}


def _plugin_rows(document: Document) -> Iterator[dict[str, Any]]:
    """Each plugin with its cost; names that are only in the ledger, such as the engine, come last."""
    total = _seconds(document.record)
    costs: dict[str, list[float]] = {}
    for row in document.record.get("ledger") or []:
        cost = costs.setdefault(str(row.get("plugin")), [0.0, 0.0])
        cost[0] += sum(finite([row.get("seconds")]))
        cost[1] += sum(finite([row.get("waiting")]))
    known = {str(plugin.get("name")): plugin for plugin in document.plugins}
    for name in [*known, *(name for name in costs if name not in known)]:
        plugin = known.get(name, {})
        seconds, waiting = costs.get(name, [0.0, 0.0])
        yield {
            "name": name,
            "phase": plugin.get("phase", ""),
            "origin": f"{plugin.get('distribution', '')} {plugin.get('version', '')}".strip(),
            "seconds": seconds,
            "waiting": waiting,
            "share": seconds / total if total else None,
        }


def _number(value: Any) -> str:
    """A number to five digits; a dash for anything that is not a finite number."""
    if not finite([value]):
        return "–"
    value = float(value)
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.5g}"


def _when(seconds: Any) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(float(seconds)))


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
