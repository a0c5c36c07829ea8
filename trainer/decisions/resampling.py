"""Resamples of rows: how far a value may be off by chance, and whether two of them differ by more.

Resampling with replacement is Efron's (1979); paired, both values are of the same resample, so what rows have in
common cancels out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
GROUPS = 64
"""Kinds of rows up to which only their numbers are drawn."""
NORMAL = 1 << 14
"""Rows of many weights from which the sums of a resample are drawn as the normal numbers that they tend to."""
ELEMENTS = 1 << 20
"""Elements that are drawn together."""


def times_drawn(rows: int, draws: int, generator: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """How often each row is in a resample, (rows,), `draws` times."""
    for _ in range(draws):
        yield np.bincount(generator.integers(0, rows, rows), minlength=rows)


def resampled_counts(counts: Vector, draws: int, generator: np.random.Generator) -> Vector:
    """The numbers of rows of each kind in resamples of rows, given their numbers: (draws, kinds)."""
    return _multinomial(counts, np.eye(len(counts)), draws, generator)


def resampled_cells(
    cells: NDArray[np.int64], weights: Vector, count: int, draws: int, generator: np.random.Generator
) -> Vector:
    """The summed weights of the rows in each of `count` cells, in resamples of the rows: (draws, count).

    `cells` has the number of each row's cell. If there are few weights, rows of the same cell and weight are drawn
    together: how many of them a resample has is multinomial.
    """
    kinds, numbers = np.unique(weights, return_inverse=True)
    if len(kinds) * count <= GROUPS:
        found = np.bincount(numbers.ravel() * count + cells, minlength=len(kinds) * count)
        sums = (kinds[:, None, None] * np.eye(count)).reshape(-1, count)
        return _multinomial(found, sums, draws, generator)
    rows = len(cells)
    if rows >= NORMAL:
        means, squares = (np.bincount(cells, weights**power, minlength=count) for power in (1, 2))
        covariance = np.diag(squares) - np.outer(means, means) / rows
        return np.maximum(generator.multivariate_normal(means, covariance, draws, method="eigh"), 0)
    sums = np.empty((draws, count))
    size = max(ELEMENTS // rows, 1)
    for start in range(0, draws, size):
        some = min(size, draws - start)
        drawn = generator.integers(0, rows, (some, rows))
        places = cells[drawn] + count * np.arange(some)[:, None]
        sums[start : start + some] = np.bincount(
            places.ravel(), weights[drawn].ravel(), minlength=some * count
        ).reshape(some, count)
    return sums


def _multinomial(numbers: NDArray[Any], sums: Vector, draws: int, generator: np.random.Generator) -> Vector:
    """Resamples of groups of rows, `numbers` (groups,) of them, each row of which adds its group's `sums`."""
    occupied = np.flatnonzero(numbers)
    rows = int(numbers.sum())
    drawn = generator.multinomial(rows, numbers[occupied] / rows, size=draws)
    return drawn @ sums[occupied]


def interval(values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """The percentile interval of resampled values at a level; NaN if all of them are."""
    known = values[~np.isnan(values)]
    if not len(known):
        return math.nan, math.nan
    outside = (1 - confidence) / 2
    low, high = np.quantile(known, [outside, 1 - outside])
    return float(low), float(high)


def p_value(differences: NDArray[np.float64]) -> float:
    """The two-sided p-value that two values are equal, from their differences in paired resamples.

    The smallest level at which the percentile interval leaves 0 out, and never 0 (Davison and Hinkley, 1997, 4.2). NaN
    if all differences are.
    """
    known = differences[~np.isnan(differences)]
    if not len(known):
        return math.nan
    beyond = min(np.count_nonzero(known <= 0), np.count_nonzero(known >= 0))
    return min(1.0, 2 * (1 + int(beyond)) / (1 + len(known)))


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p-value that two classifiers are right equally often (McNemar, 1947).

    Given are the numbers of rows on which only the first, and only the second, is right: if both are equally good, each
    such row is one or the other by the throw of a coin.
    """
    from scipy.special import bdtr

    apart = only_first + only_second
    return 1.0 if not apart else min(1.0, 2 * float(bdtr(min(only_first, only_second), apart, 0.5)))
