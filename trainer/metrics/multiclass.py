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

    Predictions are scores (rows, classes), the highest of which is the prediction; labels are class numbers (rows,).
    Among equal scores the lower class number goes first. A row with a NaN among its scores is wrong for every k, and
    predicts no class: it is not in `confusion`. Raises UsageError for a k below 1.
    """

    def __init__(self, top_k: Sequence[int] = (1,)) -> None:
        if not top_k or min(top_k) < 1:
            raise UsageError(f"top_k is {tuple(top_k)}", fix="Use numbers from 1.")
        self._names = {k: "accuracy" if k == 1 else f"top-{k}-accuracy" for k in top_k}
        self.reset()

    @property
    def directions(self) -> Mapping[str, Direction]:  # type: ignore[override]
        """More is better for all."""
        return dict.fromkeys(self._names.values(), "max")

    def reset(self) -> None:
        """Forgets every row."""
        self._hits = dict.fromkeys(self._names, 0.0)
        self._total = 0.0
        self._confusion: NDArray[np.float64] = np.zeros((0, 0))

    @property
    def confusion(self) -> NDArray[np.float64]:
        """Sums of weights, (classes, classes): rows are the actual class, columns the predicted; (0, 0) before a row.

        It takes classes² × 8 bytes: 8 MB for a thousand classes.
        """
        return self._confusion.copy()

    def update(self, predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> None:
        """Takes in a batch of (rows, classes) scores, (rows,) class numbers and (rows,) weights or None.

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

    def compute(self) -> dict[str, float]:
        """The share of the rows (of their weights) that were right."""
        return {name: self._hits[k] / self._total if self._total else float("nan") for k, name in self._names.items()}

    def state(self) -> dict[str, NDArray[Any]]:
        """The sums: `hits` (one for each k), `total` (1,), `confusion` (classes, classes), or (0, 0) before a row."""
        return {
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
        for k, hits in zip(self._hits, state["hits"].tolist(), strict=True):
            self._hits[k] += hits
        self._total += float(state["total"][0])

    def _allow(self, classes: int) -> None:
        """The first rows say how many classes there are; a process may have had none."""
        if not len(self._confusion):
            self._confusion = np.zeros((classes, classes))
        elif len(self._confusion) != classes:
            raise UsageError(f"{classes} classes after {len(self._confusion)}", where=WHERE)


def _class_numbers(predictions: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
    """The labels as integers, (rows,), each of them a column of the predictions."""
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
