"""Metrics of binary classification."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError
from trainer.metrics.base import Direction, Metric

Vector = NDArray[np.float64]
_Part = tuple[Vector, NDArray[np.bool_], Vector | None]
"""Probabilities, which rows are of class 1, and weights."""
EPSILON = float(np.finfo(np.float64).eps)


class BinaryClassification(Metric):
    """The usual metrics for probabilities of class 1 and labels 0 and 1.

    At `threshold`: `accuracy`, `f1`, `precision`, `recall`, `matthews-correlation` and the four counts of the confusion
    matrix. Independent of it: `roc-auc`, `average-precision`, `log-loss` and `brier-score`. A row is class 1 if its
    probability is above the threshold, compared in float64; at exactly the threshold, or if it is NaN, the row is class
    0. With weights, the counts are sums of weights. `threshold` may be changed between `reset` and `compute`.

    The Brier score is the mean squared difference of probability and label (Brier, 1950); the log loss is the mean
    negative log-likelihood. These two, `roc-auc` and `average-precision` are NaN if any probability is NaN.
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
        self._parts: list[_Part] = []
        self._ranked: Ranked | None = None
        self._resolution = EPSILON

    def update(self, predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> None:
        """Adds a batch of n rows: probabilities, labels and weights with n elements each, in any shape.

        Raises UsageError unless there is one of each per row (a net with two output neurons gives two), and for labels
        other than 0 and 1.
        """
        given = np.asarray(predictions), np.asarray(labels), None if weights is None else np.asarray(weights)
        probabilities, labels, weights = _columns(*_counting(*given))
        positive = labels == 1
        if np.count_nonzero(positive) + np.count_nonzero(labels == 0) != labels.size:
            strange = labels[~positive & (labels != 0)]
            raise UsageError(f"a label is {strange[0]:g}", where="binary metrics", fix="Use 0 and 1.")
        # Copies: the caller may write its next batch into the same arrays.
        if np.may_share_memory(probabilities, given[0]):
            probabilities = probabilities.copy()
        if weights is not None and given[2] is not None and np.may_share_memory(weights, given[2]):
            weights = weights.copy()
        self._parts.append((probabilities, positive, weights))
        self._ranked = None
        dtype = given[0].dtype
        if dtype.kind == "f":
            self._resolution = max(self._resolution, float(np.finfo(dtype).eps))

    def compute(self) -> dict[str, float]:
        probabilities, positive, weights = self._joined()
        ranked = self._sorted()
        off = probabilities - positive
        return {
            **ranked.metrics_at(self.threshold),
            "roc-auc": ranked.roc_auc(),
            "average-precision": ranked.average_precision(),
            "log-loss": _log_loss(probabilities, positive, weights, self._resolution),
            "brier-score": _mean(off * off, weights),
        }

    def ranked(self, probabilities: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> Ranked:
        """`Ranked` for these rows. They are not sorted again if they are the ones that `compute` has seen."""
        probabilities, labels, weights = _columns(probabilities, labels, weights)
        given: Any = (probabilities, labels > 0.5, weights)
        seen: Any = self._joined()
        return self._sorted() if all(map(np.array_equal, seen, given)) else Ranked._of(*given)  # noqa: SLF001

    def _sorted(self) -> Ranked:
        if self._ranked is None:
            self._ranked = Ranked._of(*self._joined())  # noqa: SLF001
        return self._ranked

    @property
    def confusion(self) -> Vector:
        """[[true −, false +], [false −, true +]]: rows are the actual class, columns the predicted class."""
        probabilities, positive, weights = self._joined()
        return _confusion(probabilities > self.threshold, positive, weights)

    def state(self) -> dict[str, NDArray[Any]]:
        """The rows so far, as three float64 arrays (rows,), and `resolution` (1,), their type's machine epsilon."""
        probabilities, positive, weights = self._joined()
        return {
            "probabilities": probabilities,
            "labels": positive.astype(np.float64),
            "weights": np.ones(positive.size) if weights is None else weights,
            "resolution": np.array([self._resolution]),
        }

    def add_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        probabilities, labels, weights = _columns(state["probabilities"], state["labels"], state["weights"])
        self._parts.append((probabilities, labels > 0.5, weights))
        self._ranked = None
        self._resolution = max(self._resolution, float(state["resolution"][0]))

    def _joined(self) -> _Part:
        """All rows. They replace the parts, so the next call need not join them again."""
        if not self._parts:
            return np.empty(0), np.empty(0, bool), None
        if len(self._parts) > 1:
            probabilities, positive = (np.concatenate([part[column] for part in self._parts]) for column in (0, 1))
            weights = None
            if any(part[2] is not None for part in self._parts):
                weights = np.concatenate([np.ones(len(p)) if w is None else w for p, _, w in self._parts])
            self._parts = [(probabilities, positive, weights)]
        return self._parts[0]


def binary_metrics_at(
    threshold: float, probabilities: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None = None
) -> dict[str, float]:
    """The metrics that depend on the threshold: accuracy, f1, precision, recall, matthews-correlation, the four counts.

    Probabilities, labels (0 and 1) and weights have one element per row, in any shape; raises UsageError otherwise.
    As in scikit-learn, precision, recall, F1 and the correlation are 0 if their denominator is 0. Without rows,
    everything but the counts is NaN.
    """
    probabilities, labels, weights = _columns(probabilities, labels, weights)
    return _at_a_threshold(*_confusion(probabilities > threshold, labels > 0.5, weights).ravel().tolist())


def _at_a_threshold(tn: float, fp: float, fn: float, tp: float) -> dict[str, float]:
    """The metrics of `binary_metrics_at` from the four counts."""
    total = tn + fp + fn + tp
    nothing = float("nan") if total == 0 else 0.0
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return {
        "accuracy": (tp + tn) / total if total else nothing,
        "f1": 2 * tp / (2 * tp + fp + fn) if 2 * tp + fp + fn else nothing,
        "precision": tp / (tp + fp) if tp + fp else nothing,
        "recall": tp / (tp + fn) if tp + fn else nothing,
        # Matthews (1975): the correlation between two binary variables.
        "matthews-correlation": (tp * tn - fp * fn) / math.sqrt(product) if product > 0 else nothing,
        "true-positives": tp,
        "false-positives": fp,
        "true-negatives": tn,
        "false-negatives": fn,
    }


def roc_auc(probabilities: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None = None) -> float:
    """The area under the receiver operating characteristic; NaN unless both classes have rows.

    Computed by the trapezoidal rule over the distinct scores, so a tie between the classes counts one half (Hanley and
    McNeil, 1982). Scores need not be probabilities. Arrays and errors as in `binary_metrics_at`; NaN if a score is NaN.
    """
    return Ranked(probabilities, labels, weights).roc_auc()


def average_precision(probabilities: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None = None) -> float:
    """The sum over thresholds of precision × gain in recall, not interpolated; NaN if no row is of class 1.

    As scikit-learn defines it. Scores need not be probabilities. Arrays and errors as in `binary_metrics_at`; NaN if a
    score is NaN.
    """
    return Ranked(probabilities, labels, weights).average_precision()


class Ranked:
    """Cumulative class weights over the rows in descending order of probability.

    `probabilities` are the distinct ones, descending; `true` and `false` are the summed weights of the rows of class 1
    and 0 at or above each. All are (distinct,). Arrays and errors as in `binary_metrics_at`.
    """

    def __init__(self, probabilities: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None = None) -> None:
        scores, labels, weights = _columns(probabilities, labels, weights)
        self._rank(scores, labels > 0.5, weights)

    @classmethod
    def _of(cls, scores: Vector, positive: NDArray[np.bool_], weights: Vector | None) -> Ranked:
        """From columns that are known to be right."""
        ranked = cls.__new__(cls)
        ranked._rank(scores, positive, weights)  # noqa: SLF001  its own class
        return ranked

    def _rank(self, scores: Vector, positive: NDArray[np.bool_], weights: Vector | None) -> None:
        # NaN is the least and the greatest of any numbers, and differs from itself.
        lowest = np.minimum.reduce(scores) if scores.size else 0.0
        self._unordered = bool(lowest != lowest)  # noqa: PLR0124
        self.probabilities: Vector
        self.true: Vector
        self.false: Vector
        self._rows: _Part | None = None
        if weights is None and lowest >= 0:
            self._rank_packed(scores, positive)
            return
        self._rows = scores, positive, weights
        order = np.argsort(-scores, kind="stable")
        ranked, positive = scores[order], positive[order]
        # Rows of equal probability change sides together, so the curves have one point per distinct probability.
        last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.empty(0, int)
        each = np.ones(len(order)) if weights is None else weights[order]
        self.probabilities = ranked[last]
        self.true = np.cumsum(np.where(positive, each, 0.0))[last]
        self.false = np.cumsum(np.where(positive, 0.0, each))[last]

    def _rank_packed(self, scores: Vector, positive: NDArray[np.bool_]) -> None:
        """Ranks scores ≥ 0 without weights. It takes half as long: numbers are sorted, not their places."""
        # The bits of such numbers are in the order of the numbers, and the sign, always 0, makes room for the label.
        packed = (scores + 0.0).view(np.uint64)  # adding 0 turns -0 into 0
        packed <<= np.uint64(1)
        packed |= positive
        packed.sort()
        of_class_1 = (packed & np.uint64(1)).view(np.int64)
        packed >>= np.uint64(1)
        # Where a probability begins, in descending order.
        begins = np.ones(len(packed), bool)
        np.not_equal(packed[1:], packed[:-1], out=begins[1:])
        first = begins.nonzero()[0][::-1]
        self.probabilities = packed.view(np.float64)[first]
        lower = np.add.accumulate(of_class_1)
        lower -= of_class_1
        self.true = (np.add.reduce(of_class_1) - lower[first]).astype(np.float64)
        self.false = (len(packed) - first) - self.true

    def metrics_at(self, threshold: float) -> dict[str, float]:
        """What `binary_metrics_at` gives for these rows, which must not have changed; fast if they have no weights."""
        if self._rows is not None:
            scores, positive, weights = self._rows
            return _at_a_threshold(*_confusion(scores > threshold, positive, weights).ravel().tolist())
        above = len(self.probabilities) - int(self.probabilities[::-1].searchsorted(threshold, "right"))
        tp, fp = (float(self.true[above - 1]), float(self.false[above - 1])) if above else (0.0, 0.0)
        true, false = (float(self.true[-1]), float(self.false[-1])) if len(self.true) else (0.0, 0.0)
        return _at_a_threshold(false - fp, fp, true - tp, tp)

    @property
    def has_both_classes(self) -> bool:
        """Whether the curves are defined: both classes have rows, and no probability is NaN."""
        return bool(not self._unordered and len(self.true) and self.true[-1] > 0 and self.false[-1] > 0)

    @property
    def precision(self) -> Vector:
        """The share of class 1 among the rows at or above each probability, (distinct,)."""
        above = self.true + self.false
        if self._rows is None:
            return self.true / above
        precision: Vector = np.divide(self.true, above, out=np.zeros_like(above), where=above > 0)
        return precision

    def roc_auc(self) -> float:
        """See the function `roc_auc`."""
        if not self.has_both_classes:
            return float("nan")
        heights = self.true.copy()
        heights[1:] += self.true[:-1]
        return float(np.dot(heights, _steps(self.false)) / (2 * self.true[-1] * self.false[-1]))

    def average_precision(self) -> float:
        """See the function `average_precision`."""
        if self._unordered or not len(self.true) or self.true[-1] <= 0:
            return float("nan")
        return float(np.dot(self.precision, _steps(self.true)) / self.true[-1])


def _steps(values: Vector) -> Vector:
    """By how much each value is above the one before it, the first above 0."""
    steps = values.copy()
    steps[1:] -= values[:-1]
    return steps


def _counting(
    predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
    """The rows without those of weight 0 whose predictions are not finite: 0 times NaN would be NaN.

    Arrays with other numbers of rows are returned unchanged.
    """
    if weights is None or weights.size != len(predictions):
        return predictions, labels, weights
    ignored = weights.reshape(-1) == 0
    if ignored.any():
        ignored &= ~np.isfinite(predictions.reshape(len(predictions), -1)).all(axis=1)
    if not ignored.any() or len(labels) != len(predictions):
        return predictions, labels, weights
    kept = ~ignored
    return predictions[kept], labels[kept], weights.reshape(-1)[kept]


def _columns(
    probabilities: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None
) -> tuple[Vector, NDArray[Any], Vector | None]:
    """One element per row; probabilities and weights in float64. Copies only arrays of another type."""
    probabilities, labels = np.asarray(probabilities, np.float64).ravel(), np.asarray(labels).ravel()
    if probabilities.size != labels.size:
        raise UsageError(
            f"{probabilities.size} predictions for {labels.size} rows",
            where="binary metrics",
            fix="The net needs one output neuron, and predictions() has to return one probability per row.",
        )
    if weights is None:
        return probabilities, labels, None
    weights = np.asarray(weights, np.float64).ravel()
    if weights.size != labels.size:
        raise UsageError(f"{weights.size} weights for {labels.size} rows", where="binary metrics")
    return probabilities, labels, weights


def _confusion(predicted: NDArray[np.bool_], positive: NDArray[np.bool_], weights: Vector | None) -> Vector:
    if weights is None:
        both, above, true = (int(np.count_nonzero(part)) for part in (predicted & positive, predicted, positive))
        rows = len(positive)
        return np.array([[rows - above - true + both, above - both], [true - both, both]], np.float64)
    cells: Vector = np.bincount(2 * positive + predicted, weights=weights, minlength=4).astype(np.float64)
    return cells.reshape(2, 2)


def _log_loss(probabilities: Vector, positive: NDArray[np.bool_], weights: Vector | None, resolution: float) -> float:
    """The mean negative log-likelihood; as in scikit-learn, probabilities are clipped `resolution` from 0 and 1."""
    kept = np.minimum(np.maximum(probabilities, resolution), 1 - resolution)
    logs = np.negative(kept)
    # Each logarithm only of the rows that need it.
    np.log1p(logs, out=logs, where=~positive)
    np.log(kept, out=logs, where=positive)
    return -_mean(logs, weights)


def _mean(values: Vector, weights: Vector | None) -> float:
    if weights is None:
        return float(np.add.reduce(values) / len(values)) if len(values) else float("nan")
    total = weights.sum()
    return float(np.dot(values, weights) / total) if total > 0 else float("nan")
