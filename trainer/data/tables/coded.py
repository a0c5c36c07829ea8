"""Columns of few distinct values as small numbers: labels, groups, the names of splits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.blocks import BLOCK_ROWS
from trainer.data.tables.values import Precision, are_numbers, distinct, is_number, precision_of

if TYPE_CHECKING:
    import pyarrow as pa

Numbers = NDArray[Any]
"""Unsigned integers of as few bits as possible."""


@dataclass(frozen=True)
class Coded:
    """A column: the number of each value's text (n,), and the texts as `distinct` gives them, None for missing values.

    `kind` is the Arrow type of the values.
    """

    codes: Numbers
    texts: list[str | None]
    kind: Any

    @classmethod
    def of(cls, values: pa.ChunkedArray) -> Coded:
        """The values of a column in plain types."""
        codes = Codes()
        codes.add(values)
        return codes.done(values.type)

    @property
    def typed(self) -> bool:
        """Whether the values are not text."""
        import pyarrow as pa

        return not pa.types.is_string(self.kind)

    @property
    def precision(self) -> Precision | None:
        """That of half and single floats."""
        return precision_of(self.kind)

    @property
    def counts(self) -> NDArray[np.int64]:
        """How often each text occurs."""
        return np.bincount(self.codes, minlength=len(self.texts)) if len(self.codes) else np.zeros(0, np.int64)

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Which values are missing, (n,)."""
        if None not in self.texts:
            return np.zeros(len(self.codes), bool)
        found: NDArray[np.bool_] = self.codes == self.texts.index(None)
        return found

    def are_numbers(self, *, text: bool) -> bool:
        """Whether the values are numbers, or `text` that is."""
        import pyarrow as pa

        if self.typed:
            return is_number(self.kind)
        return text and are_numbers(pa.chunked_array([pa.array(self.texts, pa.string())]))

    def taken(self, rows: NDArray[np.int64] | None) -> Coded:
        """Some of the values; all if it is None."""
        return self if rows is None else replace(self, codes=self.codes[rows])


class Codes:
    """Gives numbers to the texts of a column that comes in pieces, in the order in which they first occur."""

    def __init__(self) -> None:
        self._parts: list[Numbers] = []
        self._numbers: dict[str | None, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def texts(self) -> list[str | None]:
        """The texts so far."""
        return list(self._numbers)

    def parts(self) -> Iterator[Numbers]:
        """The numbers of the values so far, piece by piece."""
        yield from self._parts

    def add(self, values: pa.ChunkedArray) -> None:
        """Adds values. Costs a look at each text that a block has."""
        for start in range(0, len(values), BLOCK_ROWS):
            self._add(values.slice(start, BLOCK_ROWS))

    def _add(self, values: pa.ChunkedArray) -> None:
        places, texts = distinct(values)
        used = np.bincount(places, minlength=len(texts))
        table = [self._numbers.setdefault(text, len(self._numbers)) if count else 0
                 for text, count in zip(texts, used.tolist(), strict=True)]  # fmt: skip
        self._parts.append(np.array(table, smallest(len(self._numbers)))[places])

    def done(self, kind: Any) -> Coded:
        """The column, of values of an Arrow type."""
        parts, self._parts = self._parts, []
        kinds = smallest(len(self._numbers))
        codes = np.empty(sum(map(len, parts)), kinds)
        start = 0
        for part in parts:
            codes[start : start + len(part)] = part
            start += len(part)
        return Coded(codes, self.texts, kind)


def smallest(count: int) -> Any:
    """The type of unsigned integers that holds the numbers below a count."""
    return np.min_scalar_type(max(count - 1, 0))
