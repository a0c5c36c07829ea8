"""Times of day: a place on the circle of a day, as sine and cosine; a missing one is 0 in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.blocks import Span
from trainer.data.tables.kinds.base import Counts, Scale, all_missing
from trainer.data.tables.moments import DAY_US, SECOND_US
from trainer.data.tables.times import are_times, time_text, times_of

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class TimeOfDay:
    """A column of times of day: 23:59 is next to 00:00."""

    name: str
    kind: Literal["time"] = "time"

    @staticmethod
    def stores(kind: Any) -> bool:
        """Whether an Arrow type is times of day."""
        import pyarrow as pa

        return bool(pa.types.is_time(kind))

    are_read = staticmethod(are_times)

    @property
    def width(self) -> int:
        """The number of net inputs."""
        return 2

    @property
    def feature_names(self) -> list[str]:
        """The names of the inputs, such as `opens.sin`."""
        return [f"{self.name}.sin", f"{self.name}.cos"]

    @property
    def scales(self) -> list[Scale]:
        """The inputs are not standardised."""
        return [Scale()] * self.width

    def encode(self, values: pa.ChunkedArray, target: NDArray[np.float32], *, where: str) -> Counts:
        """Writes the inputs of each row to `target` (rows, 2). Raises UsageError for anything else than times."""
        times = times_of(self.name, values, where=where)
        write_circle(times.us / DAY_US, ~times.missing, target)
        return Counts(int(times.missing.sum()))

    def axis(self, values: pa.ChunkedArray, *, where: str) -> NDArray[np.float64]:
        """The seconds since midnight, NaN for a missing value."""
        return times_of(self.name, values, where=where).as_numbers(SECOND_US)

    def written(self, place: float) -> str:
        """Seconds as a time."""
        return time_text(round(place * SECOND_US))

    def check(self) -> str | None:
        """Nothing is learned that could be wrong."""
        return None


class TimeSurvey:
    """Checks a column of times of day; there is nothing to standardise."""

    def __init__(self, name: str, *, where: str) -> None:
        self.name, self.where = name, where
        self._present = 0

    @classmethod
    def of(
        cls,
        name: str,
        values: pa.ChunkedArray,  # noqa: ARG003  the kinds that are told by a type or a notation have the same call
        *,
        standardize: bool,  # noqa: ARG003
        where: str,
    ) -> TimeSurvey:
        """An empty survey of a column."""
        return TimeSurvey(name, where=where)

    def empty(self) -> TimeSurvey:
        """Another one of the same column."""
        return TimeSurvey(self.name, where=self.where)

    def add(self, values: pa.ChunkedArray, spans: Sequence[Span]) -> None:
        """Raises UsageError for anything else than times of day."""
        self._present += int(np.count_nonzero(~times_of(self.name, values, where=self.where).missing))

    def merge(self, other: TimeSurvey) -> None:
        """Adds what another one found."""
        self._present += other._present

    def learned(self) -> TimeOfDay:
        """Raises UsageError for a column without a time."""
        if not self._present:
            raise all_missing(self.name, self.where)
        return TimeOfDay(self.name)


def write_circle(turns: NDArray[np.float64], present: NDArray[np.bool_], target: NDArray[np.float32]) -> None:
    """Writes sine and cosine of places on a circle, in turns, to `target` (rows, 2); 0 and 0 for missing ones."""
    angles = 2 * np.pi * turns
    target[:, 0] = np.where(present, np.sin(angles), 0)
    target[:, 1] = np.where(present, np.cos(angles), 0)
