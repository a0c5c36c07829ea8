"""The blocks of two windows in memory: this one's, and those of the next, read by a thread."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.blocks import CheckedBlocks
from trainer.data.order import Order, Place, Window

KEPT = 2
"""Windows in memory."""


@dataclass
class _Near:
    """A window in memory: its columns, the first row of each block in them, and what is being read."""

    columns: list[NDArray[Any]]
    blocks: NDArray[Any]
    firsts: NDArray[Any]
    places: Future[NDArray[Any]]
    reads: list[Future[None]] = field(default_factory=list)
    done: int = 0
    """The first blocks that are known to be there."""


class NearWindows:
    """`Held` rows of a user's source: the blocks of a window lie one after another."""

    def __init__(self, blocks: CheckedBlocks, order: Order) -> None:
        self._blocks = blocks
        self._window_rows = min(order.rows, order.window_blocks * order.block_rows)
        self._near: dict[Place, _Near] = {}
        self._spare: list[list[NDArray[Any]]] = []
        self._closed = Event()
        self._shuffling = ThreadPoolExecutor(1, thread_name_prefix="order")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="read")

    def prepare(self, order: Order, window: Place, part: float) -> None:
        if self._closed.is_set():
            raise CancelledError
        near = self._near.get(window)
        if near is None:
            near = self._near[window] = self._begun(order, window)
        due = min(len(near.blocks), int(np.ceil(part * len(near.blocks))))
        for number in range(len(near.reads), due):
            near.reads.append(self._thread.submit(self._read, near, number))

    def index(self, window: Window) -> NDArray[Any]:
        return self._near[window.place].places.result()

    def take(self, window: Place, index: NDArray[Any], targets: Sequence[NDArray[Any]]) -> None:
        near = self._near[window]
        for read in near.reads[near.done :]:
            read.result()
            near.done += 1
        for column, target in zip(near.columns, targets, strict=True):
            np.take(column, index, axis=0, out=target, mode="clip")

    def close(self) -> None:
        self._closed.set()
        for near in list(self._near.values()):
            for read in near.reads:
                read.cancel()

    def open(self) -> None:
        """Forgets all windows; a block that is being read is waited for."""
        self._closed.clear()
        while self._near:
            self._drop(next(iter(self._near)))

    def _begun(self, order: Order, window: Place) -> _Near:
        while len(self._near) >= KEPT:
            self._drop(next(iter(self._near)))
        if not self._spare:
            shapes = [(array.shape[1:], array.dtype) for array in self._blocks.first]
            self._spare.append([np.empty((self._window_rows, *shape), dtype) for shape, dtype in shapes])
        blocks = order.blocks_of(window)
        lengths = np.minimum(order.block_rows, order.rows - blocks * order.block_rows)
        places = self._shuffling.submit(order.places, window)
        return _Near(self._spare.pop(), blocks, np.cumsum(lengths) - lengths, places)

    def _drop(self, window: Place) -> None:
        near = self._near.pop(window)
        for read in near.reads:
            read.cancel()
        wait(near.reads)
        self._spare.append(near.columns)

    def _read(self, near: _Near, number: int) -> None:
        first = int(near.firsts[number])

        def keep(arrays: Sequence[NDArray[Any]]) -> None:
            for column, array in zip(near.columns, arrays, strict=True):
                column[first : first + len(array)] = array

        self._blocks.into(int(near.blocks[number]), keep)


__all__ = ["NearWindows"]
