"""Labels that are numbers, read in pieces, with the first row of everything that may be wrong with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.blocks import BLOCK_ROWS
from trainer.data.tables.targets.base import missing_label
from trainer.data.tables.values import cleaned, is_number, is_text, of_text, reads_as_numbers, stored_numbers
from trainer.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

LARGEST = float(np.finfo(np.float32).max)


class NumberLabels:
    """The labels as float32, of text, too. Rows are counted from 0 in the whole table.

    `without_missing` leaves out rows whose label is missing, unless all are.
    """

    def __init__(self, *, without_missing: bool = False) -> None:
        self.kind: Any = None
        self.rows = self.missing = self.stray = 0
        self.first_missing: int | None = None
        self.first_stray: tuple[int, str] = (0, "")
        """The first text that is not a number."""
        self.first_infinite: int | None = None
        self.first_negative: tuple[int, float] | None = None
        self.first_too_large: int | None = None
        self._without_missing = without_missing
        self._parts: list[NDArray[np.float32]] = []

    @classmethod
    def of(cls, name: str, values: pa.ChunkedArray, *, where: str) -> NumberLabels:
        """The labels of a column in plain types."""
        labels = cls()
        labels.add(name, values, 0, where=where)
        return labels

    @property
    def is_text(self) -> bool:
        """Whether the labels are stored as text."""
        import pyarrow as pa

        return bool(pa.types.is_string(self.kind))

    @property
    def is_null(self) -> bool:
        """Whether the column's type has no values."""
        import pyarrow as pa

        return bool(pa.types.is_null(self.kind))

    @property
    def present(self) -> int:
        """The labels that are not missing."""
        return self.rows - self.missing

    @property
    def is_filtered(self) -> bool:
        """Whether missing labels are left out of the numbers."""
        return self._without_missing and 0 < self.missing < self.rows

    @property
    def numbers(self) -> NDArray[np.float32]:
        """The labels (rows,), NaN for missing ones unless they are left out."""
        found = np.concatenate(self._parts) if self._parts else np.zeros(0, np.float32)
        self._parts = [found]
        return found[~np.isnan(found)] if self.is_filtered else found

    def present_rows(self) -> NDArray[np.int64]:
        """The rows with a label, if others are left out."""
        return np.flatnonzero(~np.isnan(np.concatenate(self._parts)))

    def missing_error(self, name: str, *, where: str) -> UsageError:
        """The error for missing labels."""
        return missing_label(name, self.missing, self.rows, self.first_missing or 0, where=where)

    def add(self, name: str, values: pa.ChunkedArray, first: int, *, where: str) -> None:
        """Adds the values of consecutive rows, from row `first` on."""
        self.kind = values.type
        for start in range(0, len(values), BLOCK_ROWS):
            self._add(name, values.slice(start, BLOCK_ROWS), first + start, where=where)

    def _add(self, name: str, values: pa.ChunkedArray, first: int, *, where: str) -> None:
        import pyarrow as pa

        if is_text(values):
            numbers = of_text(values, truth=False)
            if numbers is None:
                numbers = self._among_text(values, first)
        elif is_number(self.kind) or pa.types.is_null(self.kind):
            numbers = stored_numbers(name, values, where=where)
        else:
            # Of a type that is refused as soon as all is read.
            numbers = np.zeros(len(values))
        self.add_numbers(numbers, first)

    def _among_text(self, values: pa.ChunkedArray, first: int) -> NDArray[np.float64]:
        """The numbers among texts of which some are not; those are 0."""
        import pyarrow as pa
        from pyarrow import compute

        text = cleaned(values)
        wrong = ~reads_as_numbers(values) & ~text.is_null().to_numpy(zero_copy_only=False).astype(bool)
        rows = np.flatnonzero(wrong)
        if len(rows) and not self.stray:
            self.first_stray = first + int(rows[0]), text[int(rows[0])].as_py()
        self.stray += len(rows)
        numbers = of_text(compute.if_else(pa.array(wrong), "0", text), truth=False)
        return np.zeros(len(values)) if numbers is None else numbers

    def add_numbers(self, numbers: NDArray[np.float64], first: int) -> None:
        """Adds numbers of consecutive rows, NaN if missing."""
        self.rows += len(numbers)
        with np.errstate(invalid="ignore", over="ignore"):
            sizes = np.abs(numbers)
            low, high = (np.min(numbers), np.max(sizes)) if len(numbers) else (0.0, 0.0)
            if not high <= LARGEST or not low >= 0:
                self._note(numbers, sizes, first)
            self._parts.append(numbers.astype(np.float32))

    def _note(self, numbers: NDArray[np.float64], sizes: NDArray[np.float64], first: int) -> None:
        """Notes the first rows of what may be wrong."""
        missing = np.flatnonzero(np.isnan(numbers))
        self.missing += len(missing)
        self.first_missing = _earlier(self.first_missing, missing, first)
        self.first_infinite = _earlier(self.first_infinite, np.flatnonzero(np.isinf(numbers)), first)
        self.first_too_large = _earlier(self.first_too_large, np.flatnonzero(sizes > LARGEST), first)
        negative = np.flatnonzero(numbers < 0)
        if len(negative) and self.first_negative is None:
            self.first_negative = first + int(negative[0]), float(numbers[negative[0]])


def _earlier(known: int | None, rows: NDArray[np.int64], first: int) -> int | None:
    """The first row that is known, or that of a later piece."""
    return known if known is not None or not len(rows) else first + int(rows[0])
