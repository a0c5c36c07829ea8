"""Turns the split that a task returns into batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trainer.data.arrays import ArrayBatches, Arrays
from trainer.data.batches import Batches, Share
from trainer.data.loader import LoaderBatches
from trainer.data.resharded import SharedBatches
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
) -> Batches:
    """A split that a task returned, as Batches with one shard per context, cut to the rows of process `rank`.

    With `fixed`, a context may be listed several times, and every process has the same number of them (`Share.fixed`).

    Raises UsageError if `source` is neither `Arrays`, nor a Gluon DataLoader, nor Batches.
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
        )
    if isinstance(source, gluon.data.DataLoader):
        return LoaderBatches(source, contexts=contexts, seed=seed, share=share)
    if isinstance(source, Batches):
        return source if processes == 1 and not fixed else SharedBatches(source, contexts, share)
    raise UsageError(
        f"the {split} split is a {type(source).__name__}",
        where="the task's splits()",
        fix="Return trainer.Arrays, a gluon.data.DataLoader, or an object with the methods of trainer.data.Batches.",
    )
