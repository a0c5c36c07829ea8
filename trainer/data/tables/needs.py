"""How much memory files need as a table, before they are read."""

from __future__ import annotations

from pathlib import Path

from trainer.data.tables.compressed import COMPRESSIONS
from trainer.data.tables.formats import PARQUET, format_of
from trainer.data.tables.sources import Given, find_source, named
from trainer.data.tables.stream import STANDARD_INPUT

TIMES, TIMES_COMPRESSED = 4, 10
"""The memory that is needed for a file, as a multiple of its size."""


def bytes_needed(source: Given) -> int | None:
    """About how many bytes the table takes while it is read, learned from and encoded.

    None for standard input, which cannot be read twice.
    """
    if STANDARD_INPUT in named(source):
        return None
    return sum(_of_file(file.path) for file in find_source(source).files)


def _of_file(path: Path) -> int:
    if format_of(path) is PARQUET:
        from pyarrow import parquet

        metadata = parquet.read_metadata(path)
        groups = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
        # Values that repeat are stored once, and take eight bytes each in memory.
        return TIMES * int(max(groups, 8 * metadata.num_rows * metadata.num_columns))
    is_compressed = path.suffix.lower() in COMPRESSIONS
    return path.stat().st_size * (TIMES_COMPRESSED if is_compressed else TIMES)
