"""The column of times by which rows are split, read in pieces, as numbers that can be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.first_error import first_error
from trainer.data.tables.targets.base import is_missing
from trainer.data.tables.times import are_dates, are_zoned, dates_of, mostly_zoned
from trainer.data.tables.values import are_numbers, cleaned, is_number, is_text, numbers_of
from trainer.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa


class SplitTimes:
    """Numbers as they are, or dates in microseconds; none may be missing."""

    def __init__(self, name: str, *, untyped: bool, where: str) -> None:
        self._name, self._untyped, self._where = name, untyped, where
        self.rows = self.missing = self.first_missing = 0
        self.is_broken = False
        self._kind: tuple[bool, bool] | None = None
        self._parts: list[NDArray[Any]] = []

    @property
    def is_date(self) -> bool:
        """Whether the times are dates."""
        return self._kind is not None and self._kind[0]

    @property
    def zoned(self) -> bool:
        """Whether the dates have a zone."""
        return self._kind is not None and self._kind[1]

    @property
    def times(self) -> NDArray[Any]:
        """The times (rows,), int64 or float64."""
        found = np.concatenate(self._parts) if len(self._parts) > 1 else self._parts[0]
        self._parts = [found]
        return found

    def add(self, values: pa.ChunkedArray) -> None:
        """Adds the values of the next rows, in plain types."""
        missing = is_missing(values)
        if missing.any():
            self.first_missing = self.first_missing if self.missing else self.rows + int(missing.argmax())
            self.missing += int(missing.sum())
        self.rows += len(values)
        if self.missing or self.is_broken or not len(values):
            return
        numeric = self._are_numbers(values)
        kind = (not numeric, not numeric and mostly_zoned(values))
        try:
            self._parts.append(self._read(values, numeric=numeric, zoned=kind[1]))
        except UsageError:
            self.is_broken = True
        self.is_broken = self.is_broken or self._kind not in (None, kind)
        self._kind = kind

    def _are_numbers(self, values: pa.ChunkedArray) -> bool:
        return is_number(values.type) or (self._untyped and is_text(values) and are_numbers(values))

    def _read(self, values: pa.ChunkedArray, *, numeric: bool, zoned: bool) -> NDArray[Any]:
        """The times. Raises UsageError for what is neither."""
        import pyarrow as pa

        name, kind = self._name, values.type
        if numeric:
            return numbers_of(name, values, where=self._where)
        if is_text(values):
            wrong = np.flatnonzero(~are_dates(cleaned(values)))
            if len(wrong):
                raise UsageError(
                    f"{values[int(wrong[0])].as_py()!r} in the column {name!r} of times is neither a date nor a number",
                    where=self._where,
                    row=int(wrong[0]) + 1,
                    fix="Write 2024-01-31 or 2024-01-31T12:30:00, or use another --time column.",
                )
        elif not (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
            raise UsageError(
                f"column {name!r} holds {kind}, which does not say which row is newer",
                where=self._where,
                fix="Use a column of dates, timestamps or numbers.",
            )
        return dates_of(name, values, zoned=zoned, where=self._where).us

    def error(self, again: Callable[[], Iterable[pa.ChunkedArray]]) -> UsageError:
        """The error of a column of which some values are not what others are; reads it twice more."""
        rows = zoned = 0
        numeric = True
        for values in again():
            numeric = numeric and self._are_numbers(values)
            rows += len(values)
            if is_text(values):
                zoned += int(are_zoned(cleaned(values)).sum())
            else:
                zoned += len(values) * mostly_zoned(values)
        mostly = 2 * zoned >= rows

        def check(values: pa.ChunkedArray) -> None:
            self._read(values, numeric=numeric, zoned=mostly)

        before = 0

        def counted() -> Iterable[tuple[pa.ChunkedArray, Callable[[int], int]]]:
            nonlocal before
            for values in again():
                yield values, lambda place, start=before: start + place  # type: ignore[misc]
                before += len(values)

        found = first_error(counted(), check)
        if found is None:
            raise AssertionError("no time is wrong")
        return found
