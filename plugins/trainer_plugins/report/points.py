"""What all curves are made of: few points, bins, and numbers that are short enough to keep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.metrics import Ranking

POINTS = 1000
"""The most points of a curve: more cannot be seen and would only make the file larger."""
BINS = 10
"""Bins of the calibration curve."""
SCORE_BINS = 20

Vector = NDArray[np.float64]


def calibration(ranking: Ranking) -> dict[str, list[float]]:
    """The mean score and the share of positive rows in each of BINS bins that has rows, and every bin's share."""
    totals, sums, positives = np.zeros(BINS), np.zeros(BINS), np.zeros(BINS)
    for scores, true, false in _weights_by_score(ranking):
        bins = np.clip((scores * BINS).astype(int), 0, BINS - 1)
        weight = true + false
        totals += np.bincount(bins, weights=weight, minlength=BINS)
        sums += np.bincount(bins, weights=weight * scores, minlength=BINS)
        positives += np.bincount(bins, weights=true, minlength=BINS)
    filled = totals > 0
    return {
        "mean": plain(sums[filled] / totals[filled]),
        "rate": plain(positives[filled] / totals[filled]),
        "share": plain(totals / totals.sum()),
    }


def histogram(ranking: Ranking, bins: int = SCORE_BINS) -> dict[str, list[float]]:
    """The weighted rows in each of so many bins: `0`, those that are not positive, and `1`."""
    return {str(number): plain(counts) for number, counts in enumerate(binned(ranking, bins))}


def binned(ranking: Ranking, bins: int, *, per_unit: int = 0) -> NDArray[np.float64]:
    """(2, bins): the weights of the rows that are not positive and of those that are, by their score in [0, 1].

    `per_unit` is the number of bins between 0 and 1 if it is not `bins`.
    """
    counts = np.zeros((2, bins))
    for scores, true, false in _weights_by_score(ranking):
        own = np.clip((scores * (per_unit or bins)).astype(int), 0, bins - 1)
        counts += np.stack([np.bincount(own, weights=part, minlength=bins) for part in (false, true)])
    return counts


def _weights_by_score(ranking: Ranking) -> Iterator[tuple[Vector, Vector, Vector]]:
    """Distinct scores with the summed weights of the rows that have them: positive ones and others."""
    true = false = 0.0
    for points in ranking.points():
        yield points.probabilities, np.diff(points.true, prepend=true), np.diff(points.false, prepend=false)
        true, false = float(points.true[-1]), float(points.false[-1])


def own(scores: Vector, weights: NDArray[Any] | None) -> Vector:
    """The weights of the rows, 1 for each if there are none."""
    return np.ones(len(scores)) if weights is None else np.asarray(weights, np.float64).ravel()


def places(length: int, points: int = POINTS) -> NDArray[np.int64]:
    """At most that many evenly spaced places in a curve of some length, the ends included."""
    found: NDArray[np.int64] = np.unique(np.linspace(0, length - 1, min(length, points)).astype(np.int64))
    return found


def roc(ranking: Ranking, points: int = POINTS) -> dict[str, list[float]]:
    """The ROC curve, which begins at (0, 0), reduced to at most that many points."""
    chosen = ranking.at(places(ranking.distinct + 1, points)[1:] - 1)
    return {
        "false-positive-rate": [0.0, *plain(chosen.false / ranking.negatives)],
        "recall": [0.0, *plain(chosen.true / ranking.positives)],
    }


def plain(values: NDArray[Any]) -> list[float]:
    """The values to seven digits: more than can be drawn, and half the size."""
    return [float(f"{value:.7g}") for value in values.tolist()]
