"""Opens the table in a file or on standard input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.data.tables.csv_file import CsvStream
from trainer.data.tables.parquet_file import ParquetStream
from trainer.data.tables.stream import STANDARD_INPUT, TableStream, check_file, is_csv
from trainer.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa


def open_stream(source: str, *, delimiter: str | None = None, usual: str | None = None) -> TableStream:
    """The table in a CSV or Parquet file, or the CSV on standard input (`-`).

    `delimiter` separates the values of a CSV file; without one it is found, and the `usual` one is tried first. Raises
    UsageError if the source is missing, empty, of another format than its name says, or has no valid header.
    """
    if source == STANDARD_INPUT:
        return CsvStream.of_standard_input(delimiter=delimiter, usual=usual)
    path = Path(source)
    check_file(path)
    return CsvStream.of_file(path, delimiter=delimiter, usual=usual) if is_csv(path) else ParquetStream(path)


def whole(stream: TableStream, wanted: Sequence[str]) -> pa.Table:
    """The wanted columns of all rows. Raises UsageError if there is no row, and like `TableStream.parts`."""
    import pyarrow as pa

    parts = list(stream.parts(wanted))
    if not sum(part.num_rows for part in parts):
        raise UsageError("it has a header and no rows", where=stream.where)
    return pa.concat_tables(parts)
