"""Standard errors of a linear model's coefficients, from the information of the likelihood at the optimum.

They hold for a model that maximizes a likelihood: without a penalty, with columns none of which follows from others,
and at the optimum. `errors_of` checks that and otherwise says what is missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.errors import listed
from trainer.number_losses import PoissonLoss, SquaredLoss

Floats = NDArray[np.float64]
Family = Literal["binomial", "multinomial", "normal", "poisson"]
CHUNK = 1 << 22
"""Elements of the inputs that are looked at together."""
MOST = 2_000
"""Coefficients, over all outputs, up to which the information is computed: its size is their square."""
DEPENDENT = 1e-11
"""Eigenvalues of the inputs' products, relative to the largest, that count as 0: inputs are stored as float32."""
CERTAIN = 1e-4
"""A class is separated from the others if no row's probability of it is further from 0 or 1."""
LEAST_VARIANCE = 1e-6
"""The mean p · (1 - p) of rows in a direction of the weights, below which rows are predicted with certainty."""
APART = 0.05
"""Standard errors that a coefficient may be away from its optimum."""
CONSTANT = "(constant)"


@dataclass(frozen=True)
class Rows:
    """The training rows as the net gets them."""

    features: NDArray[np.float32]
    labels: NDArray[np.float32]
    weights: Floats
    """How often each row counts."""


@dataclass(frozen=True)
class Fitted:
    """A linear model on the scale of the net: weight (outputs, inputs) and bias (outputs,)."""

    weight: Floats
    bias: Floats
    inputs: Sequence[str]
    """Their names."""
    classes: Sequence[str]
    """Those of several outputs."""
    family: Family
    offset: float = 0.0
    scale: float = 1.0
    """They lead from the net's output to the label's unit."""


@dataclass(frozen=True)
class Errors:
    """Variances and covariances of the net's own weights, and what intervals are computed with."""

    covariances: Sequence[Floats]
    """For each output (inputs + 1, inputs + 1), the bias last; of several classes, of weights minus their mean."""
    freedom: float | None
    """Degrees of freedom of Student's t; None for the normal distribution."""

    def quantile(self, level: float) -> float:
        """How many standard errors an interval of this level reaches to each side."""
        from scipy import stats

        tail = (1 + level) / 2
        return float(stats.norm.ppf(tail) if self.freedom is None else stats.t.ppf(tail, self.freedom))


def family_of(loss: Any) -> Family | str:
    """The distribution whose likelihood a loss stands for, or a sentence why there is none."""
    from trainer.mxnet import gluon

    known: dict[type, Family] = {
        gluon.loss.SigmoidBinaryCrossEntropyLoss: "binomial",
        gluon.loss.SoftmaxCrossEntropyLoss: "multinomial",
        SquaredLoss: "normal",
        PoissonLoss: "poisson",
    }
    found = known.get(type(loss))
    name = type(loss).__name__.removesuffix("Loss").lower()
    return found or f"the loss ({name}) is not the likelihood of a distribution, so there is no information to take"


def errors_of(fitted: Fitted, rows: Rows) -> Errors | str:
    """The errors of a fitted model's weights, or a sentence why there are none."""
    names, outputs = [*fitted.inputs, CONSTANT], len(fitted.weight)
    count = len(names)
    free, used = count * max(1, outputs - 1), int(np.count_nonzero(rows.weights))
    if free > MOST:
        return f"the model has {free:,} coefficients, and errors are computed for up to {MOST:,}"
    if used <= count:
        return f"there are {used} training rows for {count} coefficients"
    products = _gram(rows)
    dependent = _dependent(products, names)
    if dependent:
        return f"the inputs {listed(dependent, 12)} are collinear, so other coefficients give the same model"
    found = _information(fitted, rows)
    why = _without_optimum(fitted, found, products)
    if why:
        return why
    factor, freedom = 1.0, None
    if fitted.family == "normal":
        freedom = float(used - count)
        if found.squares <= 0:
            return "the training rows are predicted exactly"
        factor = freedom / found.squares
    covariance = _inverse(found.matrix * factor)
    if covariance is None:
        return "the information about the coefficients is singular"
    # Newton's step to the optimum.
    apart = np.abs(covariance @ found.gradient) * factor / np.sqrt(np.diag(covariance))
    if not apart.max() <= APART:
        place = int(np.argmax(apart))
        return (
            f"the weights are not at the optimum, that of {names[place % count]} is {apart[place]:.2g} standard errors "
            "away; train with --solver lbfgs"
        )
    return Errors(_by_output(covariance, outputs, count), freedom)


def _without_optimum(fitted: Fitted, found: _Information, products: Floats) -> str:
    """A sentence if the likelihood has no finite optimum: in some direction of the weights, it grows without end."""
    if fitted.family == "normal":
        return ""
    for number, furthest in enumerate(found.furthest):
        if furthest < CERTAIN and fitted.family != "poisson":
            of = "the classes are" if len(fitted.weight) == 1 else f"the class {fitted.classes[number]!r} is"
            return f"{of} predicted with certainty in every training row, so the coefficients have no finite optimum"
    sizes, count = np.sqrt(np.diag(products)), len(products)
    root = np.linalg.inv(np.linalg.cholesky(products / np.outer(sizes, sizes))) / sizes
    blocks = len(found.matrix) // count
    matrix = np.einsum(
        "ij,ajbk,lk->aibl", root, found.matrix.reshape(blocks, count, blocks, count), root, optimize=True
    )
    values, vectors = np.linalg.eigh(matrix.reshape(found.matrix.shape))
    # Of counts, relative to the mean count.
    least = LEAST_VARIANCE * (found.matrix[-1, -1] / products[-1, -1] if fitted.family == "poisson" else 1)
    if values[0] >= least:
        return ""
    direction = np.abs(vectors[:, 0].reshape(blocks, count) @ root * sizes).max(axis=0)[:-1]
    parts = [name for name, part in zip(fitted.inputs, direction, strict=True) if part > 0.1 * direction.max()]
    several = "a combination of " if len(parts) > 1 else ""
    return f"{several}{listed(parts, 12)} predicts rows with certainty, so the coefficients have no finite optimum"


