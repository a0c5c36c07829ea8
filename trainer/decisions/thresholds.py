"""The best threshold for an objective, over every way in which a threshold can split the rows.

A row is class 1 if its score is above the threshold, so only the order of the scores matters: n rows with d distinct
scores can be split in at most d + 1 ways. Sorting once and adding up the weights of each class gives all confusion
matrices, in O(n log n).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.decisions.bounds import log_p_bound
from trainer.metrics.ranked import Ranking

Vector = NDArray[np.float64]
KEPT = 1 << 22
"""With more distinct scores, the objective is computed twice instead of keeping its values."""
TIE = 1e-12
"""Objectives with a relative difference below this are equal: they differ by rounding only."""


TOGETHER = 1 << 18
"""Elements of resamples that are ranked together."""

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


Objective = Callable[[Counts, Mapping[str, float]], Vector]


def _positive(values: Vector) -> Vector:
    return np.where(values > 0, values, -np.inf)


OBJECTIVES: Mapping[str, Objective] = {
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
    "recall-at-fpr": lambda counts, given: np.where(
        1 - counts.specificity <= given["max_fpr"] + TIE, counts.recall, -np.inf
    ),
    # How surely the rows show that the precision is above the demand: what a test on other rows will most likely show.
    "evidence-of-precision": lambda counts, given: _positive(
        -log_p_bound(counts.tp, counts.tp + counts.fp, given["min_precision"])
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
    """Every way in which a threshold, nearly always in [0, 1], splits ranked rows, from the highest threshold down.

    Partition 0 has no row above the threshold, partition k the rows at or above distinct score k - 1: it holds for
    thresholds in [bound k + 1, bound k).
    """

    def __init__(self, ranking: Ranking) -> None:
        self._ranking = ranking

    def best(
        self, objective: str | Callable[[Counts, Mapping[str, float]], Vector], given: Mapping[str, float]
    ) -> Choice | None:
        """The best threshold, or None if no threshold meets the requirement.

        `objective` is a name in OBJECTIVES, or such a function.

        Neighbouring partitions that are equally good form one interval. Of several best intervals the widest is taken,
        since its middle is farthest from any change of a decision; of equally wide ones, the lowest.

        Two passes over the blocks of the ranking: one for the best value, one for the intervals that have it.
        """
        judge = OBJECTIVES[objective] if isinstance(objective, str) else objective
        blocks: Iterable[tuple[Vector, Vector]] = (
            (bounds, judge(counts, given)) for bounds, counts in self._partitions()
        )
        if self._ranking.distinct <= KEPT:
            blocks = list(blocks)
            top = max(float(values.max()) for _, values in blocks)
        else:
            top = max(float(judge(counts, given).max()) for _, counts in self._partitions())
        if not math.isfinite(top):
            return None
        widest = _Widest(top - TIE * max(1.0, abs(top)))
        for bounds, values in blocks:
            widest.add(bounds, values)
        widest.end(self._lowest)
        low, high = widest.low, widest.high
        if high == 0:
            # A score of 0 is lowest, and all rows are class 1: any number below 0 says so, this one in any precision.
            return Choice(BELOW_ALL, BELOW_ALL, high, top)
        middle = (low + high) / 2
        return Choice(middle if middle < high else low, low, high, top)

    def _partitions(self) -> Iterator[tuple[Vector, Counts]]:
        """The partitions by block, with the upper bound of each one's thresholds."""
        ranking = self._ranking
        true, false = ranking.positives, ranking.negatives
        for number, points in enumerate(ranking.points()):
            bounds, tp, fp = points.probabilities, points.true, points.false
            if not number:
                first = max(1.0, float(bounds[0]))
                bounds, tp, fp = (
                    np.concatenate(((start,), part)) for start, part in ((first, bounds), (0, tp), (0, fp))
                )
            last = float(points.probabilities[-1])
            yield bounds, Counts(tp=tp, fp=fp, fn=true - tp, tn=false - fp)
        # No threshold ≥ 0 has a score of 0 above it; the next number below 0 does.
        self._lowest = 0.0 if last > 0 else float(np.nextafter(last, -np.inf))


