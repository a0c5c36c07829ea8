"""Turns the split that a task returns into batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trainer.data.arrays import ArrayBatches, Arrays
from trainer.data.batches import Batches, Share
from trainer.data.loader import LoaderBatches
from trainer.data.order import Order
from trainer.data.resharded import SharedBatches
from trainer.data.streamed import Streamed, StreamedBatches
from trainer.errors import UsageError

if TYPE_CHECKING:
    from trainer.mxnet import Context


def as_batches(
    source: Any,
    *,
    batch_size: int,
    contexts: Sequence[Context],
    seed: int,
    shuffle: bool,
    split: str,
    rank: int = 0,
    processes: int = 1,
    fixed: bool = False,
    block_rows: int = 0,
    window_blocks: int = 0,
    epochs: int | None = None,
) -> Batches:
    """A split that a task returned, as Batches with one shard per context, cut to the rows of process `rank`.

    With `fixed`, a context may be listed several times, and every process has the same number of them (`Share.fixed`).
    Shuffled rows are in windows of `window_blocks` blocks of `block_rows` rows, or all permuted. `epochs` is the last
    one for which anything is done ahead.

    Raises UsageError if `source` is neither `Arrays`, nor `Streamed`, nor a Gluon DataLoader, nor Batches.
    """
    from trainer.mxnet import gluon

    share = Share(len(contexts), rank, processes, fixed)
    if isinstance(source, Arrays):
        return ArrayBatches(
            source,
            batch_size=batch_size,
            contexts=contexts,
            seed=seed,
            shuffle=shuffle,
            where=f"the {split} split",
            share=share,
            order=Order(len(source), seed, block_rows, window_blocks),
            epochs=epochs,
        )
    if isinstance(source, Streamed):
        return StreamedBatches(
            source,
            batch_size=batch_size,
            contexts=contexts,
            shuffle=shuffle,
            share=share,
            order=Order(len(source), seed, source.block_rows, window_blocks or 1),
            epochs=epochs,
        )
    if isinstance(source, gluon.data.DataLoader):
        return LoaderBatches(source, contexts=contexts, seed=seed, share=share)
    if isinstance(source, Batches):
        return source if processes == 1 and not fixed else SharedBatches(source, contexts, share)
    raise UsageError(
        f"the {split} split is a {type(source).__name__}",
        where="the task's splits()",
        fix="Return trainer.Arrays, trainer.Streamed, a gluon.data.DataLoader, or an object with the methods of "
        "trainer.data.Batches.",
    )
