"""How many rows a net computes at a time when it only predicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_ROWS = 16_384
"""More rows at a time gain nothing: a 28-64-64-1 net computes 0.4 million rows per second in batches of 256, 2.7 in
batches of 4096, and 3.9 in batches of 16384 and of 32768."""
MEMORY = 16 << 20
"""Bytes for what the net computes of all rows of a batch."""
BYTES = 4
"""Of an element, in the estimate of that."""


def rows_at_a_time(symbol: Any, inputs: Mapping[str, Sequence[int]], least: int) -> int:
    """Rows per batch for a net's symbol; `inputs` are the shapes of a row by the names of the inputs.

    At least `least`, and more if what the net computes of them takes little memory. `least` also if that is unknown.
    """
    one, two = (_elements(symbol, {name: (rows, *shape) for name, shape in inputs.items()}) for rows in (1, 2))
    # What does not depend on the rows, such as the parameters, is in both.
    by_row = 0 if one is None or two is None else two - one
    if by_row <= 0:
        return least
    return max(least, min(MOST_ROWS, MEMORY // (BYTES * by_row)))


def _elements(symbol: Any, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """How many elements all arrays of a symbol have; None if it holds graphs of its own, or shapes do not fit."""
    from trainer.mxnet import mx

    if '"subgraphs"' in symbol.tojson():
        return None
    try:
        _, found, _ = symbol.get_internals().infer_shape_partial(**shapes)
    except (mx.MXNetError, ValueError, TypeError):
        return None
    # Unknown lengths count as 1.
    return sum(math.prod(max(int(length), 1) for length in shape) for shape in found or ())


class Collected:
    """Arrays with some rows each, as one array that is made for all `rows` when the first part comes."""

    def __init__(self, rows: int) -> None:
        self._rows, self._filled = rows, 0
        self._whole: NDArray[Any] | None = None

    def add(self, part: NDArray[Any]) -> None:
        """Adds the next rows."""
        if self._whole is None:
            # A single part needs no copy.
            self._whole = part if len(part) == self._rows else np.empty((self._rows, *part.shape[1:]), part.dtype)
        if self._whole is not part:
            self._whole[self._filled : self._filled + len(part)] = part
        self._filled += len(part)

    @property
    def whole(self) -> NDArray[Any]:
        """All rows; empty without any part."""
        return np.empty(0, np.float32) if self._whole is None else self._whole
