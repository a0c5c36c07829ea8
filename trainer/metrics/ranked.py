"""Rows ranked by score: what curves, areas under them and thresholds are computed from, block by block."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError
from trainer.metrics.exact import ExactSum

Vector = NDArray[np.float64]
POINTS = 1 << 16
"""Distinct scores per block. Sums over them are added block by block, so they have the same bits wherever rows lie."""


class Part(NamedTuple):
    """Some rows."""

    scores: Vector
    positive: NDArray[np.bool_]
    """Which rows are of class 1."""
    weights: Vector | None


@dataclass(frozen=True, slots=True)
class Points:
    """Some distinct scores, descending, and the summed weights of the rows of class 1 and 0 at or above each."""

    probabilities: Vector
    true: Vector
    false: Vector

    def __len__(self) -> int:
        return len(self.probabilities)

    @property
    def precision(self) -> Vector:
        """The share of class 1 among the rows at or above each score; 0 if all of them have weight 0."""
        above = self.true + self.false
        if not len(above) or above[0] > 0:
            return self.true / above
        precision: Vector = np.divide(self.true, above, out=np.zeros_like(above), where=above > 0)
        return precision


class Ranking(ABC):
    """The rows of an evaluation in descending order of their scores, in memory or in a temporary file.

    `distinct` is the number of distinct scores; `positives` and `negatives` are the summed weights of the rows of
    class 1 and 0; `not_numbers` counts the rows whose score is NaN, which rank last.
    """

    distinct: int
    rows: int
    positives: float
    negatives: float
    not_numbers: int

    @abstractmethod
    def points(self) -> Iterator[Points]:
        """All distinct scores, descending, in blocks of POINTS; the last one may be shorter."""

    @abstractmethod
    def at(self, places: NDArray[np.int64]) -> Points:
        """The points with these numbers, which must ascend; point 0 has the highest score."""

    @abstractmethod
    def cells(self, threshold: float) -> NDArray[np.float64]:
        """[[true −, false +], [false −, true +]] if rows above the threshold are class 1: sums of weights."""

    @abstractmethod
    def mapped(self, function: Callable[[Vector], Vector]) -> Ranking:
        """The same rows with other scores, such as calibrated ones.

        `function` takes scores (n,) and returns as many; it never decreases and keeps NaN. Scores that it makes equal
        become one point. Its results are made to descend if rounding has changed the order of neighbours.
        """

    def metrics_at(self, threshold: float) -> dict[str, float]:
        """What `binary_metrics_at` gives for these rows, which must not have changed; fast if they have no weights."""
        return at_threshold(*self.cells(threshold).ravel().tolist())

    @property
    def has_both_classes(self) -> bool:
        """Whether the curves are defined: both classes have rows, and no score is NaN."""
        return not self.not_numbers and self.positives > 0 and self.negatives > 0

    def roc_auc(self) -> float:
        """See the function `roc_auc`."""
        if not self.has_both_classes:
            return float("nan")
        area = true = false = 0.0
        for points in self.points():
            heights, widths = points.true.copy(), points.false.copy()
            heights[1:] += points.true[:-1]
            heights[0] += true
            widths[1:] -= points.false[:-1]
            widths[0] -= false
            heights *= widths
            area += float(np.add.reduce(heights))
            true, false = float(points.true[-1]), float(points.false[-1])
        return float(area / (2 * self.positives * self.negatives))

    def average_precision(self) -> float:
        """See the function `average_precision`."""
        if self.not_numbers or not self.positives > 0:
            return float("nan")
        total = true = 0.0
        for points in self.points():
            gains = points.true.copy()
            gains[1:] -= points.true[:-1]
            gains[0] -= true
            gains *= points.precision
            total += float(np.add.reduce(gains))
            true = float(points.true[-1])
        return float(total / self.positives)


class Ranked(Ranking):
    """Rows ranked in memory.

    `probabilities` are the distinct ones, descending; `true` and `false` are the summed weights of the rows of class 1
    and 0 at or above each. All are (distinct,). Arrays and errors as in `binary_metrics_at`.
    """

    def __init__(self, probabilities: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None = None) -> None:
        scores, labels, weights = columns_of(probabilities, labels, weights)
        self._rank(Part(scores, labels > 0.5, weights))

    @classmethod
    def of_points(cls, probabilities: Vector, true: Vector, false: Vector) -> Ranked:
        """From distinct scores, descending, and the sums at each. Their rows had no weights, or `cells` is rounded."""
        ranked = cls.__new__(cls)
        ranked._part, ranked.not_numbers = None, 0  # noqa: SLF001  its own class
        ranked._keep(probabilities, true, false)  # noqa: SLF001
        return ranked

    def _keep(self, probabilities: Vector, true: Vector, false: Vector) -> None:
        self.probabilities, self.true, self.false = probabilities, true, false
        self.distinct = len(probabilities)
        self.positives, self.negatives = (float(sums[-1]) if len(sums) else 0.0 for sums in (true, false))

    def _rank(self, part: Part) -> None:
        scores, positive, weights = part
        self.rows = len(scores)
        # NaN is the least and the greatest of any numbers, and differs from itself.
        lowest = np.minimum.reduce(scores) if scores.size else 0.0
        self.not_numbers = int(np.isnan(scores).sum()) if lowest != lowest else 0  # noqa: PLR0124
        self._part: Part | None = None
        if weights is None and lowest >= 0:
            self._rank_packed(scores, positive)
            return
        self._part = part
        order = np.argsort(-scores, kind="stable")
        ranked, positive = scores[order], positive[order]
        # Rows of equal probability change sides together, so the curves have one point per distinct probability.
        last = ends(ranked)
        each = np.ones(len(order)) if weights is None else weights[order]
        true, false = (np.cumsum(np.where(chosen, each, 0.0))[last] for chosen in (positive, ~positive))
        self._keep(ranked[last] + 0.0, true, false)  # not -0

    def _rank_packed(self, scores: Vector, positive: NDArray[np.bool_]) -> None:
        """Ranks scores ≥ 0 without weights. It takes half as long: numbers are sorted, not their places."""
        packed = packed_of(scores, positive)
        packed.sort()
        of_class_1 = (packed & np.uint64(1)).view(np.int64)
        packed >>= np.uint64(1)
        # Where a probability begins, in descending order.
        begins = np.ones(len(packed), bool)
        np.not_equal(packed[1:], packed[:-1], out=begins[1:])
        first = begins.nonzero()[0][::-1]
        lower = np.add.accumulate(of_class_1)
        lower -= of_class_1
        true = (np.add.reduce(of_class_1) - lower[first]).astype(np.float64)
        self._keep(packed.view(np.float64)[first], true, (len(packed) - first) - true)

    def points(self) -> Iterator[Points]:
        """Slices of the arrays."""
        for start in range(0, self.distinct, POINTS):
            end = start + POINTS
            yield Points(self.probabilities[start:end], self.true[start:end], self.false[start:end])

    def mapped(self, function: Callable[[Vector], Vector]) -> Ranked:
        """From the distinct scores, without sorting."""
        scores = descending(function(self.probabilities), math.inf)
        last = ends(scores)
        found = Ranked.of_points(scores[last], self.true[last], self.false[last])
        found.rows, found.not_numbers = self.rows, self.not_numbers
        if self._part is not None:
            found._part = self._part._replace(scores=function(self._part.scores))  # noqa: SLF001  its own class
        return found

    def at(self, places: NDArray[np.int64]) -> Points:
        """Copies of the arrays' elements."""
        return Points(self.probabilities[places], self.true[places], self.false[places])

    def cells(self, threshold: float) -> NDArray[np.float64]:
        """From the rows if they have weights, otherwise from the counts."""
        if self._part is not None:
            return confusion([self._part], threshold)
        above = self.distinct - int(self.probabilities[::-1].searchsorted(threshold, "right"))
        return self._cells(self.true[above - 1], self.false[above - 1]) if above else self._cells(0.0, 0.0)

    def _cells(self, true: Any, false: Any) -> NDArray[np.float64]:
        return np.array([[self.negatives - false, false], [self.positives - true, true]])


