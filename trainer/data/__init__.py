"""Sources of batches: arrays in memory, tables on disk, and Gluon's DataLoader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer._lazy import exports

if TYPE_CHECKING:
    from trainer.data.batches import Batch, Batches, Shard, split_rows
    from trainer.data.fingerprint import Fingerprint, SplitRows, TableFingerprint
    from trainer.data.mapped import MappedArrays
    from trainer.data.slices import Slices
    from trainer.data.stratified import SPLIT_VERSION, TooFewRows, stratified_split
    from trainer.data.tables.frame import Frame
    from trainer.data.tables.id_tables import IdTable
    from trainer.data.tables.kinds import Category, Column, Date, Duration, Embedded, Flag, Hashed, Number, TimeOfDay
    from trainer.data.tables.kinds.base import Scale
    from trainer.data.tables.options import ClassOptions, TableOptions
    from trainer.data.tables.plan import TableSplits
    from trainer.data.tables.reading import open_stream
    from trainer.data.tables.schema import Rows, Schema
    from trainer.data.tables.sinks import Layout, Sink
    from trainer.data.tables.splits import describe, load_splits
    from trainer.data.tables.stream import FileRows, TableStream
    from trainer.data.tables.targets import Classes, Quantity
    from trainer.data.tables.targets.tally import Tally
    from trainer.reading import free_memory, read_text

__all__ = [
    "SPLIT_VERSION",
    "Batch",
    "Batches",
    "Category",
    "ClassOptions",
    "Classes",
    "Column",
    "Date",
    "Duration",
    "Embedded",
    "FileRows",
    "Fingerprint",
    "Flag",
    "Frame",
    "Hashed",
    "IdTable",
    "Layout",
    "MappedArrays",
    "Number",
    "Quantity",
    "Rows",
    "Scale",
    "Schema",
    "Shard",
    "Sink",
    "Slices",
    "SplitRows",
    "TableFingerprint",
    "TableOptions",
    "TableSplits",
    "TableStream",
    "Tally",
    "TimeOfDay",
    "TooFewRows",
    "describe",
    "free_memory",
    "load_splits",
    "open_stream",
    "read_text",
    "split_rows",
    "stratified_split",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        "trainer.data.batches": ("Batch", "Batches", "Shard", "split_rows"),
        "trainer.data.mapped": ("MappedArrays",),
        "trainer.data.fingerprint": ("Fingerprint", "SplitRows", "TableFingerprint"),
        "trainer.data.slices": ("Slices",),
        "trainer.data.stratified": ("SPLIT_VERSION", "TooFewRows", "stratified_split"),
        "trainer.data.tables.frame": ("Frame",),
        "trainer.data.tables.kinds": (
            "Category",
            "Column",
            "Date",
            "Duration",
            "Embedded",
            "Flag",
            "Hashed",
            "Number",
            "TimeOfDay",
        ),
        "trainer.data.tables.id_tables": ("IdTable",),
        "trainer.data.tables.kinds.base": ("Scale",),
        "trainer.data.tables.options": ("ClassOptions", "TableOptions"),
        "trainer.data.tables.schema": ("Rows", "Schema"),
        "trainer.data.tables.plan": ("TableSplits",),
        "trainer.data.tables.splits": ("describe", "load_splits"),
        "trainer.data.tables.reading": ("open_stream",),
        "trainer.data.tables.stream": ("FileRows", "TableStream"),
        "trainer.data.tables.sinks": ("Layout", "Sink"),
        "trainer.data.tables.targets": ("Classes", "Quantity"),
        "trainer.data.tables.targets.tally": ("Tally",),
        "trainer.reading": ("free_memory", "read_text"),
    },
)
