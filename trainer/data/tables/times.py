"""Stored dates, times and durations as whole microseconds, whatever their type or spelling."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.moments import DATE, DURATIONS, NO_DURATION, TIME, UNITS_US, ZONED
from trainer.data.tables.values import cleaned, is_text
from trainer.data.tables.zones import UTC
from trainer.errors import UsageError, first_line

if TYPE_CHECKING:
    import pyarrow as pa

FIRST_US, END_US = (int(np.datetime64(year, "us").astype(np.int64)) for year in ("0001-01-01", "10000-01-01"))
"""The beginning of the year 1, and the end of 9999."""
OTHERWISE = "or add --categorical {name} or --ignore {name}"


class Times(NamedTuple):
    """Microseconds (n,), and which of them are missing; those are 0."""

    us: NDArray[np.int64]
    missing: NDArray[np.bool_]

    @property
    def present(self) -> NDArray[np.int64]:
        """The microseconds that are not missing."""
        return self.us[~self.missing]

    def as_numbers(self, divisor: float) -> NDArray[np.float64]:
        """The microseconds over the divisor, NaN for missing ones."""
        numbers: NDArray[np.float64] = np.where(self.missing, np.nan, self.us / divisor)
        return numbers


# ---- text -----------------------------------------------------------------------------------------------------------


def matches(text: pa.ChunkedArray, *patterns: str) -> NDArray[np.bool_]:
    """Which of the cleaned texts match one of the patterns; False for missing ones."""
    from pyarrow import compute

    found = np.zeros(len(text), bool)
    for pattern in patterns:
        each = compute.fill_null(compute.match_substring_regex(text, pattern), False)
        found |= each.to_numpy(zero_copy_only=False).astype(bool)
    return found


def are_dates(text: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which of the cleaned texts are dates or timestamps."""
    return matches(text, DATE)


