"""Dates, times and durations as text: which text is one, and the text that all spellings of one share."""

from __future__ import annotations

import datetime as dt
import re
from contextlib import suppress

DAY_US = 86_400_000_000
SECOND_US = 1_000_000
_YEAR = r"(?:[1-9]\d{3}|0[1-9]\d\d|00[1-9]\d|000[1-9])"
_DATE = rf"{_YEAR}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,9})?)?"
_OFFSET = r"(?:Z|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)"
DATE = rf"^{_DATE}(?:[ T]{_TIME}{_OFFSET}?)?$"
"""Text that is a date or a timestamp, for RE2 and Python: ISO 8601, with or without an offset from UTC."""
ZONED = rf"^{_DATE}[ T]{_TIME}{_OFFSET}$"
"""Text that is a timestamp with an offset from UTC."""
TIME = rf"^{_TIME}$"
"""Text that is a time of day."""
_ISO_DURATION = (
    r"(?P<sign>[+-]?)P(?:(?P<weeks>\d{1,6})W)?(?:(?P<days>\d{1,7})D)?"
    r"(?:T(?:(?P<hours>\d{1,8})H)?(?:(?P<minutes>\d{1,10})M)?(?:(?P<seconds>\d{1,12})(?:\.(?P<fraction>\d{1,9}))?S)?)?"
)
_PANDAS_DURATION = (
    r"(?P<sign>-?)(?P<days>\d{1,7}) days?"
    r"(?: (?P<inner>[+-]?)(?P<hours>\d\d):(?P<minutes>[0-5]\d):(?P<seconds>[0-5]\d)(?:\.(?P<fraction>\d{1,9}))?)?"
)
DURATIONS = (f"^{_ISO_DURATION}$", f"^{_PANDAS_DURATION}$")
"""Text that is a duration, as ISO 8601 and as pandas write it. `P` and `PT` alone match too: see `NO_DURATION`."""
NO_DURATION = r"^[+-]?P.*T$|^[+-]?P$"
"""Text without a part of a duration where one has to be."""
UNITS_US = {"weeks": 7 * DAY_US, "days": DAY_US, "hours": 3_600_000_000, "minutes": 60_000_000, "seconds": SECOND_US}
"""Microseconds of the parts of a duration."""
_MOMENT = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)?(?P<gap>[ T])?(?P<time>\d\d:\d\d(?::\d\d)?)?(?:\.(?P<fraction>\d{1,9}))?"
    r"(?P<zone>Z|[+-]\d\d:?\d\d)?",
    re.ASCII,
)
_DURATIONS = [re.compile(each, re.ASCII) for each in DURATIONS]
_NO_DURATION = re.compile(NO_DURATION, re.ASCII)


def moment_key(text: str) -> str | None:
    """The text that all spellings of a date, a time or a duration share; None if it is none of them in ISO form.

    `2020-01-01T08:00Z` and `2020-01-01T09:00+01:00` are `2020-01-01 08:00:00+00:00`. Midnight without a zone is the
    date alone.
    """
    found = _MOMENT.fullmatch(text)
    if found is None or not text:
        return _duration_key(text)
    if bool(found["gap"]) != bool(found["date"] and found["time"]):
        return None
    if not (found["date"] or found["time"]) or ((found["fraction"] or found["zone"]) and not found["time"]):
        return None
    time = found["time"] or ""
    if time:
        fraction = (found["fraction"] or "").rstrip("0")
        time = (time if time.count(":") == 2 else f"{time}:00") + (f".{fraction}" if fraction else "")
    zone = (found["zone"] or "").replace("Z", "+00:00")
    zone = zone if ":" in zone or not zone else f"{zone[:3]}:{zone[3:]}"
    if found["date"] and zone:
        with suppress(ValueError, OverflowError):
            return _in_utc(found["date"], time, zone)
    if found["date"] and not zone and time in ("", "00:00:00"):
        return found["date"]
    return " ".join(part for part in (found["date"], time + zone) if part)


def _in_utc(date: str, time: str, zone: str) -> str:
    """A timestamp in UTC. Raises ValueError for a date or an offset that there is not."""
    clock, point, fraction = time.partition(".")
    moment = dt.datetime.fromisoformat(f"{date} {clock}{zone}").astimezone(dt.timezone.utc)
    return f"{moment.date().isoformat()} {moment:%H:%M:%S}{point}{fraction}+00:00"


def _duration_key(text: str) -> str | None:
    for pattern in _DURATIONS:
        found = pattern.fullmatch(text)
        if found is not None and not _NO_DURATION.fullmatch(text):
            parts = found.groupdict()
            clock = sum(int(parts.get(part) or 0) * UNITS_US[part] for part in ("hours", "minutes", "seconds"))
            clock += int((parts["fraction"] or "").ljust(6, "0")[:6])
            days = sum(int(parts.get(part) or 0) * UNITS_US[part] for part in ("weeks", "days"))
            if parts["sign"] == "-":
                # pandas writes a day less and the rest of it: -1 days +23:00:00 is -1 hour.
                days, clock = -days, clock if parts.get("inner") == "+" else -clock
            return duration_text(days + clock)
    return None


def duration_text(us: int) -> str:
    """A duration in microseconds as ISO 8601 writes it: `P1DT2H30M`, `-PT0.5S`."""
    days, rest = divmod(abs(us), DAY_US)
    hours, rest = divmod(rest, UNITS_US["hours"])
    minutes, rest = divmod(rest, UNITS_US["minutes"])
    seconds, rest = divmod(rest, UNITS_US["seconds"])
    exact = f"{seconds}.{rest:06d}".rstrip("0") if rest else str(seconds)
    clock = "".join(f"{value}{unit}" for value, unit in ((hours, "H"), (minutes, "M"), (exact, "S")) if value not in
                    (0, "0"))  # fmt: skip
    text = (f"{days}D" if days else "") + (f"T{clock}" if clock else "")
    return f"{'-' if us < 0 else ''}P{text or 'T0S'}"
