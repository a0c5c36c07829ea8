"""Where a table's net starts to learn: the best outputs that do not depend on the features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEAST_APART = 1e-3
"""How far apart quantiles start at least, in deviations of the label: equal ones would need an infinite output."""

Start = Literal["auto", "zero", "random"]


def log_odds(labels: NDArray[np.float32], weights: Floats, *, outputs: int) -> Floats:
    """The logit of class 1 for one output, otherwise the centred logarithms of the classes' shares.

    A class without rows or weight counts as half a row.
    """
    shares = np.bincount(labels.astype(np.int64), weights, minlength=max(2, outputs))
    logs = np.log(np.maximum(shares / shares.sum(), 0.5 / len(labels)))
    centred: Floats = logs[1:] - logs[:1] if outputs == 1 else logs - logs.mean()
    return centred


def log_mean(labels: Floats, weights: Floats) -> Floats:
    """The logarithm of the mean; if all are 0, that of half a row with a 1."""
    found: Floats = np.log(np.maximum(mean(labels, weights), 0.5 / len(labels)))
    return found


def mean(labels: Floats, weights: Floats) -> Floats:
    """The mean."""
    return np.array([np.average(labels, weights=weights)])


def levels(labels: Floats, weights: Floats, quantiles: Sequence[float]) -> Floats:
    """The outputs for quantiles: the lowest, then how far each is above the one before, through softplus's inverse."""
    order = np.argsort(labels, kind="stable")
    reached = np.cumsum(weights[order])
    places = np.searchsorted(reached, np.array(quantiles) * reached[-1]).clip(0, len(labels) - 1)
    values = labels[order][places]
    apart = np.maximum(np.diff(values), LEAST_APART)
    # log(exp(d) - 1), without overflow for a large d
    return np.concatenate([values[:1], apart + np.log(-np.expm1(-apart))])
