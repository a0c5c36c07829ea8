"""The order in which an epoch visits the rows of a split: any part of it is known at once.

It is one permutation of all rows, or, for rows that do not fit into memory, windows: the blocks of consecutive rows are
permuted, some of them at a time are a window, and the rows of a window are permuted among themselves. So only the
blocks of a window have to be near.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.data.batches import split_rows
from trainer.seeds import derive, permutation

PART_ROWS = 1 << 14
"""Row numbers that are shuffled together. Another number makes another order."""

Place = tuple[int, int]
"""An epoch, and the number of a window in it."""


class Window(NamedTuple):
    """Rows that are visited one after another."""

    place: Place
    first: int
    """The position of its first row in the epoch."""
    numbers: NDArray[Any]
    """The row numbers, int64, in the order in which they are visited."""


class Part(NamedTuple):
    """The rows of a window from `start` to `stop` (exclusive), counted within it."""

    window: Window
    start: int
    stop: int

    @property
    def numbers(self) -> NDArray[Any]:
        """The row numbers, in the order in which they are visited."""
        return self.window.numbers[self.start : self.stop]


@dataclass(frozen=True)
class Order:
    """The order of the epochs of a split with so many rows: a function of these numbers and of the epoch.

    With `block_rows` of 0 it is one permutation of all rows, and an epoch is one window. Otherwise it takes memory for
    the numbers of the blocks and the rows of a window.
    """

    rows: int
    seed: int
    block_rows: int = 0
    """The rows of a block; the last block may have fewer."""
    window_blocks: int = 0
    """The blocks of a window, at most; all windows have nearly as many."""

    @property
    def blocks(self) -> int:
        """The number of blocks."""
        return -(-self.rows // self.block_rows) if self.block_rows else 1

    @property
    def windows(self) -> int:
        """The number of windows in an epoch."""
        return -(-self.blocks // self.window_blocks) if self.block_rows else 1

    def blocks_of(self, place: Place) -> NDArray[Any]:
        """The numbers of a window's blocks, in their order in it."""
        first, end = (int(_firsts(self)[place[1] + later]) for later in (0, 1))
        return _permuted(self.blocks, self.seed, place[0])[0][first:end]

    def window_at(self, epoch: int, position: int) -> int:
        """The window that holds the row at a position of an epoch."""
        return int(np.searchsorted(_starts(self, epoch), position, side="right")) - 1 if self.block_rows else 0

    def first_of(self, place: Place) -> int:
        """The position of the first row of a window in its epoch."""
        return int(_starts(self, place[0])[place[1]]) if self.block_rows else 0

    def window(self, place: Place) -> Window:
        """A window of an epoch."""
        epoch, number = place
        if not self.block_rows:
            return Window(place, 0, permutation(self.rows, self.seed, epoch))
        starts = self.blocks_of(place) * self.block_rows
        lengths = np.minimum(self.block_rows, self.rows - starts)
        count = int(lengths.sum())
        together = np.arange(count) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
        return Window(place, self.first_of(place), _shuffled(together, derive(self.seed, "window", epoch, number)))

    def places(self, place: Place) -> NDArray[Any]:
        """Where the rows of a window, in their order, lie among those of its blocks, one block after another."""
        lengths = np.minimum(self.block_rows, self.rows - self.blocks_of(place) * self.block_rows)
        return _shuffled(np.arange(int(lengths.sum())), derive(self.seed, "window", *place))

    def numbers(self, epoch: int, start: int, stop: int) -> NDArray[Any]:
        """The row numbers, int64, at the positions from `start` to `stop` (exclusive) of an epoch."""
        parts = Windows(self).parts(epoch, start, stop)
        return np.concatenate([np.empty(0, np.int64), *(part.numbers for part in parts)])


