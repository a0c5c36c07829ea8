"""The weights of a linear model: the largest as bars, or as a table if there is an output for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainer_plugins.report.chart import chart
from trainer_plugins.report.document import Document

MAX_WEIGHTS = 40
MAX_COLUMNS = 20
"""With more classes the table is wider than a page, and has a line for each feature and class instead."""


def shown_weights(document: Document) -> dict[str, Any] | None:
    """The largest weights of a linear model: bars, or a table by class; None for any other model."""
    found = document.data.get("weights")
    if not found:
        return None
    if "classes" in found:
        return by_classes(found)
    from trainer_plugins.report.charts import weights

    values, shift = around_their_mean(found["values"], found["columns"])
    pairs = sorted(zip(found["names"], values, strict=True), key=lambda pair: -abs(pair[1]))
    shown = pairs[:MAX_WEIGHTS]
    figure = weights([name for name, _ in shown], [value for _, value in shown])
    return {
        "chart": chart("weights", "Weights by feature", "The largest first.", figure),
        "pairs": pairs,
        "shown": len(shown),
        "bias": found["bias"] if found.get("bias") is None and not shift else (found["bias"] or 0.0) + shift,
        "grouped": len(set(found["columns"])) < len(found["columns"]),
        "standardized": bool(found.get("standardized")),
        "said": {"identity": "its prediction", "log": "the logarithm of its prediction"}.get(
            found.get("link", ""), "its output"
        ),
        "by_class": None,
    }


def around_their_mean(values: Sequence[float], columns: Sequence[str]) -> tuple[list[float], float]:
    """The weights with those of each column of categories around their mean, and the sum of these means.

    Every row has one category of each column, so adding the same number to all of a column's weights and taking it off
    the constant changes no output. Around their mean, the weights of a column that means nothing are near 0.
    """
    own: dict[str, list[float]] = {}
    for value, column in zip(values, columns, strict=True):
        own.setdefault(column, []).append(value)
    means = {column: sum(each) / len(each) if len(each) > 1 else 0.0 for column, each in own.items()}
    return [value - means[column] for value, column in zip(values, columns, strict=True)], sum(means.values())


def by_classes(found: Mapping[str, Any]) -> dict[str, Any]:
    """The largest weights of a model with an output for each class, features down and classes across."""
    names, classes = found["names"], found["classes"]
    values, biases = centred(found["values"], found["bias"] or [0.0] * len(classes), found["columns"])
    sizes = [max(abs(row[place]) for row in values) for place in range(len(names))]
    order = sorted(range(len(names)), key=lambda place: -sizes[place])[:MAX_WEIGHTS]
    largest = max(sizes, default=0.0) or 1.0
    wide = len(classes) > MAX_COLUMNS
    pairs = [
        (f"{feature} for {name}", value)
        for name, row in zip(classes if wide else (), values if wide else (), strict=True)
        for feature, value in zip(names, row, strict=True)
    ]
    return {
        "chart": None,
        "pairs": sorted(pairs, key=lambda pair: -abs(pair[1])),
        "bias": None,
        "grouped": len(set(found["columns"])) < len(found["columns"]),
        "standardized": bool(found.get("standardized")),
        "by_class": {
            "classes": [] if wide else classes,
            "biases": biases,
            "rows": [] if wide else [(names[place], [row[place] for row in values]) for place in order],
            "largest": largest,
            "left_out": 0 if wide else len(names) - len(order),
        },
    }


def centred(
    values: Sequence[Sequence[float]], biases: Sequence[float], columns: Sequence[str]
) -> tuple[list[list[float]], list[float]]:
    """The weights (classes, features) around the mean of the classes, and those of categories around theirs.

    The softmax of the outputs stays the same: adding a number to a feature's weight of every class changes no
    difference of two outputs.
    """
    count = len(values)
    means = [sum(column) / count for column in zip(*values, strict=True)]
    middle = sum(biases) / count
    rows, shifted = [], []
    for row, bias in zip(values, biases, strict=True):
        around, shift = around_their_mean([value - mean for value, mean in zip(row, means, strict=True)], columns)
        rows.append(around)
        shifted.append(bias - middle + shift)
    return rows, shifted
