"""Fits calibrators to rows with known classes.

The likelihood of all but isotonic regression is that of smoothed labels, so that rows which the net tells apart without
an error do not ask for infinite slopes. Platt scaling has Platt's (1999): of n rows of class 1, (n + 1) / (n + 2). The
others have one for all n rows: the class's share is (n + 1) / (n + 2), and the rest is that of the other classes: the
rule of succession for "the net is right".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.decisions.calibrator import Calibrator
from trainer.decisions.calibrators import (
    Beta,
    Isotonic,
    Platt,
    Temperature,
    VectorScaling,
    complements,
    logarithms,
    logits,
    sigmoid,
    softmax,
)
from trainer.decisions.scored import Scored

Vector = NDArray[np.float64]
STEPS = 100
"""The most Newton steps; ten are enough for most data."""
CONVERGED = 1e-10
STEEPEST = 1e3
"""The largest inverse temperature, and its inverse the smallest."""


def fit_temperature(rows: Scored) -> Temperature:
    """The temperature of the highest likelihood; of two classes or of several."""
    if rows.probabilities.ndim == 1:
        scores, targets = logits(rows.probabilities), _two_targets(rows)

        def slope_of(factor: float) -> tuple[float, float]:
            means = sigmoid(factor * scores)
            gradient = np.dot(rows.weights, (means - targets) * scores)
            return float(gradient), float(np.dot(rows.weights, means * (1 - means) * scores * scores))
    else:
        scores = logarithms(rows.probabilities)
        # Differences only matter; so products stay exact for nearly sure rows.
        scores -= scores.max(axis=1, keepdims=True)
        wanted = (_several_targets(rows) * scores).sum(axis=1)

        def slope_of(factor: float) -> tuple[float, float]:
            shares = softmax(factor * scores)
            means = (shares * scores).sum(axis=1)
            squares = (shares * scores * scores).sum(axis=1) - means * means
            return float(np.dot(rows.weights, means - wanted)), float(np.dot(rows.weights, squares))

    return Temperature(1 / _root(slope_of))


def _root(slope_of: Callable[[float], tuple[float, float]]) -> float:
    """Where a rising function, which also gives its derivative, is 0: Newton's steps, kept within a shrinking bracket.

    Searches from 1 / STEEPEST to STEEPEST, and gives the end if it is beyond it.
    """
    low, high, place = 1 / STEEPEST, STEEPEST, 1.0
    for _ in range(STEPS):
        value, slope = slope_of(place)
        if value > 0:
            high = place
        else:
            low = place
        if value == 0 or high / low < 1 + CONVERGED:
            break
        step = place - value / slope if slope > 0 else 0.0
        following = step if low < step < high else float(np.sqrt(low * high))
        if abs(following - place) <= CONVERGED * place:
            return following
        place = following
    return place


def fit_platt(rows: Scored) -> Platt:
    """The sigmoid of the highest likelihood, with Platt's labels; its slope is at least 0."""
    positive = rows.labels == 1
    of_class_1, of_class_0 = float(rows.weights[positive].sum()), float(rows.weights[~positive].sum())
    targets = np.where(positive, (of_class_1 + 1) / (of_class_1 + 2), 1 / (of_class_0 + 2))
    slope, offset = _logistic([logits(rows.probabilities)], targets, rows.weights)
    return Platt(slope, offset)


def fit_beta(rows: Scored) -> Beta:
    """The parameters of the highest likelihood; a and b are at least 0."""
    given = [logarithms(rows.probabilities), -complements(rows.probabilities)]
    return Beta(*_logistic(given, _two_targets(rows), rows.weights))


def _logistic(columns: Sequence[Vector], targets: Vector, weights: Vector) -> list[float]:
    """Slopes ≥ 0 of the columns, and an offset: logistic regression by Newton's method.

    A slope that would be negative is left out, as Kull, Silva Filho and Flach do.
    """
    used = list(range(len(columns)))
    while True:
        inputs = np.column_stack([*(columns[number] for number in used), np.ones(len(targets))])
        found = _newton(inputs, targets, weights)
        falling = [number for number, slope in zip(used, found, strict=False) if slope < 0]
        if not falling:
            slopes = dict(zip(used, found.tolist(), strict=False))
            return [*(slopes.get(number, 0.0) for number in range(len(columns))), float(found[-1])]
        # The most negative one first.
        used.remove(min(falling, key=lambda number: found[used.index(number)]))


