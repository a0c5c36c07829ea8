"""Gathers rows in the order of an epoch, in chunks, ahead of the step that trains on them.

There are two buffers: the step reads one while a thread fills the other. numpy's `take` releases the interpreter's lock
and runs beside MXNet's operators. A chunk is small, so its batches are still in the cache when the step copies them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.data.batches import Share
from trainer.seeds import permutation

if TYPE_CHECKING:
    from trainer.mxnet import Array, Context

CHUNK_BYTES = 4 << 20
"""The size of a chunk. On a device that is not the CPU, larger ones mean fewer calls."""
DEVICE_CHUNK_BYTES = 64 << 20
AHEAD_BYTES = 1 << 20
"""Smaller epochs are gathered when they begin: a thread takes longer to answer."""

Position = tuple[int, int]
"""An epoch, and the number of the chunk's first batch in it."""


class Rows(NamedTuple):
    """What a context gets of a batch, as `trainer.data.batches.Shard` has it."""

    rows: int
    memory: Sequence[NDArray[Any]]


class Chunk(NamedTuple):
    """Some batches of an epoch."""

    rows: NDArray[Any]
    """The numbers of all their rows."""
    found: Sequence[Any]
    """What `look_ahead` has returned for each batch; empty without it."""


class Gather:
    """The chunks of shuffled epochs, and their buffers.

    `columns` are the arrays of each context: inputs, labels, weights. `share` says which rows of a batch each gets.
    """

    def __init__(
        self, columns: Sequence[Sequence[Array]], contexts: Sequence[Context], share: Share, *, size: int, seed: int
    ) -> None:
        from trainer.host_memory import is_host, memory_of

        self._columns = columns
        self._contexts = list(contexts)
        self._share = share
        self._size = size
        self._seed = seed
        self._rows = int(columns[0][0].shape[0])
        self._is_host = all(is_host(context) for context in contexts)
        self._memories = [[memory_of(column) for column in held] for held in columns] if self._is_host else []
        row_bytes = sum(int(np.prod(column.shape[1:])) * np.dtype(column.dtype).itemsize for column in columns[0])
        self.batches = -(-self._rows // size)
        chunk_bytes = CHUNK_BYTES if self._is_host else DEVICE_CHUNK_BYTES
        self.chunk_batches = min(max(1, chunk_bytes // (row_bytes * size)), self.batches)
        """Batches in a chunk; the last chunk of an epoch may have fewer."""
        self._buffers: list[list[list[Array]]] = []
        self._targets: list[list[list[NDArray[Any]]]] = []
        self._slot = 0
        self._order: tuple[int, NDArray[Any]] | None = None
        is_large = self._is_host and row_bytes * self._rows >= AHEAD_BYTES
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gather") if is_large else None
        self._ahead: tuple[Position, Future[Chunk]] | None = None
        self.look_ahead: Callable[[Sequence[Rows]], Any] | None = None
        """Called with each batch as soon as it is gathered, in the thread that gathers."""

    def chunk(self, position: Position) -> tuple[int, Chunk]:
        """The number of the buffer that holds a chunk, and the chunk; starts to gather the next one.

        The buffer stays as it is until the next chunk is asked for.
        """
        ahead, self._ahead = self._ahead, None
        found = None if ahead is None else ahead[1].result()
        if found is None or ahead is None or ahead[0] != position:
            found = self._fill(position, self._slot)
        slot, self._slot = self._slot, 1 - self._slot
        if self._thread is not None:
            epoch, first = position[0], position[1] + self.chunk_batches
            following = (epoch, first) if first < self.batches else (epoch + 1, 0)
            self._ahead = following, self._thread.submit(self._fill, following, self._slot)
        return slot, found

    def buffers(self, slot: int) -> list[list[Array]]:
        """The arrays of each context in a buffer; empty for a context without rows."""
        return self._buffers[slot]

    def _fill(self, position: Position, slot: int) -> Chunk:
        epoch, first = position
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, permutation(self._rows, self._seed, epoch)
        chunk = self._order[1][first * self._size : (first + self.chunk_batches) * self._size]
        if not self._buffers:
            self._make_buffers()
        batches = len(chunk) // self._size
        full, rest = chunk[: batches * self._size].reshape(batches, self._size), chunk[batches * self._size :]
        begin, whole = self._share.of(self._size)
        rest_begin, rest_whole = self._share.of(len(rest))
        for number, (rows, rest_rows) in enumerate(zip(whole, rest_whole, strict=True)):
            mine = [full[:, begin : begin + rows].ravel(), rest[rest_begin : rest_begin + rest_rows]]
            begin, rest_begin = begin + rows, rest_begin + rest_rows
            index = mine[0] if not len(mine[1]) else np.concatenate(mine)
            if len(index):
                self._gather(number, slot, index)
        if self.look_ahead is None or not self._is_host:
            return Chunk(chunk, ())
        sizes = [self._size] * batches + [len(rest)] * (len(rest) > 0)
        return Chunk(chunk, [self.look_ahead(self._batch(slot, place, size)) for place, size in enumerate(sizes)])

    def _batch(self, slot: int, place: int, size: int) -> list[Rows]:
        """What each context gets of a batch in a buffer."""
        full, own = self._share.of(self._size)[1], self._share.of(size)[1]
        return [
            Rows(count, [memory[place * step : place * step + count] for memory in memories])
            for count, step, memories in zip(own, full, self._targets[slot], strict=True)
        ]

    def _make_buffers(self) -> None:
        from trainer.host_memory import memory_of
        from trainer.mxnet import mx

        _, whole = self._share.of(self._size)
        for _ in range(2):
            arrays = [
                [
                    mx.nd.empty((rows * self.chunk_batches, *column.shape[1:]), ctx=context, dtype=column.dtype)
                    for column in columns
                ]
                if rows
                else []
                for columns, context, rows in zip(self._columns, self._contexts, whole, strict=True)
            ]
            self._buffers.append(arrays)
            self._targets.append([[memory_of(each) for each in held] for held in arrays] if self._is_host else [])

    def _gather(self, number: int, slot: int, index: NDArray[Any]) -> None:
        """Copies rows into a buffer of context `number`."""
        buffers = self._buffers[slot][number]
        if not self._is_host:
            from trainer.mxnet import mx

            device = self._columns[number][0].context
            order = mx.nd.array(index, ctx=device, dtype=np.int32 if self._rows < 2**31 else np.int64)
            for column, buffer in zip(self._columns[number], buffers, strict=True):
                mx.nd.take(column, order, out=buffer[0 : len(index)])
            return
        from trainer.host_memory import wait_to_write

        for memory, buffer, target in zip(self._memories[number], buffers, self._targets[slot][number], strict=True):
            wait_to_write(buffer)
            # "clip" skips numpy's check of every index, and writes into the target without a copy.
            np.take(memory, index, axis=0, out=target[: len(index)], mode="clip")


__all__ = ["Gather"]
