"""The checksums of blocks of rows: one number of 64 bits for each, over the bytes of all columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.cache.layout import Span
from trainer.data.cache.reserve import read_at
from trainer.data.checksum import Checksum, checksum_of

WORDS = {"train": "training"}


def sum_of(columns: Iterable[NDArray[Any]]) -> int:
    """The checksum of a block, given its rows of each column."""
    found = Checksum()
    for values in columns:
        found.add(values)
    return int(found.hex(), 16)


def stored_sum(descriptor: int, spans: Sequence[Span], first: int, rows: int) -> int:
    """The checksum of rows of a file, which is read for it. Raises OSError."""
    return sum_of(
        np.frombuffer(read_at(descriptor, rows * span.row_bytes, span.offset + first * span.row_bytes), np.uint8)
        for span in spans
    )


def count(rows: int, block_rows: int) -> int:
    """The number of blocks that rows are in."""
    return -(-rows // block_rows)


def within(first: int, end: int, rows: int, block_rows: int) -> range:
    """The blocks all rows of which are among the rows from `first` to `end`, of `rows` rows in all."""
    last = count(rows, block_rows) if end == rows else end // block_rows
    return range(count(first, block_rows), last)


def phrase(split: str, block: int, rows: int, block_rows: int) -> str:
    """A block in words: `block 7 of the training rows (rows 458753 to 524288)`."""
    first, last = block * block_rows + 1, min((block + 1) * block_rows, rows)
    return f"block {block} of the {WORDS.get(split, split)} rows (rows {first} to {last})"


def frame_sum(head: bytes, tail: bytes) -> str:
    """The checksum of what stands around the columns."""
    return checksum_of(np.frombuffer(head, np.uint8), np.frombuffer(tail, np.uint8))