class _Widest:
    """The widest interval of thresholds whose partitions reach a value; of equally wide ones, the lowest."""

    def __init__(self, least: float) -> None:
        self._least = least
        self._open: float | None = None
        """The upper bound of an interval that may continue in the next block."""
        self.low, self.high = math.inf, -math.inf

    def add(self, bounds: Vector, values: Vector) -> None:
        """The next partitions, downwards."""
        good = values >= self._least
        if self._open is not None and not good[0]:
            self.end(float(bounds[0]))
        changes = (good[1:] != good[:-1]).nonzero()[0] + 1
        # Where intervals begin and where they end, alternating.
        if good[0] and self._open is None:
            changes = np.concatenate(([0], changes))
        if self._open is not None and good[0]:
            if not len(changes):
                return
            self.end(float(bounds[changes[0]]))
            changes = changes[1:]
        starts, ends = changes[::2], changes[1::2]
        if len(starts) > len(ends):
            self._open = float(bounds[starts[-1]])
            starts = starts[:-1]
        if len(ends):
            widths = bounds[starts] - bounds[ends]
            place = len(widths) - 1 - int(np.argmax(widths[::-1]))
            self._offer(float(bounds[ends[place]]), float(bounds[starts[place]]))

    def end(self, low: float) -> None:
        """The open interval, if there is one, ends at this bound."""
        if self._open is not None:
            self._offer(low, self._open)
            self._open = None

    def _offer(self, low: float, high: float) -> None:
        if high - low >= self.high - self.low:
            self.low, self.high = low, high


def bounds_of(scores: Vector) -> Vector:
    """The bounds of the partitions of rows with these distinct scores, which descend: (scores + 2,)."""
    last = float(scores[-1]) if len(scores) else 1.0
    lowest = 0.0 if last > 0 else float(np.nextafter(last, -np.inf))
    return np.concatenate(([max([1.0, *scores[:1]])], scores, [lowest]))


class Resamples:
    """Rows in memory that are ranked anew with other weights, without sorting them again."""

    def __init__(self, scores: NDArray[Any], labels: NDArray[Any]) -> None:
        scores = np.asarray(scores, np.float64).ravel()
        self._order = np.argsort(-scores, kind="stable")
        ordered = scores[self._order]
        self._positive = np.asarray(labels).ravel()[self._order] > 0.5
        self._last = np.flatnonzero(np.append(np.diff(ordered) != 0, True))
        self._bounds = bounds_of(ordered[self._last])

    def thresholds(self, weights: Vector, objective: str, given: Mapping[str, float]) -> Vector:
        """The best threshold for each set of weights, (sets,): NaN if no threshold meets the requirement.

        `weights` (sets, rows) are in the original order of the rows. The choice is that of `Partitions`, for all sets
        at once.
        """
        size = max(TOGETHER // max(len(self._order), 1), 1)
        parts = [self._thresholds(weights[at : at + size], objective, given) for at in range(0, len(weights), size)]
        return np.concatenate(parts)

    def _thresholds(self, weights: Vector, objective: str, given: Mapping[str, float]) -> Vector:
        own = weights[:, self._order]
        sums = np.zeros((2, len(own), len(self._last) + 1))
        for chosen, found in zip((self._positive, ~self._positive), sums, strict=True):
            found[:, 1:] = np.cumsum(own * chosen, axis=1)[:, self._last]
        return best_thresholds(self._bounds, sums[0], sums[1], objective, given)


def best_thresholds(bounds: Vector, tp: Vector, fp: Vector, objective: str, given: Mapping[str, float]) -> Vector:
    """The choice of `Partitions` for several sets of rows with the same scores, (sets,): NaN if there is none.

    `tp` and `fp` (sets, partitions) are sums of weights; partition k holds for thresholds in [bound k + 1, bound k).
    """
    values = OBJECTIVES[objective](Counts(tp=tp, fp=fp, fn=tp[:, -1:] - tp, tn=fp[:, -1:] - fp), given)
    top = values.max(axis=1)
    met = np.isfinite(top)
    least = np.where(met, top - TIE * np.maximum(1.0, np.abs(np.where(met, top, 0.0))), -np.inf)
    good = (values >= least[:, None]) | ~met[:, None]
    changes = np.diff(good.astype(np.int8), axis=1, prepend=0, append=0)
    sets, begins = np.nonzero(changes == 1)
    _, ends = np.nonzero(changes == -1)
    low, high = bounds[ends], bounds[begins]
    first = np.flatnonzero(np.append(True, sets[1:] != sets[:-1]))
    widest = np.maximum.reduceat(high - low, first)[sets] == high - low
    low, high = (each[widest][np.append(sets[widest][1:] != sets[widest][:-1], True)] for each in (low, high))
    middle = (low + high) / 2
    found = np.where(high == 0, BELOW_ALL, np.where(middle < high, middle, low))
    return np.where(met, found, np.nan)
