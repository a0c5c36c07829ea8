"""Sets of classes and intervals of numbers that hold the truth with a given probability.

The split method (Papadopoulos et al. 2002; Vovk et al. 2005): every row that nothing was fitted on gets a
score, how badly its label fits the prediction. A new row's set has all labels whose score is at most the
ceil((n + 1) × coverage)-th smallest of the n scores. It holds the true label with at least that probability if old and
new rows are exchangeable, whatever the model is, and with at most 1 / (n + 1) more if no scores are equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.decisions.bounds import clopper_pearson
from trainer.evaluation import scrambled

Vector = NDArray[np.float64]
ClassMethod = Literal["lac", "aps"]
ROUNDING = 1e-12


def rows_needed(coverage: float) -> int:
    """The fewest rows with which a set that is not everything can have the coverage: 9 for 90 %, 19 for 95 %."""
    return max(math.ceil(coverage / (1 - coverage) - 1e-9), 1)


def conformal_quantile(scores: NDArray[Any], coverage: float, weights: NDArray[Any] | None = None) -> float:
    """The largest score that a new row may have: infinite if there are too few rows.

    With weights, rows count by them, and the new row by their mean (Tibshirani et al. 2019 have the weight of each new
    row, which is not known beforehand), so the coverage is approximate. A score that is NaN counts as infinite.
    """
    scores = np.where(np.isnan(scores), np.inf, np.asarray(scores, np.float64)).ravel()
    own = np.ones(len(scores)) if weights is None else np.asarray(weights, np.float64).ravel()
    counted = own > 0
    scores, own = scores[counted], own[counted]
    if not len(scores):
        return math.inf
    order = np.argsort(scores, kind="stable")
    sums = np.cumsum(own[order])
    needed = coverage * (sums[-1] + own.mean())
    place = int(np.searchsorted(sums, needed * (1 - ROUNDING)))
    return float(scores[order[place]]) if place < len(scores) else math.inf


def both_classes(probabilities: NDArray[Any]) -> NDArray[Any]:
    """Probabilities (rows, classes) from those, or from those of class 1, (rows,)."""
    if probabilities.ndim == 2 and probabilities.shape[1] > 1:
        return probabilities
    one = probabilities.reshape(-1)
    return np.stack([1 - one, one], axis=1)


def class_scores(probabilities: NDArray[Any], method: ClassMethod) -> Vector:
    """How badly each class fits each row: (rows, classes), from probabilities (rows, classes) or (rows,) of class 1.

    - `lac`: 1 − the class's probability (Sadinle, Lei and Wasserman 2019), which gives the smallest sets on average.
    - `aps`: the probability of all likelier classes and, times a number u in [0, 1), its own (Romano, Sesia and Candès
      2020). Sets are larger for difficult rows, and smaller for easy ones. u is a hash of the row's probabilities, so
      that the same row always has the same set. The score is a fixed function of the row, so the coverage is exact.
    """
    found = both_classes(probabilities)
    values = np.asarray(found, np.float64)
    if method == "lac":
        return 1 - values
    order = np.argsort(-values, axis=1, kind="stable")
    ranked = np.take_along_axis(values, order, axis=1)
    scores = np.empty_like(values)
    likelier = np.cumsum(ranked, axis=1) - ranked
    np.put_along_axis(scores, order, likelier + _hashed(found)[:, None] * ranked, axis=1)
    return scores


def _hashed(probabilities: NDArray[Any]) -> Vector:
    """A number in [0, 1) for each row, from the bits of its probabilities in float32."""
    bits = np.ascontiguousarray(probabilities, np.float32).view(np.uint32).astype(np.uint64)
    state = np.zeros(len(bits), np.uint64)
    for column in bits.T:
        state = scrambled(state ^ column)
    return (state >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def number_scores(predictions: NDArray[Any], labels: NDArray[Any]) -> Vector:
    """How far each label is outside its prediction, (rows,).

    The absolute error of predictions (rows,) or (rows, 1); for quantiles (rows, quantiles), the distance to the nearer
    of the lowest and the highest, negative between them (conformalised quantile regression, Romano, Patterson and
    Candès 2019).
    """
    actual = np.asarray(labels, np.float64).ravel()
    values = np.asarray(predictions, np.float64).reshape(len(actual), -1)
    outside: Vector = np.maximum(values[:, 0] - actual, actual - values[:, -1])
    return outside


def interval(
    predictions: NDArray[Any], bounds: NDArray[Any], least: float | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The lower and upper ends for predictions (rows,) or (rows, quantiles), and each row's largest score.

    `least` is the smallest label that is possible. Ends that cross, which quantiles that are too far apart lead to, are
    replaced by their mean.
    """
    values = np.asarray(predictions, np.float64)
    values = values.reshape(len(values), -1) if len(values) else values.reshape(0, 1)
    low, high = values[:, 0] - bounds, values[:, -1] + bounds
    crossed = low > high
    middle = (low[crossed] + high[crossed]) / 2
    low[crossed], high[crossed] = middle, middle
    if least is not None:
        low, high = np.maximum(low, least), np.maximum(high, least)
    return low, high


def exact_interval(hits: float, rows: float, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's (1934) interval of a share; `rows` and `hits` of weighted rows are effective numbers."""
    if not rows > 0:
        return math.nan, math.nan
    low, high = clopper_pearson(hits, rows, confidence)
    return float(low), float(high)


def covered(held: NDArray[np.bool_], weights: NDArray[Any] | None = None) -> Mapping[str, float]:
    """The share of rows whose set or interval holds the label, with its exact interval at 95 %.

    With weights, both are of their effective number (Kish 1965), and the interval is approximate.
    """
    own = np.ones(len(held)) if weights is None else np.asarray(weights, np.float64).ravel()
    total, squares = float(own.sum()), float(own @ own)
    share = float(own[held].sum() / total) if total > 0 else math.nan
    rows = total**2 / squares if squares > 0 else 0.0
    low, high = exact_interval(min(share * rows, rows), rows) if rows else (math.nan, math.nan)
    return {"coverage": share, "coverage-low": low, "coverage-high": high}
