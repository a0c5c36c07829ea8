"""Durations: their seconds, standardised by the training rows; a missing one becomes their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.blocks import Span
from trainer.data.tables.kinds.base import Counts, Moments, OneInput, Scale, all_missing
from trainer.data.tables.moments import SECOND_US, duration_text
from trainer.data.tables.times import are_durations, durations_of

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Duration(OneInput):
    """A column of durations. `scale` has the mean and the deviation of the training rows in seconds."""

    scale: Scale
    standardize: bool = True
    """Whether the net gets (seconds - mean) / deviation instead of the seconds."""
    kind: Literal["duration"] = "duration"

    @staticmethod
    def stores(kind: Any) -> bool:
        """Whether an Arrow type is durations."""
        import pyarrow as pa

        return bool(pa.types.is_duration(kind))

    are_read = staticmethod(are_durations)

    @property
    def scales(self) -> list[Scale]:
        """Mean and deviation in seconds, if the input is standardised."""
        return [self.scale if self.standardize else Scale()]

    def encode(self, values: pa.ChunkedArray, target: NDArray[np.float32], *, where: str) -> Counts:
        """Writes the input of each row to `target` (rows, 1). Raises UsageError for anything else than durations."""
        times = durations_of(self.name, values, where=where)
        target[:, 0] = self.scale.scaled(times.as_numbers(SECOND_US), standardize=self.standardize)
        return Counts(int(times.missing.sum()))

    def axis(self, values: pa.ChunkedArray, *, where: str) -> NDArray[np.float64]:
        """The seconds, NaN for a missing value."""
        return durations_of(self.name, values, where=where).as_numbers(SECOND_US)

    def written(self, place: float) -> str:
        """Seconds as a duration."""
        return duration_text(round(place * SECOND_US))

    def check(self) -> str | None:
        """What is wrong with values that were read from a file, or None."""
        return None if self.scale.is_usable else f"column {self.name!r} has no usable mean and deviation"


class DurationSurvey:
    """What is learned from a column of durations."""

    def __init__(self, name: str, *, standardize: bool, where: str) -> None:
        self.name, self.standardize, self.where = name, standardize, where
        self._moments = Moments()

    @classmethod
    def of(
        cls,
        name: str,
        values: pa.ChunkedArray,  # noqa: ARG003  the kinds that are told by a type or a notation have the same call
        *,
        standardize: bool,
        where: str,
    ) -> DurationSurvey:
        """An empty survey of a column."""
        return DurationSurvey(name, standardize=standardize, where=where)

    def empty(self) -> DurationSurvey:
        """Another one of the same column."""
        return DurationSurvey(self.name, standardize=self.standardize, where=self.where)

    def add(self, values: pa.ChunkedArray, spans: Sequence[Span]) -> None:
        """Raises UsageError for anything else than durations."""
        times = durations_of(self.name, values, where=self.where)
        for block, start, stop in spans:
            self._moments.add(block, times.us[start:stop][~times.missing[start:stop]] / SECOND_US)

    def merge(self, other: DurationSurvey) -> None:
        """Adds what another one found in other blocks."""
        self._moments.merge(other._moments)

    def learned(self) -> Duration:
        """Raises UsageError for a column without a duration."""
        if not self._moments.count:
            raise all_missing(self.name, self.where)
        return Duration(self.name, self._moments.scale(), self.standardize)
