"""Thresholds with a guarantee: a demand that holds on new rows, in all but a share of the draws of the rows at hand.

Learn then Test (Angelopoulos, Bates, Candès, Jordan and Lei, 2021): "the threshold breaks the demand" is tested for one
threshold after the other, in an order that does not depend on the rows of the tests, up to the first that cannot be
refuted at the level 1 - confidence. All thresholds before it meet the demand: a false one among them means that the
first false one was refuted, which happens with the probability of the level at most. So many tests cost nothing.

The thresholds are all numbers, in order of size. Tests change at the scores only, so testing every distinct score is
the same as testing every number; the scores of the tested rows may therefore choose the places of the tests. Where the
order begins depends on the demand:

- Recall: at 0, upwards. The more rows are class 1, the higher is the recall, so no start is better.
- False positive rate: at 1, downwards.
- Precision: at a threshold that other rows have chosen, downwards. Near 1, few rows are class 1, which can prove
  nothing, so that the order would end at once. The start is the threshold at which the other rows show most surely
  that the precision is above the demand. The number of rows that are class 1 is random: tests hold for any given one.
- Cost: only the threshold with the least cost on other rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trainer.decisions.bounds import hoeffding_bentkus, log_p_bound, p_at_least, p_at_most
from trainer.decisions.thresholds import BELOW_ALL, KEPT, bounds_of
from trainer.metrics.ranked import Ranking

Vector = NDArray[np.float64]
Kind = Literal["precision", "recall", "false-positive-rate", "cost"]
Weighted = tuple[Vector, NDArray[np.bool_], Vector]
"""Scores, which rows are class 1, and weights."""
TOGETHER = 1 << 16
"""Tests that are decided by a bound together, and below, exactly."""
EXACT = 256
DIGITS = 0xFFFFFFC000000000
"""The bits of a number that are kept of scores that are too many: its exponent and 14 digits."""


@dataclass(frozen=True)
class Demand:
    """What a threshold has to meet: at least `limit` for precision and recall, at most `limit` for the others."""

    kind: Kind
    limit: float
    confidence: float
    false_positive_cost: float = 1.0
    false_negative_cost: float = 1.0


@dataclass(frozen=True)
class Promised:
    """A threshold that meets a demand with the guarantee's confidence, and the interval [low, high) of equal ones.

    `value` is the demand's quantity at the threshold on the tested rows.
    """

    threshold: float
    low: float
    high: float
    value: float


def promised(rows: Ranking | Weighted, demand: Demand, start: float | None) -> Promised | None:
    """The best threshold that can be promised, or None.

    For precision and the false positive rate it is the lowest one, with the highest recall; for recall the highest one.
    `start` is the threshold that other rows have chosen, for precision and cost. `rows` are ranked rows without
    weights, or scores, classes and weights: then a row counts by Kish's effective number of rows, as in Korn and
    Graubard (1998), and the guarantee is no longer exact.
    """
    if demand.kind == "cost":
        return None if start is None else _cost(rows, demand, start)
    if demand.kind == "precision" and start is None:
        return None
    parts = _Parts.of(rows, demand.kind)
    if demand.kind == "precision":
        assert start is not None  # noqa: S101  checked above
        place = _lowest_of_precision(parts, demand, start)
    else:
        place = _highest_of_recall(parts, demand) if demand.kind == "recall" else _lowest_of_rate(parts, demand)
    if place is None:
        return None
    high, low = float(parts.bounds[place]), float(parts.bounds[place + 1])
    successes, trials = float(parts.successes[place]), float(parts.trials[place])
    if high == 0:
        return Promised(BELOW_ALL, BELOW_ALL, high, successes / trials)
    middle = (low + high) / 2
    return Promised(middle if middle < high else low, low, high, successes / trials if trials else 0.0)


@dataclass(frozen=True)
class _Parts:
    """What a demand's test counts in each partition of the rows, from the highest threshold down.

    Partition k holds for thresholds in [bound k + 1, bound k). Counted are, for precision, the true positives among the
    rows that are class 1; for recall, among the positive rows; for the false positive rate, the false positives among
    the negative rows.
    """

    bounds: Vector
    """(partitions + 1,)"""
    successes: Vector
    trials: Vector

    @classmethod
    def of(cls, rows: Ranking | Weighted, kind: Kind) -> _Parts:
        if isinstance(rows, Ranking):
            probabilities, true, false = _points(rows)
            effective = None
        else:
            probabilities, true, false, *effective = _weighted(*rows)
        bounds = bounds_of(probabilities)
        true, false = np.append(0.0, true), np.append(0.0, false)
        if kind == "precision":
            successes, trials = true, true + false
        else:
            successes = true if kind == "recall" else false
            trials = np.full(len(true), successes[-1])
        if effective is not None:
            squares = [np.append(0.0, each) for each in effective]
            square = squares[0] + squares[1]
            if kind != "precision":
                square = np.full(len(true), squares[0 if kind == "recall" else 1][-1])
            share = np.divide(successes, trials, out=np.zeros_like(trials), where=trials > 0)
            trials = np.divide(trials * trials, square, out=np.zeros_like(trials), where=square > 0)
            successes = share * trials
        return cls(bounds, successes, trials)


def _points(ranking: Ranking) -> tuple[Vector, Vector, Vector]:
    """The distinct scores with the sums at or above each. If they are too many, those at a fixed grid of thresholds."""
    parts = []
    for points in ranking.points():
        found = points.probabilities, points.true, points.false
        if ranking.distinct > KEPT:
            cells = _grid(points.probabilities)
            kept = np.append(cells[1:] != cells[:-1], True)
            found = found[0][kept], found[1][kept], found[2][kept]
        parts.append(found)
    probabilities, true, false = (np.concatenate(column) for column in zip(*parts, strict=True))
    return probabilities, true, false


def _grid(scores: Vector) -> Vector:
    """Scores rounded down to a grid that is fine near 0 and near 1, and does not depend on the rows."""
    below = (np.minimum(scores, 0.5).view(np.uint64) & np.uint64(DIGITS)).view(np.float64)
    rest = (np.minimum(1 - scores, 0.5).view(np.uint64) & np.uint64(DIGITS)).view(np.float64)
    return np.where(scores < 0.5, below, -rest)


def _weighted(scores: Vector, positive: NDArray[np.bool_], weights: Vector) -> tuple[Vector, ...]:
    """The distinct scores, and at each the sums of the weights and of their squares, of class 1 and 0."""
    order = np.argsort(-scores, kind="stable")
    ordered, positive, weights = scores[order], positive[order], weights[order]
    last = np.flatnonzero(np.append(np.diff(ordered) != 0, True))
    sums = (
        np.cumsum(np.where(chosen, values, 0.0))[last]
        for values in (weights, weights * weights)
        for chosen in (positive, ~positive)
    )
    return ordered[last] + 0.0, *sums


def _lowest_of_precision(parts: _Parts, demand: Demand, start: float) -> int | None:
    """The last partition before the first that fails, from the one of the start on."""
    successes, trials, level = parts.successes, parts.trials, 1 - demand.confidence
    # The start lies in [bound k + 1, bound k).
    first = place = max(int(np.searchsorted(-parts.bounds, -start, "left")) - 1, 0)
    while place < len(trials):
        some = slice(place, place + TOGETHER)
        unsure = np.flatnonzero(log_p_bound(successes[some], trials[some], demand.limit) > np.log(level)) + place
        for begin in range(0, len(unsure), EXACT):
            tested = unsure[begin : begin + EXACT]
            fails = p_at_least(successes[tested], trials[tested], demand.limit) > level
            if fails.any():
                end = int(tested[np.argmax(fails)])
                return end - 1 if end > first else None
        place += TOGETHER
    return len(trials) - 1


def _highest_of_recall(parts: _Parts, demand: Demand) -> int | None:
    """The first partition that passes: the more rows are class 1, the surer is the recall."""
    return _first(len(parts.trials), lambda place: _passes(parts, demand, place))


def _lowest_of_rate(parts: _Parts, demand: Demand) -> int | None:
    """The last partition that passes: the more rows are class 1, the higher is the false positive rate."""
    fails = _first(len(parts.trials), lambda place: not _passes(parts, demand, place))
    place = len(parts.trials) - 1 if fails is None else fails - 1
    return None if place < 0 else place


def _passes(parts: _Parts, demand: Demand, place: int) -> bool:
    test = p_at_least if demand.kind == "recall" else p_at_most
    return float(test(parts.successes[place], parts.trials[place], demand.limit)) <= 1 - demand.confidence


def _first(count: int, holds: Callable[[int], bool]) -> int | None:
    """The first number that holds, if all after it do; None if none does."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low if low < count else None


def _cost(rows: Ranking | Weighted, demand: Demand, start: float) -> Promised | None:
    """The start, if its expected cost is below the limit."""
    if isinstance(rows, Ranking):
        _, false, missed, _ = rows.cells(start).ravel().tolist()
        total = rows.positives + rows.negatives
        count = total
    else:
        scores, positive, weights = rows
        above = scores > start
        false, missed = float(weights[above & ~positive].sum()), float(weights[~above & positive].sum())
        total = float(weights.sum())
        count = total * total / float((weights * weights).sum())
    mean = (demand.false_positive_cost * false + demand.false_negative_cost * missed) / total
    most = max(demand.false_positive_cost, demand.false_negative_cost)
    p = float(hoeffding_bentkus(mean / most, count, demand.limit / most))
    return Promised(start, start, start, mean) if p <= 1 - demand.confidence else None
