"""What splits have in common whose rows are had by their numbers: the engine chooses their order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer.data.fingerprint import Fingerprint, SplitRows, TableFingerprint


class Addressed:
    """A split whose rows are had by their numbers."""

    def __len__(self) -> int:
        raise NotImplementedError

    @property
    def row_bytes(self) -> int:
        """The bytes of a row as batches have it."""
        raise NotImplementedError

    @property
    def is_in_memory(self) -> bool:
        """Whether all rows are in memory already."""
        return False

    @property
    def own_block_rows(self) -> int | None:
        """The rows of a block, if the rows are had by blocks only."""
        return None

    def fingerprint(self) -> TableFingerprint | None:
        """What identifies the rows; None if it is not known."""
        return None


def fingerprint_of_splits(splits: Mapping[str, Any]) -> Fingerprint | None:
    """What identifies the splits whose rows are had by their numbers, each a table of its own; None if none is."""
    found = {split: rows.fingerprint() for split, rows in splits.items() if isinstance(rows, Addressed)}
    tables = {split: table for split, table in found.items() if table is not None}
    if not tables:
        return None
    return Fingerprint(tables, {split: SplitRows(split, table.rows) for split, table in tables.items()})
