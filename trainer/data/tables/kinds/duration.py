"""Durations: their seconds, standardised by the training rows; a missing one becomes their mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.kinds.base import Counts, OneInput, Scale, all_missing
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

    @classmethod
    def learn(cls, name: str, values: pa.ChunkedArray, *, standardize: bool, where: str) -> Duration:
        """Learns from the training rows. Raises UsageError for anything else than durations."""
        times = durations_of(name, values, where=where)
        if times.missing.all():
            raise all_missing(name, where)
        return cls(name, Scale.of(times.present / SECOND_US), standardize)

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