def _chunks(rows: Rows) -> Iterator[tuple[Floats, Floats, Floats]]:
    """Inputs with a column of ones, labels and weights, a part at a time."""
    size = max(1, CHUNK // (rows.features.shape[1] + 1))
    for first in range(0, len(rows.labels), size):
        part = slice(first, first + size)
        features = rows.features[part].astype(np.float64)
        yield (
            np.hstack([features, np.ones((len(features), 1))]),
            rows.labels[part].astype(np.float64),
            rows.weights[part],
        )


def _gram(rows: Rows) -> Floats:
    return sum(inputs.T @ (inputs * weights[:, np.newaxis]) for inputs, _, weights in _chunks(rows))  # type: ignore[return-value]


def _dependent(products: Floats, names: Sequence[str]) -> list[str]:
    """The inputs that take part in a linear dependence; the constant is the bias."""
    sizes = np.sqrt(np.diag(products))
    sizes[sizes == 0] = 1
    values, vectors = np.linalg.eigh(products / np.outer(sizes, sizes))
    null = vectors[:, values < DEPENDENT * values.max()]
    return [name for name, row in zip(names, null, strict=True) if null.size and np.abs(row).max() > 1e-3]


@dataclass(frozen=True)
class _Information:
    """What the rows say about the weights, at the weights of the model.

    Of several classes, about the differences from the first one.
    """

    matrix: Floats
    """Of the normal distribution, with a variance of 1."""
    gradient: Floats
    """Of minus the log likelihood."""
    squares: float
    """The sum of the squared residuals, of the normal distribution."""
    furthest: Sequence[float]
    """The largest residual of class 1, or of each of several classes."""


def _information(fitted: Fitted, rows: Rows) -> _Information:
    point = np.hstack([fitted.weight, fitted.bias[:, np.newaxis]])
    outputs, count = point.shape
    blocks = max(1, outputs - 1)
    matrix, gradient = np.zeros((blocks, count, blocks, count)), np.zeros((blocks, count))
    squares, furthest = 0.0, np.zeros(outputs)
    for inputs, labels, weights in _chunks(rows):
        z = inputs @ point.T
        if fitted.family == "multinomial":
            means = np.exp(z - z.max(axis=1, keepdims=True))
            means /= means.sum(axis=1, keepdims=True)
            residuals = means - (labels[:, np.newaxis] == np.arange(outputs))
            furthest = np.maximum(furthest, np.abs(residuals).max(axis=0))
            means, residuals = means[:, 1:], residuals[:, 1:]
            for one in range(blocks):
                for other in range(blocks):
                    variance = means[:, one] * ((one == other) - means[:, other])
                    matrix[one, :, other] += inputs.T @ (inputs * (weights * variance)[:, np.newaxis])
        else:
            means, variances = _moments(fitted, z)
            expected = (labels - fitted.offset) / fitted.scale if fitted.family == "normal" else labels
            residuals = means - expected[:, np.newaxis]
            furthest = np.maximum(furthest, np.abs(residuals).max(axis=0))
            squares += float(weights @ np.square(residuals[:, 0]))
            matrix[0, :, 0] += inputs.T @ (inputs * (weights[:, np.newaxis] * variances))
        gradient += (residuals * weights[:, np.newaxis]).T @ inputs
    size = blocks * count
    return _Information(matrix.reshape(size, size), gradient.reshape(size), squares, furthest.tolist())


def _moments(fitted: Fitted, z: Floats) -> tuple[Floats, Floats]:
    """Mean and variance of each row from the net's output; of the normal distribution on the net's scale."""
    if fitted.family == "binomial":
        with np.errstate(over="ignore"):
            mean = 1 / (1 + np.exp(-z))
        return mean, mean * (1 - mean)
    if fitted.family == "poisson":
        mean = fitted.scale * np.exp(z)
        return mean, mean
    return z, np.ones_like(z)


def _inverse(information: Floats) -> Floats | None:
    sizes = np.sqrt(np.diag(information))
    if not (np.isfinite(information).all() and sizes.all()):
        return None
    try:
        root = np.linalg.inv(np.linalg.cholesky(information / np.outer(sizes, sizes)))
    except np.linalg.LinAlgError:
        return None
    found: Floats = (root.T @ root) / np.outer(sizes, sizes)
    return found


def _by_output(covariance: Floats, outputs: int, count: int) -> list[Floats]:
    """The covariance of each output's weights; of several classes, from that of the differences from the first one."""
    if outputs == 1:
        return [covariance]
    blocks = covariance.reshape(outputs - 1, count, outputs - 1, count)
    # Weights minus their mean, from the differences.
    centred = np.vstack([np.zeros(outputs - 1), np.eye(outputs - 1)]) - 1 / outputs
    return [np.einsum("a,aibj,b->ij", row, blocks, row) for row in centred]


def of_units(covariance: Floats, means: Floats, deviations: Floats, scale: float) -> tuple[Floats, float]:
    """The standard errors of an output's coefficients and intercept in the units of the table."""
    to_intercept = np.append(-means / deviations, 1.0)
    errors: Floats = np.sqrt(np.diag(covariance)[:-1]) / deviations * scale
    return errors, math.sqrt(max(0.0, float(to_intercept @ covariance @ to_intercept))) * scale
