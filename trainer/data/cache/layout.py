"""Which columns the rows of a split have, and at which bytes of its file they lie."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

VERSION = 1
"""The version of everything that a cache holds; caches of another version are never read."""
PAGE = 4096
"""The columns begin at multiples of it, so that each is mapped from the start of a page."""
BLOCK_BYTES = 1 << 20
"""Most bytes of the rows that have one checksum."""


@dataclass(frozen=True)
class Layout:
    """The columns of encoded rows: `width` features, `ids` ids, labels, and weights if `weighted`.

    Features are float32, or float16 if `half`.
    """

    width: int
    ids: int
    weighted: bool
    half: bool = False

    @property
    def columns(self) -> tuple[tuple[str, np.dtype[Any], int], ...]:
        """Name, type and values per row of each column that takes room, in the order of the file; 0 is one number."""
        features = np.dtype("<f2" if self.half else "<f4")
        found = [("features", features, self.width)] if self.width else []
        found += [("ids", np.dtype("<i4"), self.ids)] if self.ids else []
        found += [("labels", np.dtype("<f4"), 0)]
        return (*found, *([("weights", np.dtype("<f4"), 0)] if self.weighted else []))

    @property
    def row_bytes(self) -> int:
        """The bytes of a row in all columns."""
        return sum(kind.itemsize * max(values, 1) for _, kind, values in self.columns)

    @property
    def block_rows(self) -> int:
        """The rows that have one checksum: a power of two, whose bytes are about 1 MiB."""
        return 1 << max((BLOCK_BYTES // self.row_bytes).bit_length() - 1, 0)


@dataclass(frozen=True)
class Span:
    """The bytes of a column: `rows` times `row_bytes` from `offset` on. A row is `values` numbers, or one (0)."""

    name: str
    kind: np.dtype[Any]
    values: int
    offset: int
    rows: int

    @property
    def row_bytes(self) -> int:
        """The bytes of a row."""
        return self.kind.itemsize * max(self.values, 1)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the column."""
        return (self.rows, self.values) if self.values else (self.rows,)


def spans(layout: Layout, rows: int, begin: int) -> Iterator[Span]:
    """Where the columns lie if the first one begins at the byte `begin`, a multiple of PAGE."""
    for name, kind, values in layout.columns:
        span = Span(name, kind, values, begin, rows)
        yield span
        begin = up_to(begin + rows * span.row_bytes, PAGE)


def body_bytes(layout: Layout, rows: int) -> int:
    """The bytes of all columns, each up to a whole page."""
    return sum(up_to(rows * span.row_bytes, PAGE) for span in spans(layout, rows, 0))


def up_to(size: int, multiple: int) -> int:
    """The next multiple that is not below `size`."""
    return -(-size // multiple) * multiple
