"""Encoded rows kept on disk, and found again by the files that they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer._lazy import exports

if TYPE_CHECKING:
    from trainer.data.cache.columns import MappedColumns
    from trainer.data.cache.entry import Entry
    from trainer.data.cache.faults import CacheUnwritable, CorruptRows, Damaged
    from trainer.data.cache.key import Key
    from trainer.data.cache.layout import Layout
    from trainer.data.cache.listing import Stored, stored_in
    from trainer.data.cache.place import cache_folder, cache_limit, tables_folder
    from trainer.data.cache.removal import remove
    from trainer.data.cache.store import Store
    from trainer.data.cache.writer import Joined, Writer

__all__ = [
    "CacheUnwritable",
    "CorruptRows",
    "Damaged",
    "Entry",
    "Joined",
    "Key",
    "Layout",
    "MappedColumns",
    "Store",
    "Stored",
    "Writer",
    "cache_folder",
    "cache_limit",
    "remove",
    "stored_in",
    "tables_folder",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        "trainer.data.cache.columns": ("MappedColumns",),
        "trainer.data.cache.entry": ("Entry",),
        "trainer.data.cache.faults": ("CacheUnwritable", "CorruptRows", "Damaged"),
        "trainer.data.cache.key": ("Key",),
        "trainer.data.cache.layout": ("Layout",),
        "trainer.data.cache.place": ("cache_folder", "cache_limit", "tables_folder"),
        "trainer.data.cache.listing": ("Stored", "stored_in"),
        "trainer.data.cache.removal": ("remove",),
        "trainer.data.cache.store": ("Store",),
        "trainer.data.cache.writer": ("Joined", "Writer"),
    },
)
