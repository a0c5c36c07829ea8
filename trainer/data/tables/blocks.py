"""Blocks of rows: the same ones however a table is read, so that what is learned from them has the same bits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.chosen import are_ascending

BLOCK_ROWS = 1 << 16
"""Block b has the rows b · BLOCK_ROWS and following of the whole table, whatever its files are."""


class Span(NamedTuple):
    """Which of a column's values, from `start` to `stop` (exclusive), are those of a block."""

    block: int
    start: int
    stop: int


def spans(first: int, count: int) -> list[Span]:
    """The blocks of consecutive rows of the table: `count` of them, from row `first` on."""
    if not count:
        return []
    blocks = range(first // BLOCK_ROWS, (first + count - 1) // BLOCK_ROWS + 1)
    bounds = [(max(block * BLOCK_ROWS, first), min((block + 1) * BLOCK_ROWS, first + count)) for block in blocks]
    return [Span(block, start - first, stop - first) for block, (start, stop) in zip(blocks, bounds, strict=True)]


def spans_of(rows: NDArray[np.int64], first: int = 0) -> list[Span]:
    """The blocks of some rows (n,), counted from row `first` of the table on.

    Rows in another order than the table's are numbered anew.
    """
    if not len(rows):
        return []
    if not are_ascending(rows):
        return spans(0, len(rows))
    blocks = range((first + int(rows[0])) // BLOCK_ROWS, (first + int(rows[-1])) // BLOCK_ROWS + 1)
    ends = np.searchsorted(rows, [block * BLOCK_ROWS - first for block in (*blocks, blocks.stop)]).tolist()
    found = (Span(block, start, stop) for block, start, stop in zip(blocks, ends, ends[1:], strict=False))
    return [each for each in found if each.stop > each.start]
