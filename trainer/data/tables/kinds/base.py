"""What several kinds of columns share."""

from __future__ import annotations

import math
from collections.abc import Iterable
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

    @property
    def is_usable(self) -> bool:
        """Whether numbers can be scaled by it."""
        return math.isfinite(self.mean) and math.isfinite(self.deviation) and self.deviation > 0

    def scaled(self, numbers: NDArray[np.float64], *, standardize: bool) -> NDArray[np.float64]:
        """The numbers, the mean for NaN; with `standardize`, (number - mean) / deviation."""
        numbers = np.where(np.isnan(numbers), self.mean, numbers)
        return (numbers - self.mean) / self.deviation if standardize else numbers


@dataclass(frozen=True)
class _Part:
    """What is known of the numbers of a block. `squares` is the sum of the squared distances from their mean."""

    count: int
    total: float
    squares: float
    first: float
    offset: int


class Moments:
    """The mean and the deviation of numbers that come in blocks, in any order.

    The blocks' sums are added exactly (`math.fsum`), so that neither their order nor their grouping matters.
    """

    def __init__(self) -> None:
        self._parts: dict[int, _Part] = {}

    def add(self, block: int, numbers: NDArray[np.float64], offset: int = 0) -> None:
        """The numbers of a block (n,), none of them missing, as distances from an offset. Add each block once."""
        if not len(numbers):
            return
        with np.errstate(over="ignore", invalid="ignore"):
            total = float(np.add.reduce(numbers))
            apart = numbers - total / len(numbers)
            apart *= apart
            squares = float(np.add.reduce(apart))
        self._parts[block] = _Part(len(numbers), total, squares, float(numbers[0]), offset)

    def merge(self, other: Moments) -> None:
        """Adds the blocks of another one."""
        self._parts |= other._parts

    @property
    def count(self) -> int:
        """The numbers so far."""
        return sum(part.count for part in self._parts.values())

    def mean_and_deviation(self, origin: int = 0, unit: int = 1) -> tuple[float, float]:
        """Those of the distances from the origin; infinite or NaN if the numbers are too large.

        Origin and offsets are whole numbers, of which a unit of the numbers has `unit`.
        """
        parts = self._in_order()
        count = sum(part.count for part in parts)
        shifts = [(part.offset - origin) / unit for part in parts]
        mean = _sum(part.total + part.count * shift for part, shift in zip(parts, shifts, strict=True)) / count
        apart = [part.total / part.count + shift - mean for part, shift in zip(parts, shifts, strict=True)]
        squares = [part.count * distance * distance for part, distance in zip(parts, apart, strict=True)]
        return mean, math.sqrt(_sum([*(part.squares for part in parts), *squares]) / count)

    def scale(self, origin: int = 0, unit: int = 1) -> Scale:
        """Mean and deviation to standardise by; of numbers that are all the same, the number and 1."""
        mean, deviation = self.mean_and_deviation(origin, unit)
        if math.isfinite(mean) and deviation <= abs(mean) * 1e-12:
            # Constant up to rounding; dividing by such a deviation would amplify the rounding to noise.
            first = self._in_order()[0]
            return Scale(first.first + (first.offset - origin) / unit, 1.0)
        return Scale(mean, deviation)

    def _in_order(self) -> list[_Part]:
        return [self._parts[block] for block in sorted(self._parts)]


def _sum(numbers: Iterable[float]) -> float:
    """The sum, rounded once; infinite or NaN if it is too large."""
    numbers = list(numbers)
    try:
        return math.fsum(numbers)
    except (OverflowError, ValueError):
        return float(np.sum(numbers))


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
