"""Gathers rows in the order of an epoch, in chunks, ahead of the step that trains on them.

There are two buffers: the step reads one while a thread fills the other. numpy's `take` releases the interpreter's lock
and runs beside MXNet's operators. A chunk is small, so its batches are still in the cache when the step copies them.
While a window of the order is trained, the blocks of the next one are brought near.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.data.batches import Share
from trainer.data.held import Held
from trainer.data.order import Order, Part, Windows

if TYPE_CHECKING:
    from trainer.mxnet import Array, Context

CHUNK_BYTES = 4 << 20
"""The size of a chunk. On a device that is not the CPU, larger ones mean fewer calls."""
DEVICE_CHUNK_BYTES = 64 << 20
AHEAD_BYTES = 1 << 20
"""Smaller epochs are gathered when they begin: a thread takes longer to answer."""

LEAD = 1.25
"""How much faster the next window's blocks are brought near than this one's rows are trained."""

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


class Layout(NamedTuple):
    """A column of the batches: the shape of a row, and the type."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        """The bytes of a row."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


class Gather:
    """The chunks of shuffled epochs, and their buffers.

    `layouts` are the columns: inputs, labels, weights. `share` says which rows of a batch each context gets. The rows
    come from `held`; or, with `columns`, from the arrays of each context, on the contexts themselves. Nothing is done
    ahead for epochs after `epochs`.
    """

    def __init__(
        self,
        held: Held | None,
        layouts: Sequence[Layout],
        contexts: Sequence[Context],
        share: Share,
        *,
        size: int,
        order: Order,
        epochs: int | None = None,
        columns: Sequence[Sequence[Array]] = (),
        staged: bool = False,
    ) -> None:
        self._held = held
        self._layouts = layouts
        self._columns = columns
        self._contexts = list(contexts)
        self._share = share
        self._size = size
        self._order = order
        self._epochs = epochs
        self._is_host = held is not None and not staged
        row_bytes = sum(layout.row_bytes for layout in layouts)
        self.batches = -(-order.rows // size)
        chunk_bytes = CHUNK_BYTES if self._is_host else DEVICE_CHUNK_BYTES
        self.chunk_batches = min(max(1, chunk_bytes // (row_bytes * size)), self.batches)
        """Batches in a chunk; the last chunk of an epoch may have fewer."""
        self._buffers: list[list[list[Array]]] = []
        self._targets: list[list[list[NDArray[Any]]]] = []
        self._staging: list[list[list[Array]]] = []
        self._slot = 0
        self._positions: dict[int, list[NDArray[Any] | None]] = {}
        is_large = held is not None and row_bytes * order.rows >= AHEAD_BYTES
        self._windows = Windows(order, ahead=is_large, epochs=epochs)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gather") if is_large else None
        self._ahead: tuple[Position, Future[Chunk]] | None = None
        self.look_ahead: Callable[[Sequence[Rows]], Any] | None = None
        """Called with each batch as soon as it is gathered, in the thread that gathers."""

    def chunk(self, position: Position) -> tuple[int, Chunk]:
        """The number of the buffer that holds a chunk, and the chunk; starts to gather the next one.

        The buffer stays as it is until the next chunk is asked for.
        """
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] != position:
            # What was gathered in vain may have failed in vain.
            wait([ahead[1]])
            ahead = None
        found = self._fill(position, self._slot) if ahead is None else ahead[1].result()
        slot, self._slot = self._slot, 1 - self._slot
        following = self._after(position)
        if self._thread is not None and following is not None:
            self._ahead = following, self._thread.submit(self._fill, following, self._slot)
        return slot, found

    def buffers(self, slot: int) -> list[list[Array]]:
        """The arrays of each context in a buffer; empty for a context without rows."""
        return self._buffers[slot]

    def close(self) -> None:
        """Ends what is done ahead, and waits for what cannot be interrupted."""
        if self._held is not None:
            self._held.close()
        if self._ahead is not None:
            wait([self._ahead[1]])
            self._ahead = None
        if self._held is not None:
            self._held.open()

    def _after(self, position: Position) -> Position | None:
        """The chunk after another one; None if no epoch is left."""
        epoch, first = position[0], position[1] + self.chunk_batches
        if first < self.batches:
            return epoch, first
        return None if self._epochs is not None and epoch >= self._epochs else (epoch + 1, 0)

    def _fill(self, position: Position, slot: int) -> Chunk:
        epoch, first = position
        parts = self._windows.parts(epoch, first * self._size, (first + self.chunk_batches) * self._size)
        rows = parts[0].numbers if len(parts) == 1 else np.concatenate([part.numbers for part in parts])
        if not self._buffers:
            self._make_buffers()
        positions = self._of_contexts(len(rows))
        if self._held is None:
            self._gather_on_devices(slot, rows, positions)
        else:
            self._gather(self._held, slot, parts, positions)
        if self.look_ahead is None or not self._is_host:
            return Chunk(rows, ())
        sizes = [min(self._size, len(rows) - start) for start in range(0, len(rows), self._size)]
        return Chunk(rows, [self.look_ahead(self._batch(slot, place, size)) for place, size in enumerate(sizes)])

    def _of_contexts(self, count: int) -> list[NDArray[Any] | None]:
        """The places, in a chunk of `count` rows, of those that each context gets, in their order; None: all."""
        found = self._positions.get(count)
        if found is None:
            found, places = [], np.arange(count)
            batches = count // self._size
            full, rest = places[: batches * self._size].reshape(batches, self._size), places[batches * self._size :]
            begin, whole = self._share.of(self._size)
            rest_begin, rest_whole = self._share.of(len(rest))
            for rows, rest_rows in zip(whole, rest_whole, strict=True):
                mine = [full[:, begin : begin + rows].ravel(), rest[rest_begin : rest_begin + rest_rows]]
                begin, rest_begin = begin + rows, rest_begin + rest_rows
                index = mine[0] if not len(mine[1]) else np.concatenate(mine)
                found.append(None if len(index) == count else index)
            self._positions[count] = found
        return found

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

        def made(contexts: Sequence[Context]) -> list[list[Array]]:
            return [
                [
                    mx.nd.empty((rows * self.chunk_batches, *layout.shape), ctx=context, dtype=layout.dtype)
                    for layout in self._layouts
                ]
                if rows
                else []
                for context, rows in zip(contexts, whole, strict=True)
            ]

        for _ in range(2):
            self._buffers.append(made(self._contexts))
            if self._held is not None:
                filled = self._buffers[-1] if self._is_host else made([mx.cpu()] * len(self._contexts))
                self._staging.append(filled)
                self._targets.append([[memory_of(each) for each in arrays] for arrays in filled])

    def _gather_on_devices(self, slot: int, rows: NDArray[Any], positions: Sequence[NDArray[Any] | None]) -> None:
        """Copies the rows of a chunk into the buffers, from arrays on the same contexts."""
        from trainer.mxnet import mx

        for columns, buffers, places in zip(self._columns, self._buffers[slot], positions, strict=True):
            index = rows if places is None else rows[places]
            if not len(index):
                continue
            dtype = np.int32 if self._order.rows < 2**31 else np.int64
            order = mx.nd.array(index, ctx=columns[0].context, dtype=dtype)
            for column, buffer in zip(columns, buffers, strict=True):
                mx.nd.take(column, order, out=buffer[0 : len(index)])

    def _gather(self, held: Held, slot: int, parts: Sequence[Part], positions: Sequence[NDArray[Any] | None]) -> None:
        """Copies the rows of a chunk into the buffers, from the host."""
        from trainer.host_memory import wait_to_write

        for array in chain.from_iterable(self._staging[slot]):
            wait_to_write(array)
        before = 0
        for part in parts:
            held.prepare(self._order, part.window.place, 1.0)
            for targets, places in zip(self._targets[slot], positions, strict=True):
                _take(held, part, before, places, targets)
            before += part.stop - part.start
        place = parts[-1].window.place
        following = self._windows.after(place)
        if following is not None:
            held.prepare(self._order, following, min(1.0, LEAD * parts[-1].stop / len(parts[-1].window.numbers)))
        if not self._is_host:
            self._copy(slot, [before if places is None else len(places) for places in positions])

    def _copy(self, slot: int, counts: Sequence[int]) -> None:
        """Copies the gathered rows, so many for each context, from the host to the buffers."""
        for staged, buffers, count in zip(self._staging[slot], self._buffers[slot], counts, strict=True):
            for array, buffer in zip(staged, buffers, strict=True):
                if count:
                    array[0:count].copyto(buffer[0:count])


def _take(held: Held, part: Part, before: int, places: NDArray[Any] | None, targets: Sequence[NDArray[Any]]) -> None:
    """Copies what a context gets of a part of a window, which begins `before` rows after the chunk.

    `places` are those of the context's rows in the chunk; None: all.
    """
    window, start, stop = part
    order = held.index(window)
    if places is None:
        first, last, index = before, before + stop - start, order[start:stop]
    else:
        first, last = np.searchsorted(places, (before, before + stop - start))
        index = order[places[first:last] + (start - before)]
    if len(index):
        held.take(window.place, index, [target[first:last] for target in targets])


__all__ = ["Gather", "Layout"]
