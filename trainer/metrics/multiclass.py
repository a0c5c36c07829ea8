"""Metrics of multi-class classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError
from trainer.metrics.base import Direction, Metric

WHERE = "multi-class metrics"


class MulticlassClassification(Metric):
    """`accuracy` for k = 1 and `top-k-accuracy` (such as `top-5-accuracy`) for every other k in `top_k`.

    It keeps sums only, nothing per row. Predictions are scores (rows, classes); the highest one is the predicted class.
    Labels are class numbers (rows,), or (rows, classes) with the highest value at the class. Among equal scores the
    lower class number ranks first. A row with a NaN score is wrong for every k and is not counted in `confusion`.

    `macro_f1` adds the unweighted mean of the classes' F1, like scikit-learn's `f1_score(average="macro")` over all
    classes; a class that has no rows and is never predicted counts 0. `classes`, the names of the classes, adds
    `class-accuracy/NAME`: the share of a class's rows that are right (its recall), NaN for a class without rows. Raises
    UsageError for a k below 1.
    """

    def __init__(self, top_k: Sequence[int] = (1,), *, macro_f1: bool = False, classes: Sequence[str] = ()) -> None:
        if not top_k or min(top_k) < 1:
            raise UsageError(f"top_k is {tuple(top_k)}", fix="Use numbers ≥ 1.")
        self._names = {k: "accuracy" if k == 1 else f"top-{k}-accuracy" for k in top_k}
        self._macro_f1 = macro_f1
        self._classes = tuple(classes)
        self.reset()

    @property
    def directions(self) -> Mapping[str, Direction]:  # type: ignore[override]
        further = ["macro-f1"] * self._macro_f1 + [f"class-accuracy/{name}" for name in self._classes]
        return dict.fromkeys([*self._names.values(), *further], "max")

    def reset(self) -> None:
        self._hits = dict.fromkeys(self._names, 0.0)
        self._total = 0.0
        self._confusion: NDArray[np.float64] = np.zeros((0, 0))
        self._actual: NDArray[np.float64] = np.zeros(0)

    @property
    def confusion(self) -> NDArray[np.float64]:
        """Sums of weights (classes, classes): rows are the actual class, columns the predicted class.

        (0, 0) before the first row. Takes classes² × 8 bytes: 8 MB for a thousand classes.
        """
        return self._confusion.copy()

    def update(self, predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> None:
        """Adds a batch: scores (rows, classes), labels (rows,) or (rows, classes), and weights (rows,) or None.

        Raises UsageError for other shapes, for labels that are not class numbers, and if the number of classes changes.
        """
        classes = _class_numbers(predictions, labels)
        weights = np.ones(len(classes)) if weights is None else np.asarray(weights, np.float64).ravel()
        if len(weights) != len(classes):
            raise UsageError(f"{len(weights)} weights for {len(classes)} rows", where=WHERE)
        if not len(classes):
            return
        self._allow(predictions.shape[1])
        # Comparisons with NaN are false, which would rank the true class of a diverged net first.
        ordered = ~np.isnan(predictions).any(axis=1)
        own = predictions[np.arange(len(classes)), classes][:, None]
        numbers = np.arange(predictions.shape[1])
        ahead = (predictions > own) | ((predictions == own) & (numbers < classes[:, None]))
        rank = ahead.sum(axis=1)
        for k in self._hits:
            self._hits[k] += float(weights[ordered & (rank < k)].sum())
        self._total += float(weights.sum())
        cells = (classes[ordered], predictions[ordered].argmax(axis=1))
        np.add.at(self._confusion, cells, weights[ordered])
        np.add.at(self._actual, classes, weights)

    def compute(self) -> dict[str, float]:
        found = {name: self._hits[k] / self._total if self._total else float("nan") for k, name in self._names.items()}
        right = self._confusion.diagonal()
        if self._macro_f1:
            # Rows with a NaN are in no cell, but they count as rows of their class.
            both = self._actual + self._confusion.sum(axis=0)
            found["macro-f1"] = float(np.mean(2 * right / np.where(both, both, 1))) if len(right) else float("nan")
        for number, name in enumerate(self._classes):
            rows = self._actual[number] if number < len(right) else 0.0
            found[f"class-accuracy/{name}"] = float(right[number] / rows) if rows else float("nan")
        return found

    def state(self) -> dict[str, NDArray[Any]]:
        """The sums: `hits` (k,), `total` (1,), `confusion` (classes, classes) and `actual` (classes,).

        The last two have no elements before the first row.
        """
        return {
            "actual": self._actual.copy(),
            "hits": np.array(list(self._hits.values())),
            "total": np.array([self._total]),
            "confusion": self.confusion,
        }

    def add_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Merges the sums of another process; raises UsageError if its number of classes differs."""
        confusion = state["confusion"]
        if len(confusion):
            self._allow(len(confusion))
            self._confusion += confusion
            self._actual += state["actual"]
        for k, hits in zip(self._hits, state["hits"].tolist(), strict=True):
            self._hits[k] += hits
        self._total += float(state["total"][0])

    def _allow(self, classes: int) -> None:
        """Checks the number of classes, which the first rows set; a process may have had no rows."""
        if not len(self._confusion):
            if self._classes and len(self._classes) != classes:
                raise UsageError(f"{len(self._classes)} names for {classes} classes", where=WHERE)
            self._confusion, self._actual = np.zeros((classes, classes)), np.zeros(classes)
        elif len(self._confusion) != classes:
            raise UsageError(f"{classes} classes after {len(self._confusion)}", where=WHERE)


def _class_numbers(predictions: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
    """The labels as integers (rows,), each a column number of the predictions."""
    if labels.ndim == 2 and labels.shape == predictions.shape and labels.shape[1] > 1:
        if not np.isfinite(labels).all():
            raise UsageError("a label is NaN or infinite", where=WHERE)
        numbers: NDArray[np.int64] = labels.argmax(axis=1)
        return numbers
    labels = np.ravel(labels)
    if predictions.ndim != 2 or len(predictions) != len(labels):
        raise UsageError(
            f"predictions have shape {predictions.shape} for {len(labels)} rows",
            where=WHERE,
            fix="They have to be (rows, classes).",
        )
    inside = (labels >= 0) & (labels < predictions.shape[1]) & (labels == np.floor(labels))
    if not inside.all():
        raise UsageError(
            f"a label is {labels[~inside][0]:g}, but there are only {predictions.shape[1]} classes",
            where=WHERE,
            fix="Labels are class numbers from 0.",
        )
    return labels.astype(np.int64)
