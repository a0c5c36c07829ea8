"""Two classes, told apart by a probability and a threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError
from trainer.metrics.base import Direction, Metric

Vector = NDArray[np.float64]


class BinaryClassification(Metric):
    """Everything usual for probabilities of class 1 and labels of 0 and 1.

    `accuracy`, `f1`, `precision`, `recall`, `matthews-correlation` and the four counts of the confusion matrix at
    `threshold`; `roc-auc`, `average-precision`, `log-loss` and `brier-score` without one. A row is class 1 where its
    probability is above the threshold; at exactly the threshold it is class 0. With weights, the counts are sums of
    weights. `threshold` may be changed between `reset` and `compute`.
    """

    directions: ClassVar[Mapping[str, Direction]] = {
        "accuracy": "max",
        "f1": "max",
        "precision": "max",
        "recall": "max",
        "matthews-correlation": "max",
        "roc-auc": "max",
        "average-precision": "max",
        "log-loss": "min",
        "brier-score": "min",
    }

    def __init__(self, threshold: float = 0.5) -> None:
        self.threshold = threshold
        self.reset()

    def reset(self) -> None:
        """Forgets every row."""
        self._parts: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]] = []

    def update(self, predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> None:
        """Takes in a batch of n rows: probabilities, labels and weights of n elements each, of any shape.

        Raises UsageError where they are not one a row, which is what a net with two output neurons looks like, and for
        labels other than 0 and 1.
        """
        probabilities, labels = np.ravel(predictions), np.ravel(labels)
        if probabilities.size != labels.size:
            raise UsageError(
                f"{probabilities.size} predictions for {labels.size} rows",
                where="binary metrics",
                fix="The net has to end in one neuron, and predictions() to give one probability a row.",
            )
        if labels.size and not np.isin(labels, (0, 1)).all():
            raise UsageError(
                f"a label is {labels[~np.isin(labels, (0, 1))][0]:g}", where="binary metrics", fix="Use 0 and 1."
            )
        self._parts.append((probabilities, labels, None if weights is None else np.ravel(weights)))

    def compute(self) -> dict[str, float]:
        """All values over the rows since `reset`."""
        probabilities, labels, weights = self._joined()
        ranked = _Ranked(probabilities, labels, weights)
        return {
            **binary_metrics_at(self.threshold, probabilities, labels, weights),
            "roc-auc": ranked.roc_auc(),
            "average-precision": ranked.average_precision(),
            "log-loss": _log_loss(probabilities, labels, weights, self._resolution()),
            "brier-score": _mean((probabilities - labels) ** 2, weights),
        }

    @property
    def confusion(self) -> Vector:
        """Rows are the actual class, columns the predicted one: [[true −, false +], [false −, true +]]."""
        probabilities, labels, weights = self._joined()
        return _confusion(probabilities > self.threshold, labels, weights)

    def state(self) -> dict[str, NDArray[Any]]:
        """The collected rows."""
        probabilities, labels, weights = self._joined()
        return {"probabilities": probabilities, "labels": labels, "weights": weights}

    def add_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Adds the rows of another process."""
        self._parts.append((state["probabilities"], state["labels"], state["weights"]))

    def _joined(self) -> tuple[Vector, Vector, Vector]:
        """All rows in float64; without weights each counts 1."""
        if not self._parts:
            return np.empty(0), np.empty(0), np.empty(0)
        probabilities, labels = (
            np.concatenate([np.asarray(part[n], np.float64) for part in self._parts]) for n in (0, 1)
        )
        weights = [
            np.ones(len(part[1])) if part[2] is None else np.asarray(part[2], np.float64) for part in self._parts
        ]
        return probabilities, labels, np.concatenate(weights)

    def _resolution(self) -> float:
        """The smallest difference from 1 that the probabilities' own type can hold."""
        types = {part[0].dtype for part in self._parts if np.issubdtype(part[0].dtype, np.floating)}
        return max((float(np.finfo(dtype).eps) for dtype in types), default=float(np.finfo(np.float64).eps))


