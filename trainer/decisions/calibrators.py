"""Calibrators: functions of few parameters, and steps, that turn probabilities into calibrated ones.

Nets give probabilities in float32, which cannot tell 1 from what is nearer than 2⁻²⁵ to it. So the logarithm of the
probability of the other class is at least -17.3, and that of the probability itself -87.3, of the least normal float32.
Results are strictly between 0 and 1 for any probability, unless a slope is steep; NaN stays NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainer.decisions.calibrator import Calibrator

Vector = NDArray[np.float64]
LEAST = float(np.finfo(np.float32).tiny)
MOST = 1 - 2.0**-25

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Slope = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


def logarithms(probabilities: NDArray[Any]) -> Vector:
    """The logarithms of probabilities, in float64; finite but for NaN."""
    found: Vector = np.log(np.maximum(np.asarray(probabilities, np.float64), LEAST))
    return found


def complements(probabilities: NDArray[Any]) -> Vector:
    """The logarithms of 1 - probabilities, in float64; finite but for NaN."""
    found: Vector = np.log1p(-np.minimum(np.asarray(probabilities, np.float64), MOST))
    return found


def logits(probabilities: NDArray[Any]) -> Vector:
    """The log odds of probabilities, in float64; finite but for NaN."""
    return logarithms(probabilities) - complements(probabilities)


def sigmoid(scores: Vector) -> Vector:
    """1 / (1 + exp(-scores)), accurate for scores of any size."""
    small = np.exp(-np.abs(scores))
    found: Vector = np.where(scores >= 0, 1.0, small) / (1 + small)
    return found


def softmax(scores: Vector) -> Vector:
    """Exponentials along the last axis, divided by their sum."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    found: Vector = powers / powers.sum(axis=-1, keepdims=True)
    return found


@dataclass(frozen=True)
class Temperature(Calibrator):
    """Divides the logits by a temperature: above 1, probabilities become less extreme (Guo et al., 2017).

    Two classes, (rows,), or several, (rows, classes). The order of classes and of rows remains.
    """

    temperature: Positive

    kind: ClassVar[str] = "temperature"

    def apply(self, probabilities: NDArray[Any]) -> Vector:
        """Of the logits of two classes, or of the logarithms of several."""
        if np.ndim(probabilities) < 2 or np.shape(probabilities)[1] == 1:
            return sigmoid(logits(probabilities) / self.temperature)
        return softmax(logarithms(probabilities) / self.temperature)

    def describe(self) -> str:
        return f"temperature {self.temperature:.4g}"


@dataclass(frozen=True)
class Platt(Calibrator):
    """Two classes: the sigmoid of slope × logit + offset (Platt, 1999)."""

    slope: Slope
    offset: Finite

    kind: ClassVar[str] = "platt"

    def apply(self, probabilities: NDArray[Any]) -> Vector:
        """(rows,) of class 1."""
        return sigmoid(self.slope * logits(probabilities) + self.offset)

    def describe(self) -> str:
        return f"Platt scaling, slope {self.slope:.4g}, offset {self.offset:.4g}"


@dataclass(frozen=True)
class Beta(Calibrator):
    """Two classes: the sigmoid of a × log(p) - b × log(1 - p) + offset (Kull, Silva Filho and Flach, 2017)."""

    a: Slope
    b: Slope
    offset: Finite

    kind: ClassVar[str] = "beta"

    def apply(self, probabilities: NDArray[Any]) -> Vector:
        """(rows,) of class 1."""
        return sigmoid(self.a * logarithms(probabilities) - self.b * complements(probabilities) + self.offset)

    def describe(self) -> str:
        return f"beta, a {self.a:.4g}, b {self.b:.4g}, offset {self.offset:.4g}"


@dataclass(frozen=True)
class Isotonic(Calibrator):
    """Two classes: straight lines between points, constant beyond them (Zadrozny and Elkan, 2002)."""

    scores: Annotated[tuple[Finite, ...], Field(min_length=1)]
    """Rising."""
    probabilities: tuple[Share, ...]
    """Of each point; never falling."""

    kind: ClassVar[str] = "isotonic"

    def __post_init__(self) -> None:
        """Raises ValueError for points that are not a function, or one that falls."""
        if len(self.scores) != len(self.probabilities):
            raise ValueError(f"{len(self.scores)} scores for {len(self.probabilities)} probabilities")
        if np.any(np.diff(self.scores) <= 0) or np.any(np.diff(self.probabilities) < 0):
            raise ValueError("scores have to rise, and probabilities may not fall")

    def apply(self, probabilities: NDArray[Any]) -> Vector:
        """(rows,) of class 1."""
        given = np.asarray(probabilities, np.float64)
        return np.interp(given, self.scores, self.probabilities)

    def describe(self) -> str:
        return f"isotonic regression, {len(self.scores)} points"


@dataclass(frozen=True)
class VectorScaling(Calibrator):
    """Several classes: softmax of factor × log(p) + offset, with one of each per class (Guo et al., 2017)."""

    factors: Annotated[tuple[Slope, ...], Field(min_length=2)]
    offsets: tuple[Finite, ...]

    kind: ClassVar[str] = "vector"

    def __post_init__(self) -> None:
        """Raises ValueError for other numbers of factors than of offsets."""
        if len(self.factors) != len(self.offsets):
            raise ValueError(f"{len(self.factors)} factors for {len(self.offsets)} offsets")

    def apply(self, probabilities: NDArray[Any]) -> Vector:
        """(rows, classes)."""
        return softmax(np.array(self.factors) * logarithms(probabilities) + np.array(self.offsets))

    def describe(self) -> str:
        return f"vector scaling of {len(self.factors)} classes"
