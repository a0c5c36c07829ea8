"""The cards at the top of the page: the main metrics, with what they would be without any learning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer_plugins.report.document import Document
from trainer_plugins.report.metric_charts import shown_name

RANKING = ("roc-auc", "average-precision")
"""Shown for classes even if the task's headline does not name them: they do not depend on the threshold."""


@dataclass(frozen=True)
class Card:
    """A metric's final value, and a note on what to compare it with."""

    name: str
    value: Any
    note: str


def cards(document: Document) -> list[Card]:
    """The task's headline metrics, for classes also the ranking's, and those of the test split."""
    metrics = document.record.get("metrics") or {}
    splits = document.data.get("splits") or {}
    names = [str(name) for name in document.data.get("headline", ("train/loss", "validation/loss"))]
    if {"binary", "by_class"} & splits.get("validation", {}).keys():
        names += [f"validation/{name}" for name in RANKING]
    names += [name.replace("validation/", "test/", 1) for name in names if name.startswith("validation/")]
    return [
        Card(shown_name(name, document), metrics[name], base_rate(name, splits))
        for name in dict.fromkeys(names)
        if name in metrics
    ]


def base_rate(name: str, splits: Mapping[str, Any]) -> str:
    """What a metric is for a net that has learned nothing but the labels' distribution; empty if that is not known."""
    split, _, last = name.partition("/")
    found = splits.get(split) or {}
    if "numbers" in found:
        numbers = found["numbers"]
        return {
            "r2": "the mean alone: 0",
            "root-mean-squared-error": f"the mean alone: {numbers['deviation']:.4g}",
            "mean-absolute-error": f"the median alone: {numbers['absolute']:.4g}",
        }.get(last, "")
    if "binary" in found:
        positive = float(found["binary"]["positive_share"])
        largest = max(positive, 1 - positive)
    elif "classes" in found:
        rows = [sum(row) for row in found["classes"]]
        positive, largest = 0.0, max(rows) / sum(rows) if sum(rows) else 0.0
    else:
        return ""
    if last == "accuracy":
        return f"largest class alone: {largest:.4g}"
    if last == "roc-auc":
        return "chance: 0.5"
    return f"chance: {positive:.4g}" if last == "average-precision" and "binary" in found else ""
