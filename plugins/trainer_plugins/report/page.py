"""The report as a page: draws charts, fills tables, and escapes everything that comes from data or users."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from trainer.runs import metric_text
from trainer_plugins.report.cards import cards
from trainer_plugins.report.chart import Chart, chart
from trainer_plugins.report.class_curves import ClassCurves
from trainer_plugins.report.classes import MATRIX_CLASSES, ROWS, confused_in, rows_of
from trainer_plugins.report.curves import BinaryCurves
from trainer_plugins.report.document import Document, finite
from trainer_plugins.report.metric_charts import best_epoch, metric_charts, shown_name
from trainer_plugins.report.numbers import NumberCurves
from trainer_plugins.report.weights import shown_weights

TITLES = {
    "roc": ("ROC curve", "Recall against the false-positive rate, over all thresholds."),
    "precision-recall": ("Precision and recall", "Precision against recall, over all thresholds."),
    "calibration": ("Calibration", "The share of class {positive} against the mean predicted probability."),
    "scores": ("Scores", "The distribution of the predicted probabilities of each class."),
    "threshold-curve": ("Thresholds", "Precision, recall and F1 against the decision threshold."),
}
CLASS_TITLES = {
    "roc": ("ROC curves", "Recall against the false-positive rate, each class against the rest{few}; with areas."),
    "precision-recall": ("Precision and recall", "Each class against the rest{few}; with average precisions."),
    "calibration": ("Calibration", "The share of right predictions against the probability of the predicted class."),
    "scores": ("Certainty", "The probability of the predicted class, of right and of wrong predictions."),
}


RELIABILITY = (
    "Before and after calibration",
    "The share that is observed against the mean predicted probability, in bins of equal weight, with 95 % intervals. "
    "Of validation rows, the calibrated ones are cross-fitted.",
)


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
    environment.filters |= {"number": _number, "metric": _metric, "when": _when, "duration": _duration}
    here = resources.files(__package__)
    with style():
        curves = list(metric_charts(document))
        splits = [_split(name, each) for name, each in document.data.get("splits", {}).items()]
        weights = shown_weights(document)
    return environment.from_string(here.joinpath("report.html.jinja").read_text(encoding="utf-8")).render(
        # Our own file, without any outside input.
        css=Markup(here.joinpath("report.css").read_text(encoding="utf-8")),  # noqa: S704
        document=document,
        record=document.record,
        about=[str(line) for line in document.data.get("about", [])],
        cards=cards(document),
        facts=list(_facts(document)),
        curves=curves,
        splits=splits,
        weights=weights,
        restored=[each for each in document.record.get("decisions") or [] if each.get("action") == "restore"],
        metrics=_metrics_table(document),
        plugins=list(_plugin_rows(document)),
        most_classes=ROWS,
        written=time.time(),
    )


# ---- evaluations ----------------------------------------------------------------------------------------------------


def _split(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """The charts and matrices of one split."""
    charts: list[Chart] = []
    matrices: list[Matrix] = []
    own: dict[str, Any] | None = None
    if "binary" in found:
        from trainer_plugins.report.charts import binary_charts

        curves = BinaryCurves(**found["binary"])
        classes = found.get("names") or ["0", "1"]
        for kind, figure in binary_charts(curves, classes).items():
            title, caption = TITLES[kind]
            charts.append(chart(f"{name}-{kind}", title, caption.replace("{positive}", classes[1]), figure))
        matrices = [
            Matrix(f"Confusion matrix at the {kind} threshold, {each['threshold']:.4g}", classes, each["counts"])
            for kind, each in curves.confusion.items()
        ]
    elif "numbers" in found:
        charts = list(_number_charts(name, NumberCurves(**found["numbers"])))
    elif "by_class" in found:
        names = found.get("names") or [str(number) for number in range(len(found["by_class"]["support"]))]
        if "classes" in found and len(names) <= MATRIX_CLASSES:
            matrices = [Matrix("Confusion matrix", names, found["classes"])]
        if "class_curves" in found:
            charts = list(_class_charts(name, ClassCurves(**found["class_curves"]), names))
        own = {
            "table": rows_of(found["by_class"], names),
            "confused": confused_in(found["by_class"], names),
            "mistakes": [
                {**each, "actual": names[each["actual"]], "predicted": names[each["predicted"]]}
                for each in found.get("mistakes", [])
            ],
        }
    if "reliability" in found:
        from trainer_plugins.report.charts import reliability

        charts.append(chart(f"{name}-reliability", *RELIABILITY, reliability(found["reliability"])))
    return {
        "by_class": own,
        "name": name,
        "epoch": found.get("epoch"),
        "rows": found.get("rows"),
        "sampled": found.get("sampled"),
        "charts": charts,
        "matrices": matrices,
    }


def _class_charts(split: str, curves: ClassCurves, names: Sequence[str]) -> Iterator[Chart]:
    """The charts of several classes."""
    from trainer_plugins.report.charts import class_charts

    few = f": the {len(curves.classes)} with the smallest areas" if curves.ranked > len(curves.classes) else ""
    for kind, figure in class_charts(curves, names).items():
        title, caption = CLASS_TITLES[kind]
        yield chart(f"{split}-{kind}", title, caption.replace("{few}", few), figure)


def _number_charts(split: str, curves: NumberCurves) -> Iterator[Chart]:
    """The charts of a predicted number."""
    from trainer_plugins.report.number_charts import caption_of, number_charts

    for kind, figure in number_charts(curves).items():
        yield chart(f"{split}-{kind}", *caption_of(kind, curves), figure)


# ---- tables ---------------------------------------------------------------------------------------------------------


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
    if best_epoch(document):
        yield "best epoch", best_epoch(document)
    for package, version in (record.get("versions") or {}).items():
        yield str(package), str(version)


def _seconds(record: Mapping[str, Any]) -> float:
    """How long the run took, in seconds; older records have only the times of its start and end."""
    if finite([record.get("seconds")]):
        return float(record["seconds"])
    times = finite([record.get("started"), record.get("ended")])
    return times[1] - times[0] if len(times) == 2 else 0.0


def _metrics_table(document: Document) -> dict[str, Any]:
    """The final metrics: one row per name, one column per split; the column without a name is for those without one."""
    metrics = document.record.get("metrics") or {}
    rows: dict[str, dict[str, Any]] = {}
    splits: dict[str, None] = {}
    for name, value in metrics.items():
        split, last = ("", name) if "/" not in name else name.split("/", 1)
        last = last if split != "train" else shown_name(name, document).removeprefix("train/")
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
    return _metric(value, "")


def _metric(value: Any, name: str) -> str:
    """A metric's value; counts are whole numbers."""
    return metric_text(name, value) if finite([value]) else "–"


def _when(seconds: Any) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(float(seconds)))


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