def _newton(inputs: Vector, targets: Vector, weights: Vector) -> Vector:
    """The weights of the highest likelihood, from slopes that add up to the given probabilities."""
    point: Vector = np.append(np.ones(inputs.shape[1] - 1), 0.0)
    loss = _cross_entropy(inputs @ point, targets, weights)
    for _ in range(STEPS):
        means = sigmoid(inputs @ point)
        gradient = inputs.T @ (weights * (means - targets))
        curvature = inputs.T @ (inputs * (weights * means * (1 - means))[:, np.newaxis])
        # Columns may be the same but for rounding: the least step is enough.
        step = np.linalg.lstsq(curvature, gradient, rcond=1e-13)[0]
        length = 1.0
        while length > 1e-6:
            following = point - length * step
            value = _cross_entropy(inputs @ following, targets, weights)
            if value <= loss:
                break
            length /= 2
        else:
            return point
        gain, loss, point = loss - value, value, following
        if gain <= 1e-14 * abs(loss) and length == 1.0:
            return point
    return point


def _cross_entropy(scores: Vector, targets: Vector, weights: Vector) -> float:
    return float(np.dot(weights, np.logaddexp(0, scores) - targets * scores))


def fit_isotonic(rows: Scored) -> Isotonic:
    """Isotonic regression, by scikit-learn, with its points.

    Where all rows are of one class it would give 0 or 1, and an infinite loss for the first other row. So it is clipped
    to Platt's (1999) labels: with n rows of class 1 and m of class 0, to 1 / (m + 2) and (n + 1) / (n + 2).
    """
    from sklearn.isotonic import IsotonicRegression

    positive = rows.labels == 1
    of_class_1, of_class_0 = float(rows.weights[positive].sum()), float(rows.weights[~positive].sum())
    regression = IsotonicRegression(
        y_min=1 / (of_class_0 + 2), y_max=(of_class_1 + 1) / (of_class_1 + 2), out_of_bounds="clip"
    )
    regression.fit(np.asarray(rows.probabilities, np.float64), positive.astype(np.float64), rows.weights)
    scores, probabilities = (
        np.asarray(each, np.float64) for each in (regression.X_thresholds_, regression.y_thresholds_)
    )
    return Isotonic(tuple(scores.tolist()), tuple(np.maximum.accumulate(probabilities).tolist()))


def fit_vector(rows: Scored) -> VectorScaling:
    """Factors and offsets of the highest likelihood times a normal prior of deviation 1 around those that do nothing.

    The prior weighs as much as a few rows, and keeps what a rare class says little about.
    """
    from scipy.optimize import minimize

    scores, targets, classes = logarithms(rows.probabilities), _several_targets(rows), rows.classes

    def judged(point: Vector) -> tuple[float, Vector]:
        factors, offsets = point[:classes], point[classes:]
        given = factors * scores + offsets
        highest = given.max(axis=1, keepdims=True)
        powers = np.exp(given - highest)
        sums = powers.sum(axis=1, keepdims=True)
        losses = (highest + np.log(sums))[:, 0] - (targets * given).sum(axis=1)
        off = (powers / sums - targets) * rows.weights[:, np.newaxis]
        prior = np.concatenate([factors - 1, offsets])
        gradient = np.concatenate([(off * scores).sum(axis=0), off.sum(axis=0)]) + prior
        return float(np.dot(rows.weights, losses) + 0.5 * np.dot(prior, prior)), gradient

    start = np.concatenate([np.ones(classes), np.zeros(classes)])
    bounds = [(0.0, None)] * classes + [(None, None)] * classes
    found = minimize(judged, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500}).x
    return VectorScaling(tuple(found[:classes].tolist()), tuple(found[classes:].tolist()))


def _two_targets(rows: Scored) -> Vector:
    total = float(rows.weights.sum())
    return np.where(rows.labels == 1, (total + 1) / (total + 2), 1 / (total + 2))


def _several_targets(rows: Scored) -> Vector:
    total, classes = float(rows.weights.sum()), rows.classes
    targets = np.full(rows.probabilities.shape, 1 / (total + 2) / (classes - 1))
    targets[np.arange(len(targets)), rows.labels] = (total + 1) / (total + 2)
    return targets


FITS: Mapping[str, Callable[[Scored], Calibrator]] = {
    "temperature": fit_temperature,
    "platt": fit_platt,
    "beta": fit_beta,
    "isotonic": fit_isotonic,
    "vector": fit_vector,
}
"""How each kind is fitted, the simplest first."""
TWO_CLASSES = ("temperature", "platt", "beta", "isotonic")
SEVERAL_CLASSES = ("temperature", "vector")
