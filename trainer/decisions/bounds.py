"""Tests and bounds for rates and mean losses that hold for any number of rows.

All functions take arrays, and numbers of rows that need not be whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


def p_at_least(successes: Any, trials: Any, rate: float) -> Vector:
    """The p-value of "the rate is at most `rate`", for showing that it is higher: P(Bin(trials, rate) ≥ successes)."""
    from scipy.special import betainc

    successes, trials = np.broadcast_arrays(np.asarray(successes, np.float64), np.asarray(trials, np.float64))
    known = successes > 0
    found = np.ones(successes.shape)
    found[known] = betainc(successes[known], trials[known] - successes[known] + 1, rate)
    return found


def p_at_most(events: Any, trials: Any, rate: float) -> Vector:
    """The p-value of "the rate is at least `rate`", for showing that it is lower: P(Bin(trials, rate) ≤ events)."""
    events, trials = np.asarray(events, np.float64), np.asarray(trials, np.float64)
    return p_at_least(trials - events, trials, 1 - rate)


def log_p_bound(successes: Any, trials: Any, rate: float) -> Vector:
    """What the logarithm of `p_at_least` is at most (Chernoff, 1952): fast, and 0 up to the rate itself."""
    successes, trials = np.asarray(successes, np.float64), np.asarray(trials, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(trials > 0, successes / trials, 0.0)
        bound = -trials * _divergence(share, rate)
    return np.where(share > rate, bound, 0.0)


def _divergence(share: Vector, rate: float) -> Vector:
    """The Kullback–Leibler divergence of two coins."""
    with np.errstate(divide="ignore", invalid="ignore"):
        heads = np.where(share > 0, share * np.log(share / rate), 0.0)
        tails = np.where(share < 1, (1 - share) * np.log((1 - share) / (1 - rate)), 0.0)
    divergence: Vector = heads + tails
    return divergence


def hoeffding_bentkus(mean: Any, rows: Any, limit: float) -> Vector:
    """The p-value of "the expected loss is at least `limit`", from the mean of losses in [0, 1].

    The smaller of Hoeffding's (1963) and Bentkus's (2004) bound, as Bates, Angelopoulos, Lei, Malik and Jordan (2021)
    combine them.
    """
    mean, rows = np.asarray(mean, np.float64), np.asarray(rows, np.float64)
    if limit >= 1:
        return np.where((mean < 1) | (limit > 1), 0.0, 1.0)
    hoeffding = np.where(mean < limit, np.exp(-rows * _divergence(np.minimum(mean, limit), limit)), 1.0)
    # The sum may lie below a whole number by rounding only.
    whole = np.minimum(np.ceil(np.round(rows * mean, 9)), rows)
    return np.minimum(np.minimum(hoeffding, np.e * p_at_most(whole, rows, limit)), 1.0)


def clopper_pearson(successes: Any, trials: Any, confidence: float) -> tuple[Vector, Vector]:
    """The exact two-sided interval of a rate (Clopper and Pearson, 1934); (0, 1) without trials."""
    from scipy.special import betaincinv

    successes, trials = np.broadcast_arrays(np.asarray(successes, np.float64), np.asarray(trials, np.float64))
    outside = (1 - confidence) / 2
    low, high = np.zeros(successes.shape), np.ones(successes.shape)
    some, rest = successes > 0, successes < trials
    low[some] = betaincinv(successes[some], trials[some] - successes[some] + 1, outside)
    high[rest] = betaincinv(successes[rest] + 1, trials[rest] - successes[rest], 1 - outside)
    return low, high