@lru_cache(maxsize=4)
def _permuted(blocks: int, seed: int, epoch: int) -> tuple[NDArray[Any], int]:
    """The order of the blocks in an epoch, and the place of the last one in it."""
    order = np.random.default_rng(derive(seed, "blocks", epoch)).permutation(blocks)
    order.flags.writeable = False
    return order, int(np.flatnonzero(order == blocks - 1)[0])


def _shuffled(values: NDArray[Any], seed: int) -> NDArray[Any]:
    """The values in an order that depends on their number and the seed alone.

    Each gets a random part, and the parts, which fit into a processor's cache, are shuffled: any order is as likely as
    any other, and it takes two thirds of the time of shuffling all.
    """
    generator = np.random.default_rng(seed)
    count = min(256, len(values) // PART_ROWS)
    if count < 2:
        generator.shuffle(values)
        return values
    parts = generator.integers(0, count, size=len(values), dtype=np.uint8)
    values = values[np.argsort(parts, kind="stable")]
    ends = np.cumsum(np.bincount(parts, minlength=count)).tolist()
    for start, end in zip([0, *ends], ends, strict=False):
        generator.shuffle(values[start:end])
    return values


@lru_cache(maxsize=4)
def _firsts(order: Order) -> NDArray[Any]:
    """The place of each window's first block among the permuted ones, and their number.

    All windows have nearly as many blocks: the few of a short last one would mix badly, and be what an epoch ends with.
    """
    return np.cumsum([0, *split_rows(order.blocks, order.windows)])


@lru_cache(maxsize=4)
def _starts(order: Order, epoch: int) -> NDArray[Any]:
    """The position of each window's first row in an epoch."""
    firsts, short = _firsts(order)[:-1], _permuted(order.blocks, order.seed, epoch)[1]
    starts: NDArray[Any] = firsts * order.block_rows - (firsts > short) * (order.blocks * order.block_rows - order.rows)
    return starts


class Windows:
    """The windows of an order as they are needed; the newest and the one after it are kept.

    With `ahead`, a thread permutes the next window while this one is used. Nothing is done ahead for epochs after
    `epochs`. One thread at a time may ask.
    """

    def __init__(self, order: Order, *, ahead: bool = False, epochs: int | None = None) -> None:
        self._order = order
        self._epochs = epochs
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="order") if ahead else None
        self._newest: Window | None = None
        self._next: tuple[Place, Future[Window]] | None = None

    def parts(self, epoch: int, start: int, stop: int) -> list[Part]:
        """What the windows have of the positions from `start` to `stop` (exclusive) of an epoch, in order."""
        parts = []
        stop = min(stop, self._order.rows)
        while start < stop:
            window = self._window((epoch, self._order.window_at(epoch, start)))
            end = min(stop, window.first + len(window.numbers))
            parts.append(Part(window, start - window.first, end - window.first))
            self._look_ahead(parts[-1])
            start = end
        return parts

    def after(self, place: Place) -> Place | None:
        """The window after another one; None if no epoch is left."""
        epoch, number = place
        if number + 1 < self._order.windows:
            return epoch, number + 1
        return None if self._epochs is not None and epoch >= self._epochs else (epoch + 1, 0)

    def _window(self, place: Place) -> Window:
        if self._newest is not None and self._newest.place == place:
            return self._newest
        ahead, self._next = self._next, None
        # Not before: three permutations of all rows would be in memory.
        self._newest = None
        self._newest = ahead[1].result() if ahead is not None and ahead[0] == place else self._order.window(place)
        return self._newest

    def _look_ahead(self, part: Part) -> None:
        """Starts to permute the next window; of a permutation of all rows, in the second half of the epoch."""
        is_due = self._order.block_rows or 2 * part.stop > len(part.window.numbers)
        following = self.after(part.window.place)
        if self._thread is not None and self._next is None and is_due and following is not None:
            self._next = following, self._thread.submit(self._order.window, following)


__all__ = ["Order", "Part", "Place", "Window", "Windows"]
