"""The results of `trainer evaluate` as a text table, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trainer.cli.table import aligned
from trainer.runs.values import metric_text
from trainer.terminal import RowOutput

if TYPE_CHECKING:
    from trainer.model.evaluate import FileEvaluation
    from trainer.model.model import Model


def told(model: Model, data: str | Sequence[str], found: FileEvaluation) -> dict[str, Any]:
    """The JSON values of `--json`; values that are not finite are null."""

    def number(value: float | None) -> float | None:
        return None if value is None or not math.isfinite(value) else value

    values: dict[str, Any] = {
        "model": str(model.folder),
        "data": data if isinstance(data, str) else list(data),
        "rows": found.rows,
        "calibrated": None if model.calibrator is None else model.calibrator.describe(),
        "thresholds": {name: number(value) for name, value in found.thresholds.items()},
        "metrics": {name: {key: number(value) for key, value in each.items()} for name, each in found.metrics.items()},
        "missing": found.report.missing,
        "unseen": found.report.unseen,
    }
    if found.intervals:
        values["confidence"] = found.confidence
        values["intervals"] = {
            name: {key: [number(low), number(high)] for key, (low, high) in each.items()}
            for name, each in found.intervals.items()
        }
    return values


def write_csv(found: FileEvaluation) -> None:
    """Writes one line per metric; NaN is an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = ["metric"]
    for name in found.metrics:
        header += [name, f"{name}-low", f"{name}-high"] if found.intervals else [name]
    writer.writerow(header)
    if any(value is not None for value in found.thresholds.values()):
        padding = ["", ""] if found.intervals else []
        row: list[Any] = ["threshold"]
        for name in found.metrics:
            row += [found.thresholds[name], *padding]
        writer.writerow(row)
    for key in next(iter(found.metrics.values())):
        row = [key]
        for name, values in found.metrics.items():
            numbers = [values[key], *(found.intervals[name][key] if found.intervals else ())]
            row += ["" if math.isnan(value) else value for value in numbers]
        writer.writerow(row)
    rows = RowOutput()
    rows.write(text.getvalue().encode())
    rows.flush()


def as_lines(found: FileEvaluation) -> list[str]:
    """Aligned columns: the metric, and its value at each threshold."""
    heads = [
        "value" if found.thresholds[name] is None else f"{name}: {found.thresholds[name]:.4g}" for name in found.metrics
    ]
    rows = [["metric" if found.thresholds[next(iter(found.metrics))] is None else "threshold", *heads]]
    for key in next(iter(found.metrics.values())):
        cells = []
        for name, values in found.metrics.items():
            cell = metric_text(key, values[key], ".4f")
            if found.intervals:
                ends = ", ".join(metric_text(key, end, ".4f") for end in found.intervals[name][key])
                cell = f"{cell} [{ends}]"
            cells.append(cell)
        rows.append([key, *cells])
    tail = f"; {found.confidence:.0%} confidence intervals" if found.intervals else ""
    return [*aligned(rows), f"{found.rows} rows{tail}"]
