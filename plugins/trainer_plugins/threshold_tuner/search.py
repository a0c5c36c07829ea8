"""The best threshold for an objective, over every way in which a threshold can split the rows.

A row is class 1 if its score is above the threshold, so only the order of the scores matters: n rows with d distinct
scores can be split in at most d + 1 ways. Sorting once and adding up the weights of each class gives all confusion
matrices, in O(n log n).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.metrics import Ranked

Vector = NDArray[np.float64]
_ZERO = np.zeros(1)
TIE = 1e-12
"""Objectives with a relative difference below this are equal: they differ by rounding only."""


BELOW_ALL = -1.0
"""The threshold below every probability."""


@dataclass(frozen=True)
class Counts:
    """The confusion matrices of all partitions, each (partitions,): sums of weights."""

    tp: Vector
    fp: Vector
    fn: Vector
    tn: Vector

    @property
    def precision(self) -> Vector:
        """Tp / (tp + fp); 0 if nothing is predicted."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> Vector:
        """Tp / (tp + fn)."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> Vector:
        """Tn / (tn + fp)."""
        return _ratio(self.tn, self.tn + self.fp)


def _ratio(above: Vector, below: Vector) -> Vector:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def fbeta(counts: Counts, beta: float) -> Vector:
    """The weighted harmonic mean of precision and recall (van Rijsbergen 1979): recall counts beta times as much."""
    square = beta * beta
    return _ratio((1 + square) * counts.tp, (1 + square) * counts.tp + square * counts.fn + counts.fp)


def matthews(counts: Counts) -> Vector:
    """The correlation of prediction and label (Matthews 1975); 0 if one of them is constant."""
    tp, fp, fn, tn = counts.tp, counts.fp, counts.fn, counts.tn
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return _ratio(tp * tn - fp * fn, np.sqrt(product))


OBJECTIVES: Mapping[str, Callable[[Counts, Mapping[str, float]], Vector]] = {
    "f1": lambda counts, _: fbeta(counts, 1.0),
    "fbeta": lambda counts, given: fbeta(counts, given["beta"]),
    "accuracy": lambda counts, _: (counts.tp + counts.tn) / (counts.tp + counts.tn + counts.fp + counts.fn),
    "balanced-accuracy": lambda counts, _: (counts.recall + counts.specificity) / 2,
    # Youden (1950): the height of the ROC curve above the diagonal.
    "youden": lambda counts, _: counts.recall + counts.specificity - 1,
    "mcc": lambda counts, _: matthews(counts),
    # Negative, so that higher is better; per unit of weight, so that splits can be compared.
    "cost": lambda counts, given: (
        -(given["false_positive_cost"] * counts.fp + given["false_negative_cost"] * counts.fn)
        / (counts.tp + counts.tn + counts.fp + counts.fn)
    ),
    "recall-at-precision": lambda counts, given: np.where(
        counts.precision >= given["min_precision"] - TIE, counts.recall, -np.inf
    ),
    "precision-at-recall": lambda counts, given: np.where(
        counts.recall >= given["min_recall"] - TIE, counts.precision, -np.inf
    ),
}
"""What is maximised over the thresholds; -inf if a requirement is not met."""


@dataclass(frozen=True)
class Choice:
    """The middle of the best interval of thresholds, the interval [low, high), and the objective there."""

    threshold: float
    low: float
    high: float
    value: float


class Partitions:
    """Every way in which a threshold, nearly always in [0, 1], splits the rows."""

    def __init__(
        self,
        scores: NDArray[Any],
        labels: NDArray[Any],
        weights: NDArray[Any] | None = None,
        ranked: Ranked | None = None,
    ) -> None:
        """`ranked` are the same rows, if they are ranked already."""
        self._scores, self._labels = scores, labels
        ranked = ranked or Ranked(scores, labels, weights)
        # Partition k has the k lowest distinct scores below: it holds for thresholds in [low[k], high[k]).
        distinct = ranked.probabilities[::-1]
        tp, fp = (np.concatenate((above[::-1], _ZERO)) for above in (ranked.true, ranked.false))
        self._counts = Counts(tp=tp, fp=fp, fn=tp[0] - tp, tn=fp[0] - fp)
        self._order: NDArray[np.int64] | None = None
        # No threshold ≥ 0 has a score of 0 above it; the next number below 0 does.
        lowest = 0.0 if distinct[0] > 0 else np.nextafter(distinct[0], -np.inf)
        bounds = np.concatenate(((lowest,), distinct, (max(1.0, distinct[-1]),)))
        self.low, self.high = bounds[:-1], bounds[1:]

    def counts(self, weights: NDArray[Any] | None = None) -> Counts:
        """The confusion matrices; `weights`, in the order of the rows, replace the rows' own for resampling."""
        if weights is None:
            return self._counts
        if self._order is None:
            scores = np.asarray(self._scores, np.float64).ravel()
            self._order = np.argsort(scores, kind="stable")
            ordered = scores[self._order]
            self._positive = np.asarray(self._labels).ravel()[self._order] > 0.5
            self._below = np.concatenate([[0], np.flatnonzero(np.append(np.diff(ordered) != 0, True)) + 1])
        ranked = weights[self._order]
        positive = np.concatenate([[0.0], np.cumsum(np.where(self._positive, ranked, 0.0))])
        negative = np.concatenate([[0.0], np.cumsum(np.where(self._positive, 0.0, ranked))])
        fn, tn = positive[self._below], negative[self._below]
        return Counts(tp=positive[-1] - fn, fp=negative[-1] - tn, fn=fn, tn=tn)

    def best(self, objective: str, given: Mapping[str, float], weights: NDArray[Any] | None = None) -> Choice | None:
        """The best threshold, or None if no threshold meets the requirement.

        Neighbouring partitions that are equally good form one interval. Of several best intervals the widest is taken,
        since its middle is farthest from any change of a decision; of equally wide ones, the lowest.
        """
        values = OBJECTIVES[objective](self.counts(weights), given)
        top = float(values.max())
        if not math.isfinite(top):
            return None
        best = (values >= top - TIE * max(1.0, abs(top))).nonzero()[0]
        gaps = (best[1:] - best[:-1] > 1).nonzero()[0]
        starts, ends = np.concatenate((best[:1], best[gaps + 1])), np.concatenate((best[gaps], best[-1:]))
        widest = int(np.argmax(self.high[ends] - self.low[starts]))
        low, high = float(self.low[starts[widest]]), float(self.high[ends[widest]])
        if high == 0:
            # A score of 0 is lowest, and all rows are class 1: any number below 0 says so, this one in any precision.
            return Choice(BELOW_ALL, BELOW_ALL, high, top)
        middle = (low + high) / 2
        return Choice(middle if middle < high else low, low, high, top)