def binary_metrics_at(
    threshold: float, probabilities: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None = None
) -> dict[str, float]:
    """What depends on the threshold: accuracy, f1, precision, recall, matthews-correlation and the four counts.

    All arrays (rows,). Precision, recall and F1 are 0 where nothing is predicted, or nothing is there to be found, and
    the correlation is 0 where it is undefined, as scikit-learn has it. Without rows everything is NaN but the counts.
    """
    weights = np.ones(len(labels)) if weights is None else weights
    (tn, fp), (fn, tp) = _confusion(probabilities > threshold, labels, weights).tolist()
    total = tn + fp + fn + tp
    nothing = float("nan") if total == 0 else 0.0
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return {
        "accuracy": (tp + tn) / total if total else nothing,
        "f1": 2 * tp / (2 * tp + fp + fn) if 2 * tp + fp + fn else nothing,
        "precision": tp / (tp + fp) if tp + fp else nothing,
        "recall": tp / (tp + fn) if tp + fn else nothing,
        # Matthews (1975): the correlation between two binary variables.
        "matthews-correlation": float((tp * tn - fp * fn) / np.sqrt(product)) if product > 0 else nothing,
        "true-positives": tp,
        "false-positives": fp,
        "true-negatives": tn,
        "false-negatives": fn,
    }


def roc_auc(probabilities: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None = None) -> float:
    """The area under the receiver operating characteristic; NaN unless there are rows of both classes."""
    return _Ranked(probabilities, labels, weights).roc_auc()


def average_precision(probabilities: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None = None) -> float:
    """The sum over thresholds of precision × gain in recall, not interpolated; NaN where there is no row of class 1."""
    return _Ranked(probabilities, labels, weights).average_precision()


class _Ranked:
    """Rows in falling order of probability: the sums of weights above each distinct probability, of either class."""

    def __init__(self, probabilities: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> None:
        weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
        self._unordered = bool(np.isnan(probabilities).any())
        order = np.argsort(-np.asarray(probabilities), kind="stable")
        ranked = np.asarray(probabilities)[order]
        # Rows of the same probability change sides together, so the curves have a point a distinct probability.
        last = np.flatnonzero(np.append(np.diff(ranked) != 0, True)) if len(ranked) else np.empty(0, int)
        positive = (labels > 0.5)[order]
        self._true: Vector = np.cumsum(np.where(positive, weights[order], 0.0))[last]
        self._false: Vector = np.cumsum(np.where(positive, 0.0, weights[order]))[last]

    def roc_auc(self) -> float:
        if self._unordered or not len(self._true) or self._true[-1] <= 0 or self._false[-1] <= 0:
            return float("nan")
        heights = self._true + np.concatenate([[0.0], self._true[:-1]])
        widths = np.diff(self._false, prepend=0.0)
        return float(np.dot(heights, widths) / (2 * self._true[-1] * self._false[-1]))

    def average_precision(self) -> float:
        if self._unordered or not len(self._true) or self._true[-1] <= 0:
            return float("nan")
        above = self._true + self._false
        precision = np.divide(self._true, above, out=np.zeros_like(above), where=above > 0)
        return float(np.dot(precision, np.diff(self._true, prepend=0.0)) / self._true[-1])


def _confusion(predicted: NDArray[np.bool_], labels: NDArray[Any], weights: NDArray[Any]) -> Vector:
    cells: Vector = np.bincount(2 * (labels > 0.5) + predicted, weights=weights, minlength=4).astype(np.float64)
    return cells.reshape(2, 2)


def _log_loss(probabilities: Vector, labels: Vector, weights: Vector, resolution: float) -> float:
    """The mean negative log-likelihood; probabilities are kept `resolution` away from 0 and 1, as scikit-learn does."""
    kept = np.clip(probabilities, resolution, 1 - resolution)
    return _mean(-np.where(labels > 0.5, np.log(kept), np.log1p(-kept)), weights)


def _mean(values: Vector, weights: Vector) -> float:
    total = weights.sum()
    return float(np.dot(values, weights) / total) if total > 0 else float("nan")


__all__: Sequence[str] = ("BinaryClassification", "average_precision", "binary_metrics_at", "roc_auc")
