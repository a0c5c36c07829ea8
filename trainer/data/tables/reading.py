"""Opens the table in files, on standard input or in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.data.tables.arrow_file import ArrowStream
from trainer.data.tables.csv_file import CsvStream
from trainer.data.tables.formats import ARROW, CSV, JSON_LINES, Format, check_file, delimiter_of
from trainer.data.tables.frame import Frame, FrameStream
from trainer.data.tables.json_lines import JsonLinesStream
from trainer.data.tables.many import ManyFiles
from trainer.data.tables.parquet_file import ParquetStream
from trainer.data.tables.sources import Given, find_source, named
from trainer.data.tables.stream import STANDARD_INPUT, TableStream
from trainer.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa


def open_stream(source: Given | Frame, *, delimiter: str | None = None, usual: str | None = None) -> TableStream:
    """The table in CSV, JSON lines, Parquet or Arrow files, the CSV on standard input (`-`), or a table in memory.

    `source` is a file, a folder, a pattern such as `part-*.csv`, several of them, or a `Frame`. `delimiter` separates
    the values of CSV files; without one it is found, and the `usual` one is tried first. Raises UsageError if a file is
    missing, empty, of another format than its name says, or without a valid header, and if the files do not make one
    table.
    """
    if isinstance(source, Frame):
        return FrameStream(source)
    if named(source) == (STANDARD_INPUT,):
        return CsvStream.of_standard_input(delimiter=delimiter, usual=usual)
    if STANDARD_INPUT in named(source):
        raise UsageError("standard input (-) cannot be read together with files", fix="Name one or the other.")

    formats: dict[Path, Format] = {}

    def open_file(path: Path, first: TableStream | None) -> TableStream:
        kind = formats[path] = formats.get(path) or check_file(path)
        if kind is CSV:
            expected = usual or delimiter_of(path)
            likely = first.delimiter if isinstance(first, CsvStream) and first.usual == expected else None
            return CsvStream.of_file(path, delimiter=delimiter, usual=expected, likely=likely)
        return (JsonLinesStream if kind is JSON_LINES else ArrowStream if kind is ARROW else ParquetStream)(path)

    found = find_source(source)
    if len(found.files) == 1 and not found.files[0].partition and not found.notes:
        return open_file(found.files[0].path, None)
    return ManyFiles(found, open_file)


def whole(
    stream: TableStream, wanted: Sequence[str], watch: Callable[[int, int | None], None] | None = None
) -> pa.Table:
    """The wanted columns of all rows. Raises UsageError if there is no row, and like `TableStream.parts`.

    `watch` is called with how much was read, and how much there is, in the same unit.
    """
    import pyarrow as pa

    parts = []
    for part in stream.parts(wanted):
        parts.append(part)
        if watch is not None:
            watch(stream.done, stream.total)
    if not sum(part.num_rows for part in parts):
        raise UsageError("it has a header and no rows", where=stream.where)
    return pa.concat_tables(parts)


@contextmanager
def advised(stream: TableStream) -> Iterator[None]:
    """If the delimiter of a table seems to be another one than the given, errors say so."""
    try:
        yield
    except UsageError as error:
        if not stream.advice or stream.advice in error.fix:
            raise
        fix = f"{error.fix} {stream.advice}".strip()
        raise UsageError(error.what, where=error.where, fix=fix, row=error.row) from error


@contextmanager
def reading(source: Given | Frame, delimiter: str | None) -> Iterator[TableStream]:
    """The table in files or in memory, and `advised` errors."""
    with closing(open_stream(source, delimiter=delimiter)) as stream, advised(stream):
        yield stream


@contextmanager
def located(stream: TableStream) -> Iterator[None]:
    """Makes errors in the rows of a table of several files name the file, and the row in it."""
    try:
        yield
    except UsageError as error:
        if error.row is None or len(stream.files) <= 1:
            raise
        where, row = stream.place_of(error.row)
        raise UsageError(error.what, where=where, fix=error.fix, row=row) from error
