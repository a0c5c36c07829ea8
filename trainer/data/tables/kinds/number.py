"""Numbers: standardised by the training rows; a missing one becomes their mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.blocks import Span
from trainer.data.tables.kinds.base import Counts, Moments, OneInput, Scale, all_missing
from trainer.data.tables.values import numbers_of, refuse_infinite, stored_numbers
from trainer.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

EXACT = 2.0**53
"""Below it, float64 has all whole numbers."""
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Number(OneInput):
    """A column of numbers. `mean` and `deviation` are those of the training rows, in the column's unit."""

    mean: float = 0.0
    deviation: float = 1.0
    standardize: bool = True
    """Whether the net gets (value - mean) / deviation instead of the value."""
    zero_one: bool = False
    """Whether all training values are 0 or 1: then true and false are those."""
    kind: Literal["number"] = "number"

    @property
    def scales(self) -> list[Scale]:
        """Mean and deviation, if the input is standardised."""
        return [Scale(self.mean, self.deviation) if self.standardize else Scale()]

    def encode(self, values: pa.ChunkedArray, target: NDArray[np.float32], *, where: str) -> Counts:
        """Writes the input of each row to `target` (rows, 1).

        Raises UsageError for text, infinity, and numbers beyond float32.
        """
        numbers = stored_numbers(self.name, values, where=where, truth=self.zero_one)
        missing, (low, high) = 0, _bounds(numbers)
        # NaN and infinity show in the bounds: two looks at numbers that have neither.
        if not (math.isfinite(low) and math.isfinite(high)):
            refuse_infinite(self.name, numbers, where=where)
            absent = np.isnan(numbers)
            missing = int(np.count_nonzero(absent))
            numbers = np.where(absent, self.mean, numbers)
            low, high = _bounds(numbers)
        if self.standardize:
            # The bounds stay bounds: both operations keep the order of numbers, also in floating point.
            low, high = (low - self.mean) / self.deviation, (high - self.mean) / self.deviation
            with np.errstate(over="ignore") if max(high, -low) > LARGEST else nullcontext():
                numbers = numbers - self.mean
                numbers /= self.deviation
        if max(high, -low) > LARGEST:
            raise UsageError(
                f"column {self.name!r} is too large for a 32-bit number",
                row=int(np.argmax(np.abs(numbers) > LARGEST)) + 1,
                where=where,
                fix="Scale the column down, or correct the value.",
            )
        target[:, 0] = numbers
        return Counts(missing)

    def axis(self, values: pa.ChunkedArray, *, where: str) -> NDArray[np.float64]:
        """The numbers, NaN for a missing one."""
        return numbers_of(self.name, values, where=where, truth=self.zero_one)

    def written(self, place: float) -> str:
        """A number as it is written; a fraction in six digits."""
        whole = place.is_integer() or abs(place) >= 1e6
        return f"{place:.0f}" if whole and abs(place) < EXACT else f"{place:.6g}"

    def check(self) -> str | None:
        """What is wrong with values that were read from a file, or None."""
        usable = Scale(self.mean, self.deviation).is_usable
        return None if usable else f"column {self.name!r} has no usable mean and deviation"


def _bounds(numbers: NDArray[np.float64]) -> tuple[float, float]:
    """The smallest and the largest number, NaN if there is one."""
    return (float(np.minimum.reduce(numbers)), float(np.maximum.reduce(numbers))) if len(numbers) else (0.0, 0.0)


class NumberSurvey:
    """What is learned from a column of numbers, of which the training rows come in pieces of whole blocks."""

    def __init__(self, name: str, *, standardize: bool, where: str) -> None:
        self.name, self.standardize, self.where = name, standardize, where
        self.moments = Moments()
        self._zero_one = True

    def add(self, values: pa.ChunkedArray, spans: Sequence[Span]) -> None:
        """Raises UsageError for text, and for infinity."""
        self.add_numbers(stored_numbers(self.name, values, where=self.where), spans)

    def add_numbers(self, numbers: NDArray[np.float64], spans: Sequence[Span]) -> None:
        """Adds what the values are as numbers, NaN if missing. Raises UsageError for infinity."""
        for block, start, stop in spans:
            part = numbers[start:stop]
            low, high = _bounds(part)
            if not (math.isfinite(low) and math.isfinite(high)):
                refuse_infinite(self.name, numbers, where=self.where)
                part = part[~np.isnan(part)]
                low, high = _bounds(part)
            self._zero_one = self._zero_one and low >= 0 and high <= 1 and bool(np.isin(part, (0, 1)).all())
            self.moments.add(block, part)

    def merge(self, other: NumberSurvey) -> None:
        """Adds what another one found in other blocks."""
        self.moments.merge(other.moments)
        self._zero_one = self._zero_one and other._zero_one

    def learned(self) -> Number:
        """Raises UsageError for a column without a number, and for numbers without a finite mean and deviation."""
        if not self.moments.count:
            raise all_missing(self.name, self.where)
        scale = self.moments.scale()
        if not scale.is_usable:
            raise UsageError(
                f"the numbers of column {self.name!r} are too large for a mean and a deviation",
                where=self.where,
                fix=f"Scale them down, or add --ignore {self.name}.",
            )
        return Number(self.name, scale.mean, scale.deviation, self.standardize, self._zero_one)
