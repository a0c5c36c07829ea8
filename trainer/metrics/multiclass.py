"""Several classes, one of which is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError
from trainer.metrics.base import Direction, Metric

WHERE = "multi-class metrics"


class MulticlassClassification(Metric):
    """`accuracy`, and `top-k-accuracy` for every other k asked for (`top-5-accuracy`), as sums: nothing is kept a row.

    Predictions are scores (rows, classes), the highest of which is the prediction; labels are class numbers (rows,), or
    (rows, classes), of which the highest counts. Among equal scores the lower class number goes first. A row with a NaN
    among its scores is wrong for every k, and predicts no class: it is not in `confusion`.

    With `macro_f1` also the mean of the classes' F1, each of which counts alike, as scikit-learn's
    `f1_score(average="macro")` over all classes has it; a class that has no row and is never predicted counts 0. With
    the names of the `classes` also `class-accuracy/NAME`, the share of a class's rows that are right (its recall), NaN
    for a class without rows. Raises UsageError for a k below 1.
    """

    def __init__(self, top_k: Sequence[int] = (1,), *, macro_f1: bool = False, classes: Sequence[str] = ()) -> None:
        if not top_k or min(top_k) < 1:
            raise UsageError(f"top_k is {tuple(top_k)}", fix="Use numbers from 1.")
        self._names = {k: "accuracy" if k == 1 else f"top-{k}-accuracy" for k in top_k}
        self._macro_f1 = macro_f1
        self._classes = tuple(classes)
        self.reset()

    @property
    def directions(self) -> Mapping[str, Direction]:  # type: ignore[override]
        """More is better for all."""
        further = ["macro-f1"] * self._macro_f1 + [f"class-accuracy/{name}" for name in self._classes]
        return dict.fromkeys([*self._names.values(), *further], "max")

    def reset(self) -> None:
        """Forgets every row."""
        self._hits = dict.fromkeys(self._names, 0.0)
        self._total = 0.0
        self._confusion: NDArray[np.float64] = np.zeros((0, 0))
        self._actual: NDArray[np.float64] = np.zeros(0)

    @property
    def confusion(self) -> NDArray[np.float64]:
        """Sums of weights, (classes, classes): rows are the actual class, columns the predicted; (0, 0) before a row.

        It takes classes² × 8 bytes: 8 MB for a thousand classes.
        """
        return self._confusion.copy()

    def update(self, predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> None:
        """Takes in a batch of (rows, classes) scores, (rows,) or (rows, classes) labels and (rows,) weights or None.

        Raises UsageError for other shapes, for labels that are no class numbers, and where the number of classes
        changes.
        """
        classes = _class_numbers(predictions, labels)
        weights = np.ones(len(classes)) if weights is None else np.asarray(weights, np.float64).ravel()
        if len(weights) != len(classes):
            raise UsageError(f"{len(weights)} weights for {len(classes)} rows", where=WHERE)
        if not len(classes):
            return
        self._allow(predictions.shape[1])
        # Comparisons with NaN are all false, which would put a diverged net's own class first.
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
        """The share of the rows (of their weights) that were right, and what else was asked for."""
        found = {name: self._hits[k] / self._total if self._total else float("nan") for k, name in self._names.items()}
        right = self._confusion.diagonal()
        if self._macro_f1:
            # Rows with a NaN are in no cell, and count as rows of their class all the same.
            both = self._actual + self._confusion.sum(axis=0)
            found["macro-f1"] = float(np.mean(2 * right / np.where(both, both, 1))) if len(right) else float("nan")
        for number, name in enumerate(self._classes):
            rows = self._actual[number] if number < len(right) else 0.0
            found[f"class-accuracy/{name}"] = float(right[number] / rows) if rows else float("nan")
        return found

    def state(self) -> dict[str, NDArray[Any]]:
        """The sums: `hits` (one for each k), `total` (1,), `confusion` (classes, classes), or (0, 0) before a row,
        `actual` (classes,).
        """
        return {
            "actual": self._actual.copy(),
            "hits": np.array(list(self._hits.values())),
            "total": np.array([self._total]),
            "confusion": self.confusion,
        }

    def add_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Adds the sums of another process; raises UsageError where it counted another number of classes."""
        confusion = state["confusion"]
        if len(confusion):
            self._allow(len(confusion))
            self._confusion += confusion
            self._actual += state["actual"]
        for k, hits in zip(self._hits, state["hits"].tolist(), strict=True):
            self._hits[k] += hits
        self._total += float(state["total"][0])

    def _allow(self, classes: int) -> None:
        """The first rows say how many classes there are; a process may have had none."""
        if not len(self._confusion):
            if self._classes and len(self._classes) != classes:
                raise UsageError(f"{len(self._classes)} names for {classes} classes", where=WHERE)
            self._confusion, self._actual = np.zeros((classes, classes)), np.zeros(classes)
        elif len(self._confusion) != classes:
            raise UsageError(f"{classes} classes after {len(self._confusion)}", where=WHERE)


def _class_numbers(predictions: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
    """The labels as integers, (rows,), each of them a column of the predictions."""
    if labels.ndim == 2 and labels.shape == predictions.shape and labels.shape[1] > 1:
        if not np.isfinite(labels).all():
            raise UsageError("a label is not finite", where=WHERE)
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
            f"a label is {labels[~inside][0]:g}, and there are {predictions.shape[1]} classes",
            where=WHERE,
            fix="Labels are class numbers from 0.",
        )
    return labels.astype(np.int64)
