"""Rows on the host that are gathered by their numbers: columns in memory, or mapped from a file."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trainer.data.order import Order, Place, Window

PIECE_BYTES = 64 << 20
"""What the system is asked to read at a time."""
HALVES = 1 << 15
"""Half floats that are converted at a time: their indices and the numbers stay in the cache."""


class Held(Protocol):
    """Rows that are gathered by their numbers. One thread at a time uses it."""

    def index(self, window: Window) -> NDArray[Any]:
        """What `take` calls the rows of a window that was prepared, in their order."""

    def prepare(self, order: Order, window: Place, part: float) -> None:
        """Brings the first blocks of a window near, as many as this part of them; those that are near stay so."""

    def take(self, window: Place, index: NDArray[Any], targets: Sequence[NDArray[Any]]) -> None:
        """Copies rows of a window that was prepared, a target per column."""

    def close(self) -> None:
        """Ends what is done ahead; then nothing can be prepared until `open`."""

    def open(self) -> None:
        """Lets rows be prepared again."""


class HeldColumns:
    """Columns in memory, or mapped: `prefetch(start, stop)` asks the system to read rows that will be needed."""

    def __init__(self, columns: Sequence[NDArray[Any]], prefetch: Callable[[int, int], None] | None = None) -> None:
        self._columns = columns
        self._prefetch = prefetch
        self._asked: dict[Place, int] = {}
        self._closed = threading.Event()
        self._halves = {number: np.empty(0, np.float16) for number, each in enumerate(columns) if is_half(each)}

    def prepare(self, order: Order, window: Place, part: float) -> None:
        if self._prefetch is None:
            return
        if not order.block_rows:
            self._read_all()
            return
        done = self._asked.get(window)
        if done is None:
            done, self._asked = 0, {**dict([*self._asked.items()][-1:]), window: 0}
        blocks = order.blocks_of(window)
        due = min(len(blocks), int(np.ceil(part * len(blocks))))
        for block in blocks[done:due].tolist():
            self._prefetch(block * order.block_rows, min((block + 1) * order.block_rows, order.rows))
        self._asked[window] = max(done, due)

    def index(self, window: Window) -> NDArray[Any]:
        return window.numbers

    def take(self, _window: Place, index: NDArray[Any], targets: Sequence[NDArray[Any]]) -> None:
        for number, (column, target) in enumerate(zip(self._columns, targets, strict=True)):
            if number in self._halves:
                if self._halves[number].shape[0] < len(index):
                    self._halves[number] = np.empty((len(index), *column.shape[1:]), np.float16)
                halves = self._halves[number][: len(index)]
                np.take(column, index, axis=0, out=halves, mode="clip")
                widen(halves, target)
            else:
                # "clip" skips numpy's check of every index, and writes into the target without a copy.
                np.take(column, index, axis=0, out=target, mode="clip")

    def close(self) -> None:
        self._closed.set()

    def open(self) -> None:
        self._closed.clear()

    def _read_all(self) -> None:
        """Asks for all rows, once, in a thread: they fit into memory, and will be needed in no order."""
        if self._asked:
            return
        self._asked[0, 0] = 1
        threading.Thread(target=self._read_pieces, name="prefetch", daemon=True).start()

    def _read_pieces(self) -> None:
        rows = len(self._columns[0])
        step = max(1, PIECE_BYTES // max(1, sum(column.nbytes for column in self._columns) // rows))
        for start in range(0, rows, step):
            if self._closed.is_set() or self._prefetch is None:
                return
            self._prefetch(start, min(start + step, rows))


def is_half(column: NDArray[Any]) -> bool:
    """Whether a column holds half floats, which become float32 when they are used."""
    return bool(column.dtype == np.float16)


@cache
def _widened() -> NDArray[np.float32]:
    """The number that each of the 65,536 half floats stands for."""
    return np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)


def widen(halves: NDArray[Any], target: NDArray[Any]) -> None:
    """Converts half floats to float32, with a table: that takes half the time of numpy's conversion."""
    bits, flat = halves.reshape(-1).view(np.uint16), target.reshape(-1)
    for start in range(0, len(bits), HALVES):
        np.take(_widened(), bits[start : start + HALVES], out=flat[start : start + HALVES], mode="clip")


def taken_as(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The MXNet type that holds features of `dtype`, in native byte order."""
    if dtype.kind in "fb":
        return np.dtype(np.float32)
    if dtype.name in ("uint8", "int32", "int64"):
        return dtype.newbyteorder("=")
    return np.dtype(np.int32 if dtype.itemsize < 4 else np.int64)


__all__ = ["Held", "HeldColumns", "is_half", "taken_as", "widen"]
