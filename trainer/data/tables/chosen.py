"""Rows that are chosen by their numbers, taken from a column."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa


def are_ascending(rows: NDArray[np.int64]) -> bool:
    """Whether the rows are in the table's order."""
    return bool((rows[1:] > rows[:-1]).all())


def taken(values: pa.ChunkedArray, rows: NDArray[np.int64]) -> pa.ChunkedArray:
    """The rows of a column, chunk by chunk if they are in its order: Arrow's `take` copies all chunks into one."""
    import pyarrow as pa

    if values.num_chunks < 2 or not are_ascending(rows) or (len(rows) and rows[-1] >= len(values)):
        return values.take(rows)
    starts = np.cumsum([0, *(len(chunk) for chunk in values.chunks)])
    ends = np.searchsorted(rows, starts).tolist()
    parts = zip(values.chunks, starts.tolist(), pairwise(ends), strict=False)
    return pa.chunked_array([chunk.take(pa.array(rows[a:b] - start)) for chunk, start, (a, b) in parts], values.type)
