"""Rows of a table that are read together, and those of them that are learned from or encoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.blocks import Span, spans, spans_of
from trainer.data.tables.values import Indices, column_of, of_text

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Part:
    """Consecutive rows of a table, from row `first` on, and which of them are chosen: numbers from 0 in the part.

    All rows are if it is None. The rows are whole blocks of the table.
    """

    table: pa.Table
    first: int = 0
    rows: Indices | None = None

    @classmethod
    def of(cls, table: pa.Table, rows: Indices | None = None) -> Part:
        """A whole table, or its `rows` (n,)."""
        return cls(table, 0, rows)

    def __len__(self) -> int:
        return int(self.table.num_rows if self.rows is None else len(self.rows))

    @cached_property
    def spans(self) -> Sequence[Span]:
        """The blocks of the chosen rows."""
        return spans(self.first, self.table.num_rows) if self.rows is None else spans_of(self.rows, self.first)

    def values(self, name: str) -> pa.ChunkedArray:
        """Their values of a column, in plain types."""
        return column_of(self.table, name, self.rows)

    def numbers(self, name: str) -> NDArray[np.float64] | None:
        """The numbers that a column of text holds, NaN if missing; None if a value is not a number."""
        if self.rows is not None:
            # Numbers are taken faster than texts.
            numbers = of_text(column_of(self.table, name), truth=False)
            if numbers is not None:
                return numbers[self.rows]
        return of_text(self.values(name), truth=False)

    @property
    def row_numbers(self) -> Indices:
        """The numbers in the whole table, from 0, of the chosen rows."""
        return self.first + (np.arange(self.table.num_rows) if self.rows is None else self.rows)

    def number(self, place: int) -> int:
        """The number in the whole table, from 0, of the row at a place among the chosen ones."""
        return self.first + (place if self.rows is None else int(self.rows[place]))

    def of_rows(self, rows: Indices) -> Part:
        """The same part with those of some rows of the whole table, in ascending order, that are in it."""
        begin, end = np.searchsorted(rows, (self.first, self.first + self.table.num_rows)).tolist()
        return Part(self.table, self.first, rows[begin:end] - self.first)
