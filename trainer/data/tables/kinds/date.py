"""Dates and timestamps: parts of the calendar, and the days since the earliest training row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.blocks import Span
from trainer.data.tables.kinds.base import Counts, Moments, Scale, all_missing
from trainer.data.tables.kinds.time import write_circle
from trainer.data.tables.moments import DAY_US, SECOND_US
from trainer.data.tables.times import are_dates, date_text, dates_of, mostly_zoned
from trainer.data.tables.values import is_text
from trainer.data.tables.zones import UTC, wall_clock

if TYPE_CHECKING:
    import pyarrow as pa

Cycle = Literal["month", "weekday", "hour"]
"""Parts that come again: the month of the year, the day of the week, and the hour of the day with its fraction."""


@dataclass(frozen=True)
class Date:
    """A column of dates or timestamps. Of its parts, the net gets those that differ among the training rows.

    Year and days are numbers, standardised as those are, and a missing one becomes the mean. The parts that come again
    are sine and cosine, and 0 for a missing date.
    """

    name: str
    zone: str | None
    """The zone whose clocks and calendar give the parts; None if the dates have no zone, and are taken as they are."""
    start_us: int
    """The earliest training row, in microseconds since 1970, from which the days are counted; in UTC with a zone."""
    days: Scale
    year: Scale | None = None
    """None if all training rows are of one year."""
    cycles: tuple[Cycle, ...] = ()
    standardize: bool = True
    kind: Literal["date"] = "date"

    @staticmethod
    def stores(kind: Any) -> bool:
        """Whether an Arrow type is dates or timestamps."""
        import pyarrow as pa

        return bool(pa.types.is_date(kind) or pa.types.is_timestamp(kind))

    are_read = staticmethod(are_dates)

    @property
    def width(self) -> int:
        """The number of net inputs."""
        return 1 + (self.year is not None) + 2 * len(self.cycles)

    @property
    def feature_names(self) -> list[str]:
        """The names of the inputs, such as `sold.days`, `sold.year` and `sold.month.sin`."""
        parts = ["days", *(["year"] if self.year is not None else [])]
        parts += [f"{cycle}.{wave}" for cycle in self.cycles for wave in ("sin", "cos")]
        return [f"{self.name}.{part}" for part in parts]

    @property
    def scales(self) -> list[Scale]:
        """Those of days and year, if they are standardised; sines and cosines are as they are."""
        numbers = [self.days, *([] if self.year is None else [self.year])]
        return [*(each if self.standardize else Scale() for each in numbers), *[Scale()] * (2 * len(self.cycles))]

    def encode(self, values: pa.ChunkedArray, target: NDArray[np.float32], *, where: str) -> Counts:
        """Writes the inputs of each row to `target` (rows, width). Raises UsageError for anything else than dates."""
        times = dates_of(self.name, values, zoned=self.zone is not None, where=where)
        local = wall_clock(self.name, times.us, self.zone, where=where)
        days = np.where(times.missing, np.nan, (times.us - self.start_us) / DAY_US)
        target[:, 0] = self.days.scaled(days, standardize=self.standardize)
        column = 1
        if self.year is not None:
            years = np.where(times.missing, np.nan, _years(local))
            target[:, 1] = self.year.scaled(years, standardize=self.standardize)
            column = 2
        for cycle in self.cycles:
            write_circle(_turns(local, cycle), ~times.missing, target[:, column : column + 2])
            column += 2
        return Counts(int(times.missing.sum()))

    def axis(self, values: pa.ChunkedArray, *, where: str) -> NDArray[np.float64]:
        """The seconds since 1970, NaN for a missing value."""
        return dates_of(self.name, values, zoned=self.zone is not None, where=where).as_numbers(SECOND_US)

    def written(self, place: float) -> str:
        """Seconds as a date or a timestamp."""
        return date_text(round(place * SECOND_US), zoned=self.zone is not None)

    def check(self) -> str | None:
        """What is wrong with values that were read from a file, or None."""
        usable = self.days.is_usable and (self.year is None or self.year.is_usable)
        if not usable:
            return f"column {self.name!r} has no usable mean and deviation"
        repeated = len(set(self.cycles)) < len(self.cycles)
        if repeated or not -(2**62) < self.start_us < 2**62:
            return f"column {self.name!r} has parts that no date has"
        return None


class DateSurvey:
    """What is learned from a column of dates: moments, the earliest one, and which parts of the calendar differ."""

    def __init__(self, name: str, zone: str | None, *, standardize: bool, where: str) -> None:
        self.name, self.zone, self.standardize, self.where = name, zone, standardize, where
        self._days, self._years = Moments(), Moments()
        self._starts: list[int] = []
        self._bounds: dict[str, tuple[float, float]] = {}

    @classmethod
    def of(cls, name: str, values: pa.ChunkedArray, *, standardize: bool, where: str) -> DateSurvey:
        """An empty survey of a column of which these are some values.

        The zone is theirs, which later values need too; text with an offset is taken in UTC.
        """
        zoned = mostly_zoned(values)
        zone = (UTC if is_text(values) else values.type.tz) if zoned else None
        return DateSurvey(name, zone, standardize=standardize, where=where)

    def empty(self) -> DateSurvey:
        """Another one of the same column."""
        return DateSurvey(self.name, self.zone, standardize=self.standardize, where=self.where)

    def add(self, values: pa.ChunkedArray, spans: Sequence[Span]) -> None:
        """Raises UsageError for anything else than dates, and for a time zone that is not known."""
        times = dates_of(self.name, values, zoned=self.zone is not None, where=self.where)
        for block, begin, stop in spans:
            us = times.us[begin:stop][~times.missing[begin:stop]]
            if not len(us):
                continue
            local = wall_clock(self.name, us, self.zone, where=self.where)
            start, years = int(us.min()), _years(local).astype(np.float64)
            self._starts.append(start)
            self._days.add(block, (us - start) / DAY_US, start)
            self._years.add(block, years)
            for part, each in (("year", years), *((cycle, _turns(local, cycle)) for cycle in get_args(Cycle))):
                self._widen(part, float(each.min()), float(each.max()))

    def _widen(self, part: str, low: float, high: float) -> None:
        known = self._bounds.get(part, (low, high))
        self._bounds[part] = min(known[0], low), max(known[1], high)

    def merge(self, other: DateSurvey) -> None:
        """Adds what another one found in other blocks."""
        self._starts += other._starts
        self._days.merge(other._days)
        self._years.merge(other._years)
        for part, bounds in other._bounds.items():
            self._widen(part, *bounds)

    def learned(self) -> Date:
        """Raises UsageError for a column without a date."""
        if not self._starts:
            raise all_missing(self.name, self.where)
        start = min(self._starts)
        differ = [part for part, (low, high) in self._bounds.items() if low < high]
        return Date(
            self.name,
            self.zone,
            start,
            self._days.scale(start, DAY_US),
            self._years.scale() if "year" in differ else None,
            tuple(cycle for cycle in get_args(Cycle) if cycle in differ),
            self.standardize,
        )


def _years(local_us: NDArray[np.int64]) -> NDArray[np.int64]:
    days = (local_us // DAY_US).astype("datetime64[D]")
    return days.astype("datetime64[Y]").astype(np.int64) + 1970


def _turns(local_us: NDArray[np.int64], cycle: Cycle) -> NDArray[np.float64]:
    """The part of a date as a share of its cycle: 0 for January, Monday and midnight."""
    if cycle == "hour":
        return (local_us % DAY_US) / DAY_US
    days = local_us // DAY_US
    if cycle == "weekday":
        # The first of January 1970 was a Thursday.
        return ((days + 3) % 7) / 7
    months = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    return (months % 12) / 12