def descending(scores: Vector, first: float) -> Vector:
    """Scores of which none is above the one before it, or `first`: a copy. NaN stays NaN."""
    found = np.fmin.accumulate(np.concatenate(([first], scores)))[1:]
    return np.where(np.isnan(scores), np.nan, found) + 0.0


def ends(scores: Vector) -> NDArray[np.intp]:
    """The places of the last one of each run of equal scores."""
    return np.append(scores[1:] != scores[:-1], True).nonzero()[0] if len(scores) else np.empty(0, np.intp)


def ranked_of(part: Part) -> Ranked:
    """Rows ranked in memory, from columns that are known to be right."""
    ranked = Ranked.__new__(Ranked)
    ranked._rank(part)  # noqa: SLF001  its own class
    return ranked


def packed_of(scores: Vector, positive: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Scores ≥ 0 and classes as integers of the same order: the class is the lowest bit."""
    # The bits of such numbers are in the order of the numbers, and the sign, always 0, makes room for the class.
    packed = (scores + 0.0).view(np.uint64)  # adding 0 turns -0 into 0
    packed <<= np.uint64(1)
    packed |= positive
    return packed


def confusion(parts: Iterable[Part], threshold: float) -> NDArray[np.float64]:
    """[[true −, false +], [false −, true +]] of rows in any order: the sums of weights are exact, and rounded once."""
    counts = np.zeros(4, np.int64)
    sums = [ExactSum() for _ in range(4)]
    weighted = False
    for scores, positive, weights in parts:
        predicted = scores > threshold
        if weights is None:
            both, above, true = (int(np.count_nonzero(part)) for part in (predicted & positive, predicted, positive))
            counts += (len(positive) - above - true + both, above - both, true - both, both)
            continue
        weighted = True
        cells = 2 * positive + predicted
        for number, cell in enumerate(sums):
            cell.add(weights[cells == number])
    if weighted:
        for cell, count in zip(sums, counts.tolist(), strict=True):
            cell.add(np.array([float(count)]))
    return np.array([cell.value for cell in sums] if weighted else counts, np.float64).reshape(2, 2)


def at_threshold(tn: float, fp: float, fn: float, tp: float) -> dict[str, float]:
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


def columns_of(
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
