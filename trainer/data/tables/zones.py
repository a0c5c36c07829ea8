"""What the clocks of a time zone show."""

from __future__ import annotations

import datetime as dt
import re
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.moments import DAY_US, SECOND_US
from trainer.errors import UsageError

UTC = "UTC"
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)?", re.ASCII)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
_FIRST_DAY, _LAST_DAY = ((dt.date(year, 1, 2) - _EPOCH.date()).days for year in (1, 9999))
"""Beyond them, a zone's offset is that of these days."""
_DAY_SECONDS = 86_400


def wall_clock(name: str, us: NDArray[np.int64], zone: str | None, *, where: str) -> NDArray[np.int64]:
    """Microseconds since 1970 in UTC as those that the zone's clocks show; None and UTC change nothing.

    Costs two looks at the zone for each different day. Arrow's own conversion knows no summer time after 2037. Raises
    UsageError for a zone that is not known.
    """
    if zone is None or zone == UTC:
        return us
    try:
        found = _zone(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageError(
            f"the time zone {zone!r} of column {name!r} is not known here",
            where=where,
            fix="Correct its name, or install the system's time zones (the package tzdata).",
        ) from error
    days, places = np.unique(us // DAY_US, return_inverse=True)
    local = us.copy()
    offsets = np.array([_day(found, int(day)) for day in days], np.int64).reshape(-1, 3)
    before, after, changes = offsets.T
    changed = us - days[places] * DAY_US >= changes[places]
    local += np.where(changed, after[places], before[places])
    return local


@cache
def _zone(zone: str) -> dt.tzinfo:
    offset = _OFFSET.fullmatch(zone)
    if offset is None:
        return ZoneInfo(zone)
    size = dt.timedelta(hours=int(offset[2]), minutes=int(offset[3] or 0))
    return dt.timezone(-size if offset[1] == "-" else size)


def _day(zone: dt.tzinfo, day: int) -> tuple[int, int, int]:
    """The offset at the start and at the end of a day in UTC, and when in it the change is, in microseconds."""
    start = min(max(day, _FIRST_DAY), _LAST_DAY) * _DAY_SECONDS
    before, after = _offset(zone, start), _offset(zone, start + _DAY_SECONDS - 1)
    low, high = 0, _DAY_SECONDS - 1
    while before != after and high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset(zone, start + middle) == before else (low, middle)
    return before, after, high * SECOND_US


def _offset(zone: dt.tzinfo, seconds: int) -> int:
    """The offset from UTC at a time in seconds since 1970, in microseconds."""
    offset = (_EPOCH + dt.timedelta(seconds=seconds)).astimezone(zone).utcoffset()
    assert offset is not None  # noqa: S101  the time has a zone
    return offset // dt.timedelta(microseconds=1)