def are_times(text: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which of the cleaned texts are times of day."""
    return matches(text, TIME)


def are_durations(text: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which of the cleaned texts are durations."""
    return matches(text, *DURATIONS) & ~matches(text, NO_DURATION)


def are_zoned(text: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which of the cleaned texts are timestamps with an offset from UTC."""
    return matches(text, ZONED)


def mostly_zoned(values: pa.ChunkedArray) -> bool:
    """Whether at least half of the timestamps have a zone, or an offset from UTC."""
    if not is_text(values):
        return getattr(values.type, "tz", None) is not None
    text = cleaned(values)
    return bool(2 * matches(text, ZONED).sum() >= max(len(text) - text.null_count, 1))


def _first(name: str, text: pa.ChunkedArray, wrong: NDArray[np.bool_], what: str, *, where: str, fix: str) -> None:
    """Raises UsageError for the first wrong row, if there is one; `what` says it after the value."""
    rows = np.flatnonzero(wrong)
    if len(rows):
        row = int(rows[0])
        fix = f"{fix}, {OTHERWISE.format(name=name)}."
        raise UsageError(f"{text[row].as_py()!r} {what}", row=row + 1, where=where, fix=fix)


def _nulls(values: pa.ChunkedArray) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.asarray(values.is_null().to_numpy(zero_copy_only=False)).astype(bool)
    return found


# ---- what is stored, as microseconds --------------------------------------------------------------------------------


def dates_of(name: str, values: pa.ChunkedArray, *, zoned: bool, where: str) -> Times:
    """Dates and timestamps as microseconds since 1970, in UTC if they are `zoned`.

    Raises UsageError for other values, and for timestamps with and without a zone in one column.
    """
    import pyarrow as pa

    if is_text(values):
        return _dates_of_text(name, values, zoned=zoned, where=where)
    kind = values.type
    if pa.types.is_null(kind):
        return _all_missing(len(values))
    if not (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
        raise UsageError(f"column {name!r} holds {kind}, not dates", where=where, fix="Write dates as 2024-01-31.")
    if (getattr(kind, "tz", None) is not None) != zoned:
        this, others, fix = ("no zone", "one", "Give it a zone, such as UTC.") if zoned else (
            "a zone", "none", "Convert it to the wall-clock time of the training rows.")  # fmt: skip
        raise UsageError(
            f"column {name!r} holds {kind}, with {this}, and the training rows have {others}", where=where, fix=fix
        )
    return _within_calendar(name, _micros(name, values, where=where), where=where)


def _dates_of_text(name: str, values: pa.ChunkedArray, *, zoned: bool, where: str) -> Times:
    import pyarrow as pa
    from pyarrow import compute

    text = cleaned(values)
    missing = _nulls(text)
    form = "2024-01-31T12:30:00Z" if zoned else "2024-01-31 or 2024-01-31T12:30:00"
    _first(name, text, ~matches(text, DATE) & ~missing, f"in the column {name!r} of dates", where=where,
           fix=f"Write {form}")  # fmt: skip
    with_offset = matches(text, ZONED)
    this, others = ("no offset", "one") if zoned else ("an offset", "none")
    _first(name, text, (with_offset != zoned) & ~missing,
           f"in the column {name!r} of dates has {this} from UTC, and others have {others}", where=where,
           fix="Write the offset, such as Z, everywhere or nowhere")  # fmt: skip
    # A microsecond is the finest that is kept.
    short = compute.replace_substring_regex(text, r"(\.\d{6})\d+", r"\1")
    try:
        stamps = compute.cast(short, pa.timestamp("us", UTC if zoned else None))
    except pa.ArrowInvalid as error:
        days = [value is not None and not _is_a_day(value) for value in text.to_pylist()]
        what = f"in the column {name!r} is not a day of the calendar"
        _first(name, text, np.array(days), what, where=where, fix="Correct it")
        raise UsageError(f"column {name!r} cannot be read as dates: {first_line(error)}", where=where) from error
    # An offset may lead into the year 0 or 10000.
    return _within_calendar(name, _micros(name, stamps, where=where), where=where)


def _is_a_day(text: str) -> bool:
    try:
        dt.date.fromisoformat(text[:10])
    except ValueError:
        return False
    return True


def times_of(name: str, values: pa.ChunkedArray, *, where: str) -> Times:
    """Times of day as microseconds since midnight. Raises UsageError for other values."""
    import pyarrow as pa
    from pyarrow import compute

    if is_text(values):
        text = cleaned(values)
        wrong = ~matches(text, TIME) & ~_nulls(text)
        _first(name, text, wrong, f"in the column {name!r} of times of day", where=where, fix="Write 08:30 or 08:30:00")
        short = compute.replace_substring_regex(text, r"(\.\d{6})\d+", r"\1")
        on_a_day = compute.binary_join_element_wise("1970-01-01", short, " ")
        return _micros(name, compute.cast(on_a_day, pa.timestamp("us")), where=where)
    is_time = pa.types.is_time(values.type)
    return _typed(name, values, "times of day", is_kind=is_time, where=where, fix="Write times as 08:30:00.")


def durations_of(name: str, values: pa.ChunkedArray, *, where: str) -> Times:
    """Durations as microseconds. Raises UsageError for other values."""
    import pyarrow as pa

    if is_text(values):
        text = cleaned(values)
        wrong = ~are_durations(text) & ~_nulls(text)
        what = f"in the column {name!r} of durations"
        _first(name, text, wrong, what, where=where, fix="Write PT1H30M or 0 days 01:30:00")
        return Times(_durations_of_text(text), _nulls(text))
    is_duration = pa.types.is_duration(values.type)
    return _typed(name, values, "durations", is_kind=is_duration, where=where, fix="Write durations as PT1H30M.")


def _typed(name: str, values: pa.ChunkedArray, what: str, *, is_kind: bool, where: str, fix: str) -> Times:
    """The microseconds of a column that is not text. Raises UsageError unless its type is that of the kind."""
    import pyarrow as pa

    if pa.types.is_null(values.type):
        return _all_missing(len(values))
    if not is_kind:
        raise UsageError(f"column {name!r} holds {values.type}, not {what}", where=where, fix=fix)
    return _micros(name, values, where=where)


def _durations_of_text(text: pa.ChunkedArray) -> NDArray[np.int64]:
    """The microseconds of texts that are durations or missing."""
    import pyarrow as pa
    from pyarrow import compute

    total = np.zeros(len(text), np.int64)
    for pattern in DURATIONS:
        if not matches(text, pattern).any():
            continue
        parts = pa.chunked_array([pa.concat_arrays(compute.extract_regex(text, pattern).chunks)]).chunk(0).flatten()
        names = [field.name for field in compute.extract_regex(text.slice(0, 0), pattern).type]
        found = dict(zip(names, parts, strict=True))

        def number(part: str, found: dict[str, Any] = found) -> NDArray[np.int64]:
            if part not in found:
                return np.zeros(len(text), np.int64)
            digits = compute.fill_null(found[part], "")
            if part == "fraction":
                digits = compute.utf8_slice_codeunits(compute.utf8_rpad(digits, 6, "0"), 0, 6)
            digits = compute.if_else(compute.equal(digits, ""), "0", digits)
            numbers: NDArray[np.int64] = compute.cast(digits, pa.int64()).to_numpy(zero_copy_only=False)
            return numbers

        clock = number("fraction") + sum(number(part) * UNITS_US[part] for part in ("hours", "minutes", "seconds"))
        days = sum(number(part) * UNITS_US[part] for part in ("weeks", "days"))
        negative = _equals(found["sign"], "-")
        # pandas writes a day less and the rest of it: -1 days +23:00:00 is -1 hour.
        onwards = _equals(found["inner"], "+") if "inner" in found else np.zeros(len(text), bool)
        total += np.where(negative, -days, days) + np.where(negative & ~onwards, -clock, clock)
    return total


def _equals(values: Any, word: str) -> NDArray[np.bool_]:
    from pyarrow import compute

    found: NDArray[np.bool_] = compute.fill_null(compute.equal(values, word), False).to_numpy(zero_copy_only=False)
    return found.astype(bool)


def _micros(name: str, values: pa.ChunkedArray, *, where: str) -> Times:
    """Values of a type of dates, times or durations in whole microseconds, rounded down."""
    import pyarrow as pa
    from pyarrow import compute

    kind = values.type
    missing = _nulls(values)
    try:
        if getattr(kind, "unit", "") != "ns":
            plain = {pa.types.is_time: pa.time64("us"), pa.types.is_duration: pa.duration("us")}
            target = next((unit for is_kind, unit in plain.items() if is_kind(kind)), None)
            values = compute.cast(values, target or pa.timestamp("us", getattr(kind, "tz", None)))
    except pa.ArrowInvalid as error:
        raise UsageError(f"column {name!r} has values that are too large: {first_line(error)}", where=where) from error
    whole = compute.fill_null(compute.cast(values, pa.int64()), 0).to_numpy(zero_copy_only=False)
    return Times(whole // 1000 if getattr(kind, "unit", "") == "ns" else whole, missing)


def _within_calendar(name: str, times: Times, *, where: str) -> Times:
    """The dates. Raises UsageError for one that is not of the years 1 to 9999."""
    rows = np.flatnonzero((times.us < FIRST_US) | (times.us >= END_US))
    if len(rows):
        raise UsageError(
            f"column {name!r} has a date beyond the years 1 to 9999",
            row=int(rows[0]) + 1,
            where=where,
            fix="Correct it, or leave the field empty.",
        )
    return times


def _all_missing(size: int) -> Times:
    return Times(np.zeros(size, np.int64), np.ones(size, bool))


def date_text(us: int, *, zoned: bool = False) -> str:
    """Microseconds since 1970 as a date, or as a timestamp if it is not midnight."""
    text = np.datetime_as_string(np.datetime64(us, "us"))
    day, _, clock = str(text).partition("T")
    clock = (clock.rstrip("0").rstrip(".") if "." in clock else clock).ljust(8, "0")
    return day if clock == "00:00:00" and not zoned else f"{day} {clock}{'Z' if zoned else ''}"


def time_text(us: int) -> str:
    """Microseconds since midnight as a time of day."""
    return f"{date_text(us)[11:]}" or "00:00:00"
