"""The error of a column that is read in parts, as if all of it had been seen at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

from trainer.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

Check: TypeAlias = "Callable[[pa.ChunkedArray], None]"
"""Raises UsageError for the first value that is wrong."""


def first_error(parts: Iterable[tuple[pa.ChunkedArray, Callable[[int], int]]], check: Check) -> UsageError | None:
    """The error that `check` raises for a column whose values come in parts, as if it saw all of them at once.

    A part is the values and what gives the number in the table of the row at a place. `check` raises for the first
    value that is wrong in the worst way; so does it for the worst one so far together with the next part.
    """
    import pyarrow as pa

    worst: pa.ChunkedArray | None = None
    number, error = -1, None
    for values, number_of in parts:
        before = 0 if worst is None else 1
        both = values if worst is None else pa.chunked_array([*worst.chunks, *values.chunks], values.type)
        try:
            check(both)
        except UsageError as found:
            if found.row is None:
                error = error or found
                continue
            place = found.row - 1
            if place >= before:
                number = number_of(place - before)
                worst = values.slice(place - before, 1)
            error = UsageError(found.what, where=found.where, fix=found.fix, row=number + 1)
    return error
