"""Divides a task's own batches again: for several processes, or into micro-batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from trainer.data.batches import Batch, Batches, Shard, Share

if TYPE_CHECKING:
    from trainer.mxnet import Array, Context


class SharedBatches:
    """Selects one process's part of each batch, from Batches that were made for a single process.

    Every process reads the whole batch. Rows that are already on the context that computes them are not copied.
    """

    def __init__(self, source: Batches, contexts: Sequence[Context], share: Share) -> None:
        self._source = source
        self._contexts = list(contexts)
        self._share = share

    @property
    def rows(self) -> int | None:
        return self._source.rows

    @property
    def batches_per_epoch(self) -> int | None:
        return self._source.batches_per_epoch

    @property
    def weighted(self) -> bool:
        return self._source.weighted

    def sample(self) -> tuple[Array, ...]:
        return self._source.sample()

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """The source's batches, reduced to this process's rows."""
        for batch in self._source.epoch(epoch, skip):
            first, counts = self._share.of(batch.rows)
            shards, start = [], first
            for context, rows in zip(self._contexts, counts, strict=True):
                shards.append(_cut(batch, start, start + rows, context))
                start += rows
            indices = None if batch.indices is None else batch.indices[first:start]
            yield Batch(tuple(shards), batch.rows, indices)


def _cut(batch: Batch, start: int, end: int, context: Context) -> Shard:
    """The rows from start to end, counted over all shards, on one context."""
    pieces, before = [], 0
    for shard in batch.shards:
        first, last = max(start - before, 0), min(end - before, shard.rows)
        before += shard.rows
        if last > first:
            # In the order of Shard's fields: inputs, label, weight.
            columns = [*shard.inputs, shard.label, *([] if shard.weight is None else [shard.weight])]
            pieces.append([column[first:last].as_in_context(context) for column in columns])
    if not pieces:
        return Shard(context, (), None, None, 0)
    whole = pieces[0] if len(pieces) == 1 else [_joined(column) for column in zip(*pieces, strict=True)]
    weighted = any(shard.weight is not None for shard in batch.shards)
    weight = whole.pop() if weighted else None
    label = whole.pop()
    return Shard(context, tuple(whole), label, weight, end - start)


def _joined(column: Sequence[Array]) -> Array:
    from trainer.mxnet import mx

    return mx.nd.concat(*column, dim=0)
