"""Sources of batches: arrays in memory, tables on disk, and Gluon's DataLoader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer._lazy import exports

if TYPE_CHECKING:
    from trainer.data.batches import Batch, Batches, Shard, split_rows
    from trainer.data.columns import Column
    from trainer.data.labels import Labels
    from trainer.data.schema import Rows, Schema
    from trainer.data.stream import TableStream, open_stream
    from trainer.data.table import TableSplits, describe, load_splits
    from trainer.data.table_options import TableOptions

__all__ = [
    "Batch",
    "Batches",
    "Column",
    "Labels",
    "Rows",
    "Schema",
    "Shard",
    "TableOptions",
    "TableSplits",
    "TableStream",
    "describe",
    "load_splits",
    "open_stream",
    "split_rows",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        "trainer.data.batches": ("Batch", "Batches", "Shard", "split_rows"),
        "trainer.data.columns": ("Column",),
        "trainer.data.labels": ("Labels",),
        "trainer.data.schema": ("Rows", "Schema"),
        "trainer.data.stream": ("TableStream", "open_stream"),
        "trainer.data.table": ("TableSplits", "describe", "load_splits"),
        "trainer.data.table_options": ("TableOptions",),
    },
)
