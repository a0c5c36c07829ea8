"""The charts of a run's metrics by epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from trainer_plugins.report.chart import Chart, chart
from trainer_plugins.report.document import Document, finite

MAX_LINES = 8
"""The most lines in one chart."""
MAX_CHARTS = 8
"""The most charts of metrics by epoch; the table shows every metric."""
WEIGHTED = " (weighted)"
"""Added to the name of a training loss of weighted rows, which cannot be compared with the other splits' losses."""

Points = list[tuple[float, float]]


def metric_charts(document: Document) -> Iterator[Chart]:
    """The loss first; then metrics between 0 and 1, grouped; then every other metric in a chart of its own."""
    from trainer_plugins.report.charts import series

    directions = document.record.get("directions") or {}
    groups: dict[tuple[int, str, str], dict[str, Points]] = {}
    for name, points in lines_of(document).items():
        groups.setdefault(_group(name, points, directions, document), {})[name] = points
    parts = [
        (title, remark, members[first : first + MAX_LINES])
        for (_, title, remark), lines in sorted(groups.items())
        for members in [list(lines.items())]
        for first in range(0, len(members), MAX_LINES)
    ]
    for number, (title, remark, members) in enumerate(parts[:MAX_CHARTS]):
        lines = {_short(shown_name(name, document), title): points for name, points in members}
        best = [best_of(points, directions.get(name)) if not name.startswith("train/") else None
                for name, points in members]  # fmt: skip
        dots = " A dot marks the best epoch." if any(best) else ""
        yield chart(f"curve-{number}", title, f"By epoch{remark}.{dots}", series(lines, best), ", ".join(lines))


def lines_of(document: Document) -> dict[str, Points]:
    """The points (epoch, value) of every logged metric except counts."""
    lines: dict[str, Points] = {}
    for entry in document.history:
        for name, value in entry.items():
            if name not in ("epoch", "step") and finite([value]) and finite([entry.get("epoch")]):
                lines.setdefault(name, []).append((float(entry["epoch"]), float(value)))
    return {name: points for name, points in lines.items() if not _is_count(points)}


def best_of(points: Sequence[tuple[float, float]], direction: str | None) -> tuple[float, float] | None:
    """The first point with the best value; None if it is not known which values are better, or for one epoch."""
    if direction not in ("max", "min") or len(points) < 2:
        return None
    sign = -1 if direction == "max" else 1
    return min(points, key=lambda point: sign * point[1])


def best_epoch(document: Document) -> str:
    """The epoch with the best headline metric of the validation rows, in words; empty if there is none."""
    directions, lines = document.record.get("directions") or {}, lines_of(document)
    for name in map(str, document.data.get("headline", ("validation/loss",))):
        best = best_of(lines.get(name, ()), directions.get(name)) if name.startswith("validation/") else None
        if best is not None:
            return f"{best[0]:.0f} of {len(document.history)}, by {name} ({best[1]:.5g})"
    return ""


def shown_name(name: str, document: Document) -> str:
    """A metric's name; a training loss of weighted rows says so."""
    return f"{name}{WEIGHTED}" if _is_weighted(name, document) else name


def _is_weighted(name: str, document: Document) -> bool:
    return name in ("train/loss", "train/batch-loss") and bool(document.data.get("weighted"))


def _is_count(points: Points) -> bool:
    """Whether all values are whole numbers and at least one is above 1, like those of a confusion matrix."""
    return all(value.is_integer() for _, value in points) and any(value > 1 for _, value in points)


def _group(name: str, points: Points, directions: Mapping[str, str], document: Document) -> tuple[int, str, str]:
    """The chart that a line belongs to: its position, its title and a remark."""
    split, slash, last = name.partition("/")
    last = last if slash else name
    if _is_weighted(name, document):
        return 0, "Training loss, weighted", "; rows count by their weights, so it differs from other losses"
    if last in ("loss", "batch-loss"):
        return 0, "Loss", ""
    if slash and name in directions and all(0 <= value <= 1 for _, value in points):
        better = "higher" if directions[name] == "max" else "lower"
        if last.startswith("cross-fitted-"):
            return 3, f"{split.capitalize()}, cross-fitted", f", decided out of fold; {better} is better"
        if last.startswith("tuned-"):
            return 4, f"{split.capitalize()}, tuned", f", at the tuned threshold; {better} is better"
        # A metric of each class: `recall/NAME`.
        metric, of_class, _ = last.partition("/")
        of_what = f"{split.capitalize()}, {metric} by class" if of_class else split.capitalize()
        return (2 if of_class else 1), f"{of_what}, {better} is better", ""
    return 5, name, ""


def _short(name: str, title: str) -> str:
    """A line's name, without the split and the metric if the title has them."""
    split, _, last = name.partition("/")
    metric, _, member = last.partition("/")
    if title.startswith(f"{split.capitalize()}, {metric} by class"):
        return member
    return last if title.startswith(f"{split.capitalize()},") else name
