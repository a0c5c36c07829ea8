"""Columns of text that hold numbers, read as numbers once, before they are learned from and encoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.data.tables.values import FIRST_ROWS, is_text, of_text

if TYPE_CHECKING:
    import pyarrow as pa


def with_numbers(table: pa.Table, name: str) -> pa.Table:
    """The table with a column of text as float64, NaN for a missing value, if it holds nothing but numbers.

    A number in a text means the same in every row, so the rows that are learned from need not be known.
    """
    values = table.column(name)
    numbers = _numbers(values) if is_text(values) else None
    return table if numbers is None else table.set_column(table.column_names.index(name), name, numbers)


def _numbers(values: pa.ChunkedArray) -> pa.ChunkedArray | None:
    import pyarrow as pa

    # The first rows tell of most text, which Arrow's cast takes long to refuse.
    if of_text(values.slice(0, FIRST_ROWS), truth=False) is None:
        return None
    parts = []
    for chunk in values.chunks:
        numbers = of_text(pa.chunked_array([chunk]), truth=False)
        if numbers is None:
            return None
        # A view of Arrow's memory, where the next column takes the place of this one's text.
        parts.append(pa.array(numbers))
    return pa.chunked_array(parts, pa.float64())


def release_unused() -> None:
    """Gives the memory of texts that are numbers now back to the system, for the encoded rows."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
