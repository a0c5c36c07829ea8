"""What all curves are made of: few points, bins, and numbers that are short enough to keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

POINTS = 1000
"""The most points of a curve: more cannot be seen and would only make the file larger."""
BINS = 10
"""Bins of the calibration curve."""
SCORE_BINS = 20

Vector = NDArray[np.float64]


def calibration(scores: Vector, positive: Vector, weights: NDArray[Any] | None) -> dict[str, list[float]]:
    """The mean score and the share of positive rows in each of BINS bins that has rows, and every bin's share."""
    weight = own(scores, weights)
    bins = np.clip((scores * BINS).astype(int), 0, BINS - 1)
    totals, sums, positives = (
        np.bincount(bins, weights=part, minlength=BINS) for part in (weight, weight * scores, weight * positive)
    )
    filled = totals > 0
    return {
        "mean": plain(sums[filled] / totals[filled]),
        "rate": plain(positives[filled] / totals[filled]),
        "share": plain(totals / totals.sum()),
    }


def histogram(scores: Vector, positive: Vector, weights: NDArray[Any] | None) -> dict[str, list[float]]:
    """The weighted rows in each of SCORE_BINS bins: `0`, those that are not positive, and `1`."""
    weight, bins = own(scores, weights), np.clip((scores * SCORE_BINS).astype(int), 0, SCORE_BINS - 1)
    return {
        str(number): plain(
            np.bincount(bins[positive == number], weights=weight[positive == number], minlength=SCORE_BINS)
        )
        for number in (0, 1)
    }


def own(scores: Vector, weights: NDArray[Any] | None) -> Vector:
    """The weights of the rows, 1 for each if there are none."""
    return np.ones(len(scores)) if weights is None else np.asarray(weights, np.float64).ravel()


def reduced(columns: Mapping[str, Vector], points: int = POINTS) -> dict[str, list[float]]:
    """Curves reduced to at most that many points, the ends included."""
    length = len(next(iter(columns.values())))
    chosen = np.unique(np.linspace(0, length - 1, min(length, points)).astype(int))
    return {name: plain(values[chosen]) for name, values in columns.items()}


def plain(values: NDArray[Any]) -> list[float]:
    """The values to seven digits: more than can be drawn, and half the size."""
    return [float(f"{value:.7g}") for value in values.tolist()]
