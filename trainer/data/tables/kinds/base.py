"""What several kinds of columns share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.embedding import MOST_UNITS
from trainer.errors import UsageError


class Counts(NamedTuple):
    """What is counted while a column is encoded: missing values, and values that training does not have."""

    missing: int
    unseen: int = 0


@dataclass(frozen=True)
class Scale:
    """The mean and the deviation of the training rows."""

    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def of(cls, present: NDArray[np.float64]) -> Scale:
        """That of numbers, none of them missing. It is infinite or NaN if they are too large."""
        with np.errstate(over="ignore", invalid="ignore"):
            mean, deviation = float(present.mean()), float(present.std())
        if math.isfinite(mean) and deviation <= abs(mean) * 1e-12:
            # Constant up to rounding; dividing by such a deviation would amplify the rounding to noise.
            mean, deviation = float(present[0]), 1.0
        return cls(mean, deviation)

    @property
    def is_usable(self) -> bool:
        """Whether numbers can be scaled by it."""
        return math.isfinite(self.mean) and math.isfinite(self.deviation) and self.deviation > 0

    def scaled(self, numbers: NDArray[np.float64], *, standardize: bool) -> NDArray[np.float64]:
        """The numbers, the mean for NaN; with `standardize`, (number - mean) / deviation."""
        numbers = np.where(np.isnan(numbers), self.mean, numbers)
        return (numbers - self.mean) / self.deviation if standardize else numbers


@dataclass(frozen=True)
class OneInput:
    """A column that is one input of the net, under its own name."""

    name: str

    @property
    def width(self) -> int:
        """The number of net inputs."""
        return 1

    @property
    def feature_names(self) -> list[str]:
        """The name of the input."""
        return [self.name]

    @property
    def scales(self) -> list[Scale]:
        """What the input is standardised by; `Scale()` if it is as stored."""
        return [Scale()]


@dataclass(frozen=True)
class OneId:
    """A column that is one id of the net: the number of a row in a table of weights."""

    name: str

    @property
    def width(self) -> int:
        """It has no input among the numbers."""
        return 0

    @property
    def feature_names(self) -> list[str]:
        """It has no input among the numbers."""
        return []

    @property
    def scales(self) -> list[Scale]:
        """It has no input among the numbers."""
        return []


def wrong_units(name: str, units: int) -> str | None:
    """What is wrong with the units of a column that were read from a file, or None."""
    return None if 0 <= units <= MOST_UNITS else f"column {name!r} has {units} units"


def all_missing(name: str, where: str) -> UsageError:
    """The error for a column without any value."""
    return UsageError(f"column {name!r} is all missing", where=where, fix=f"Add --ignore {name}.")
