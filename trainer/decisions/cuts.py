"""The candidates for cut-offs of ranked rows, and the best pair of them around rows that go to a person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.decisions.thresholds import BELOW_ALL, TIE
from trainer.metrics.ranked import Ranking

Vector = NDArray[np.float64]
MOST = 1 << 20
"""More distinct scores are thinned out to so many candidates; the sums at each are exact."""


@dataclass(frozen=True)
class Cuts:
    """Cut-offs from the highest down, all (cuts,), with the weights of the rows above each."""

    thresholds: Vector
    tp: Vector
    fp: Vector
    true: float
    """The weight of all rows of class 1."""
    false: float

    @classmethod
    def of(cls, ranking: Ranking, most: int = MOST) -> Cuts:
        """Between every two neighbouring scores, above all of them and below all of them."""
        count = ranking.distinct
        places = np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
        points = ranking.at(places)
        following = ranking.at(np.minimum(places + 1, count - 1)).probabilities
        scores = points.probabilities
        middles = (scores + following) / 2
        middles = np.where(middles < scores, middles, following)
        middles[-1] = scores[-1] / 2 if scores[-1] > 0 else BELOW_ALL
        top = (scores[0] + max(scores[0], 1.0)) / 2
        return cls(
            np.concatenate(([top], middles)),
            np.concatenate(([0.0], points.true)),
            np.concatenate(([0.0], points.false)),
            ranking.positives,
            ranking.negatives,
        )

    @property
    def above(self) -> Vector:
        """The weight of the rows above each cut-off."""
        return self.tp + self.fp

    @property
    def below(self) -> Vector:
        """The weight of the other rows."""
        return self.true + self.false - self.above

    @property
    def fn(self) -> Vector:
        """The weight of the rows of class 1 that are not above."""
        return self.true - self.tp


def band_by_cost(cuts: Cuts, person: float, false_positive: float, false_negative: float) -> tuple[float, float]:
    """The two cut-offs with the least cost if rows between them go to a person, at the cost `person` each.

    Costs above the higher cut-off and below the lower one add up, so one pass finds the best pair of all. Of pairs that
    cost the same, one with fewer rows in between.
    """
    upper = false_positive * cuts.fp - person * cuts.above
    lower = false_negative * cuts.fn - person * cuts.below
    totals = np.minimum.accumulate(upper) + lower
    slack = TIE * (cuts.true + cuts.false) * max(person, false_positive, false_negative)
    low = int(np.flatnonzero(totals <= totals.min() + slack)[0])
    best = upper[: low + 1]
    high = int(np.flatnonzero(best <= best.min() + slack)[-1])
    return float(cuts.thresholds[low]), float(cuts.thresholds[high])


def band_by_accuracy(cuts: Cuts, accuracy: float) -> tuple[float, float]:
    """The two cut-offs with the fewest rows between them, outside of which at least that share is right.

    `accuracy` is at least 0.5. If a single cut-off reaches it, the two are the same, the most accurate one.
    """
    right = cuts.tp + cuts.false - cuts.fp
    best = int(np.argmax(right))
    total = cuts.true + cuts.false
    if right[best] >= accuracy * total * (1 - TIE):
        return float(cuts.thresholds[best]), float(cuts.thresholds[best])
    # Errors beyond what the accuracy allows, above and below: their sum has to be 0 or less. Pairs that overlap cannot
    # be among the best: one of their two cut-offs alone would reach the accuracy.
    upper = cuts.fp - (1 - accuracy) * cuts.above
    lower = cuts.fn - (1 - accuracy) * cuts.below
    order = np.lexsort((-cuts.below, lower))
    reached = np.maximum.accumulate(cuts.below[order])
    places = np.searchsorted(lower[order], TIE * total - upper, side="right") - 1
    decided = np.where(places >= 0, cuts.above + reached[np.maximum(places, 0)], -np.inf)
    high = int(np.argmax(decided))
    low = order[int(np.argmax(reached >= reached[places[high]]))]
    return float(cuts.thresholds[low]), float(cuts.thresholds[high])


def rate_of(cuts: Cuts, constraint: str) -> Vector:
    """What is to be equal between groups, at each cut-off: never falls."""
    if constraint == "equal-opportunity":
        return cuts.tp / cuts.true if cuts.true > 0 else np.full(len(cuts.tp), np.nan)
    total = cuts.true + cuts.false
    return cuts.above / total if total > 0 else np.full(len(cuts.tp), np.nan)


def fair_thresholds(
    groups: list[Cuts], constraint: str, gap: float, false_positive: float, false_negative: float
) -> list[float]:
    """A cut-off for each group, so that their rates differ by at most `gap`, at the least cost of all such choices.

    For every rate that the lowest group may have, each group's best cut-off within the gap above it follows from a
    table of maxima, so all combinations count, in O(n log n). Each group needs rows; for `equal-opportunity`, rows of
    class 1.
    """
    rates = [rate_of(cuts, constraint) for cuts in groups]
    gains = [-(false_positive * cuts.fp + false_negative * cuts.fn) for cuts in groups]
    starts = np.unique(np.concatenate(rates))
    total = np.zeros(len(starts))
    for rate, gain in zip(rates, gains, strict=True):
        first = np.searchsorted(rate, starts - TIE, side="left")
        last = np.searchsorted(rate, starts + gap + TIE, side="right") - 1
        total += _range_maxima(gain, first, last)
    start = starts[int(np.argmax(total))]
    found = []
    for cuts, rate, gain in zip(groups, rates, gains, strict=True):
        inside = (rate >= start - TIE) & (rate <= start + gap + TIE)
        place = int(np.argmax(np.where(inside, gain, -np.inf)))
        found.append(float(cuts.thresholds[place]))
    return found


def _range_maxima(values: Vector, first: NDArray[Any], last: NDArray[Any]) -> Vector:
    """The largest of `values[first : last + 1]` for each pair; -inf if the range is empty."""
    tables, width = [values], 1
    while 2 * width <= len(values):
        before = tables[-1]
        tables.append(np.maximum(before[:-width], before[width:]))
        width *= 2
    found = np.full(len(first), -np.inf)
    lengths = last - first + 1
    for level, table in enumerate(tables):
        size = 1 << level
        chosen = (lengths >= size) & (lengths < 2 * size)
        found[chosen] = np.maximum(table[first[chosen]], table[last[chosen] - size + 1])
    return found
