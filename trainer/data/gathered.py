"""Batches of a split whose rows are gathered by their numbers: what arrays and streamed rows have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.batches import Batch, Shard, Share
from trainer.data.gather import Gather, Layout, Rows
from trainer.data.held import Held
from trainer.data.order import Order

if TYPE_CHECKING:
    from trainer.mxnet import Array, Context


class GatheredBatches:
    """Batches in the order of an epoch, or, with `shuffle` False, in that of the rows (`_in_order`)."""

    def __init__(
        self,
        rows: int,
        layouts: Sequence[Layout],
        *,
        batch_size: int,
        contexts: Sequence[Context],
        order: Order,
        epochs: int | None,
        shuffle: bool,
        weighted: bool,
        share: Share | None,
        held: Held | None,
        columns: Sequence[Sequence[Array]] = (),
        staged: bool = False,
    ) -> None:
        from trainer.mxnet import mx

        self.rows: int = rows
        self.weighted = weighted
        self._layouts = layouts
        self._inputs = len(layouts) - 1 - weighted
        self._share = share or Share(len(contexts))
        self._size = batch_size
        self._contexts = list(contexts)
        self._first_cpu = mx.cpu(0)
        self._shuffle = shuffle
        self._views: dict[tuple[int, int, int], tuple[Shard, ...]] = {}
        self._bounds: dict[int, tuple[int, int]] = {}
        self._made: Gather | None = None
        self._make_gather: Callable[[], Gather] = lambda: Gather(
            held,
            layouts,
            self._contexts,
            self._share,
            size=batch_size,
            order=order,
            epochs=epochs,
            columns=columns,
            staged=staged,
        )
        self.look_ahead: Callable[[Sequence[Rows]], Any] | None = None
        """Called with each shuffled batch ahead of the step; the batch's `distinct` is what it returns."""

    @property
    def batches_per_epoch(self) -> int:
        """Batches per epoch, including the last and possibly shorter one."""
        return -(-self.rows // self._size)

    def sample(self) -> tuple[Array, ...]:
        """The first row of each input on the first context, (1, …)."""
        raise NotImplementedError

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """The batches of an epoch without the first `skip`; skipping is free."""
        return self._shuffled(epoch, skip) if self._shuffle else self._in_order(skip)

    def close(self) -> None:
        """Ends what is done ahead of the step; the batches can still be used."""
        if self._made is not None:
            self._made.close()

    def _in_order(self, skip: int) -> Iterator[Batch]:
        raise NotImplementedError

    def _shuffled(self, epoch: int, skip: int) -> Iterator[Batch]:
        if self._made is None:
            self._made = self._make_gather()
            self._made.look_ahead = self.look_ahead
        gather = self._made
        for first in range(skip, gather.batches, gather.chunk_batches):
            slot, (chunk, found) = gather.chunk((epoch, first))
            for number, start in enumerate(range(0, len(chunk), self._size)):
                size = min(self._size, len(chunk) - start)
                begin, end = self._mine(size)
                batch = Batch(self._view(gather, slot, number, size), size, chunk[start + begin : start + end])
                batch.distinct = found[number] if found else None
                yield batch

    def _view(self, gather: Gather, slot: int, number: int, size: int) -> tuple[Shard, ...]:
        """The shards of batch `number` of a chunk. The buffers do not move, so the views are created once."""
        shards = self._views.get((slot, number, size))
        if shards is None:
            _, whole = self._share.of(self._size)
            shards = tuple(
                self._shard(context, [buffer[number * full : number * full + rows] for buffer in buffers if rows], rows)
                for context, buffers, full, rows in zip(
                    self._contexts, gather.buffers(slot), whole, self._share.of(size)[1], strict=True
                )
            )
            self._views[slot, number, size] = shards
        return shards

    def _mine(self, size: int) -> tuple[int, int]:
        """The first and the last row (exclusive) of this process's part of a batch."""
        bounds = self._bounds.get(size)
        if bounds is None:
            begin, counts = self._share.of(size)
            bounds = self._bounds[size] = (begin, begin + sum(counts))
        return bounds

    def _shard(self, context: Context, parts: list[Array], rows: int) -> Shard:
        """A context's rows, a part per column; none if there are no rows."""
        if rows == 0:
            return Shard(context, (), None, None, 0)
        weight = parts.pop() if self.weighted else None
        label = parts.pop()
        return Shard(context, tuple(parts), label, weight, rows)


def on_context(rows: NDArray[Any], context: Context, dtype: np.dtype[Any]) -> Array:
    """Rows as an NDArray; on the first CPU context it shares their memory if they have that type."""
    from trainer.host_memory import shared
    from trainer.mxnet import mx

    rows = np.ascontiguousarray(rows, dtype=dtype)
    return shared(rows) if context == mx.cpu(0) else mx.nd.array(rows, ctx=context, dtype=dtype)
