"""Batches that know of one process only, for one of several."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from trainer.data.batches import Batch, Batches, Shard, Share

if TYPE_CHECKING:
    from trainer._mxnet import Array


class SharedBatches:
    """One process's rows of each batch that a task's own Batches give.

    Every process reads the whole batch and keeps its part of it, on the contexts where the rows are.
    """

    def __init__(self, source: Batches, share: Share) -> None:
        self._source = source
        self._share = share

    @property
    def rows(self) -> int | None:
        """As the source says."""
        return self._source.rows

    @property
    def batches_per_epoch(self) -> int | None:
        """As the source says."""
        return self._source.batches_per_epoch

    @property
    def weighted(self) -> bool:
        """As the source says."""
        return self._source.weighted

    def sample(self) -> tuple[Array, ...]:
        """As the source says."""
        return self._source.sample()

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """The source's batches, cut to this process's rows."""
        for batch in self._source.epoch(epoch, skip):
            start, counts = self._share.of(batch.rows)
            end = start + sum(counts)
            indices = None if batch.indices is None else batch.indices[start:end]
            yield Batch(tuple(self._cut(batch, start, end)), batch.rows, indices)

    @staticmethod
    def _cut(batch: Batch, start: int, end: int) -> Iterator[Shard]:
        """The rows from start to end, counted over all shards, of each shard."""
        before = 0
        for shard in batch.shards:
            first, last = max(start - before, 0), min(end - before, shard.rows)
            before += shard.rows
            if last <= first:
                yield Shard(shard.context, (), None, None, 0)
            else:
                weight = None if shard.weight is None else shard.weight[first:last]
                inputs = tuple(part[first:last] for part in shard.inputs)
                yield Shard(shard.context, inputs, shard.label[first:last], weight, last - first)
