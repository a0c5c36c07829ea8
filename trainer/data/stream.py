"""Streams tables that may be larger than memory, in parts, from files or a pipe.

A CSV file is read as text, and `trainer.data.cast` converts each part to the schema's types. Guessing types, as
`trainer.data.read` does, needs the whole file: a later part may refute a guess from the first one.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from trainer.data.pipe import standard_input
from trainer.data.read import (
    PARQUET_MAGIC,
    check_file,
    check_header,
    check_lengths,
    check_names,
    delimiter_of,
    is_csv,
    not_utf8,
)
from trainer.errors import UsageError, first_line

if TYPE_CHECKING:
    import pyarrow as pa

STANDARD_INPUT = "-"
BLOCK_BYTES = 4 << 20
"""Block size for CSV files. Several copies of a block are in memory at once."""
BATCH_ROWS = 1 << 15
"""Rows per part of a Parquet file."""
PAGE_BYTES = 1 << 20
"""Read buffer for each column of a Parquet file: a whole row group may be larger than memory."""
HEADER_BYTES = 16 << 20
"""A longer first line is not taken for a header."""


class TableStream(Protocol):
    """A table that is read once, from the first row to the last."""

    where: str
    """The file's name, or `standard input`."""
    total: int | None
    """How much there is to read, in the source's own unit; None if unknown."""

    @property
    def names(self) -> Sequence[str]:
        """The column names, stripped of white space."""

    @property
    def done(self) -> int:
        """How much was read, in the unit of `total`."""

    def parts(self, wanted: Sequence[str]) -> Iterator[pa.Table]:
        """The wanted columns, some thousands of rows at a time. Call it once.

        Text is not changed. Raises UsageError unless the source is a table with rows of equal length.
        """

    def close(self) -> None:
        """Releases the file."""


def open_stream(source: str) -> TableStream:
    """The table in a CSV or Parquet file, or the CSV on standard input (`-`).

    Raises UsageError if the source is missing, empty, of another format than its name says, or has no valid header.
    """
    if source == STANDARD_INPUT:
        return CsvStream(standard_input(), "standard input")
    path = Path(source)
    check_file(path)
    return CsvStream.of_file(path) if is_csv(path) else ParquetStream(path)


class CsvStream:
    """A CSV file. The header is read at once, the rows on demand; all columns are text."""

    def __init__(
        self,
        file: Any,
        where: str,
        *,
        path: Path | None = None,
        counted: _Counted | None = None,
        total: int | None = None,
    ) -> None:
        self.where = where
        self.total = total
        self._path = path
        self._counted = counted
        self._file = file
        try:
            self._beginning, self._header, self._delimiter = self._read_header()
        except BaseException:
            self.close()
            raise
        self.names = [name.strip() for name in self._header]

    @classmethod
    def of_file(cls, path: Path) -> CsvStream:
        """Opens the file at a path; `.gz` is decompressed on the fly."""
        counted = _Counted(path)
        raw = io.BufferedReader(counted, 1 << 20)
        file: Any = gzip.GzipFile(fileobj=raw) if path.suffix.lower() == ".gz" else raw
        return cls(file, str(path), path=path, counted=counted, total=path.stat().st_size)

    @property
    def done(self) -> int:
        """The bytes read so far, before decompression."""
        return self._counted.bytes if self._counted is not None else 0

    def close(self) -> None:
        """Closes the file; the process's standard input stays open."""
        self._file.close()
        if self._counted is not None:
            self._counted.close()

    def _read_header(self) -> tuple[bytes, list[str], str]:
        """The bytes read so far, the names as written in the file, and the delimiter."""
        beginning = b""
        while True:
            more = self._read_some(1 << 16)
            beginning += more
            if beginning[:2] == b"\x1f\x8b" or beginning.startswith(PARQUET_MAGIC) or b"\0" in beginning:
                raise UsageError("it is not text, so it cannot be CSV", where=self.where)
            text = beginning.decode("utf-8-sig", errors="surrogateescape")
            delimiter = self._separator(text.partition("\n")[0])
            lines = io.StringIO(text, newline="")
            try:
                names = next((row for row in csv.reader(lines, delimiter=delimiter) if row), [])
            except csv.Error as error:
                raise UsageError(f"its header cannot be read: {error}", where=self.where) from error
            # A line that continues beyond the bytes read so far may be part of a quoted name.
            if not more or (names and (lines.tell() < len(text) or text.endswith("\n"))):
                break
            if len(beginning) > HEADER_BYTES:
                raise UsageError("its first line does not end", where=self.where)
        if not names:
            raise UsageError("it is empty", where=self.where)
        check_header(names, delimiter, self.where)
        return beginning, names, delimiter

    def _separator(self, line: str) -> str:
        if self._path is not None:
            return delimiter_of(self._path)
        return "\t" if "\t" in line and "," not in line else ","

    def _read_some(self, size: int) -> bytes:
        try:
            # Only what is available: a pipe may have nothing beyond the header for a long time.
            data: bytes = self._file.read1(size)
        except (OSError, EOFError, zlib.error) as error:
            raise UsageError(f"it cannot be read: {error}", where=self.where) from error
        return data

    def parts(self, wanted: Sequence[str]) -> Iterator[pa.Table]:
        import pyarrow as pa
        from pyarrow import csv as pa_csv

        written = dict(zip(self.names, self._header, strict=True))
        chosen = [written[name] for name in wanted]
        invalid: list[Any] = []

        def note(row: Any) -> str:
            invalid.append(row)
            return "error"

        try:
            with pa_csv.open_csv(
                _Chained(self._beginning, self._file),
                read_options=pa_csv.ReadOptions(block_size=BLOCK_BYTES),
                parse_options=pa_csv.ParseOptions(
                    delimiter=self._delimiter, newlines_in_values=True, invalid_row_handler=note
                ),
                convert_options=pa_csv.ConvertOptions(
                    column_types={name: pa.string() for name in chosen},
                    include_columns=chosen,
                    strings_can_be_null=False,
                ),
            ) as reader:
                for batch in reader:
                    if batch.num_rows:
                        yield pa.Table.from_batches([batch]).rename_columns(list(wanted))
        except pa.ArrowInvalid as error:
            raise self._error(str(error), invalid) from error
        except UnicodeDecodeError as error:
            raise not_utf8(self.where) from error
        except (OSError, EOFError, zlib.error) as error:
            raise UsageError(f"it cannot be read: {error}", where=self.where) from error

    def _error(self, message: str, invalid: Sequence[Any]) -> UsageError:
        """A readable error for pyarrow's message about a file that is not a table."""
        if "UTF8" in message:
            return not_utf8(self.where)
        if invalid and self._path is not None:
            # Python's reader finds the row number; it rejects some files that pyarrow reads.
            try:
                with suppress(csv.Error):
                    check_lengths(self._path, self._delimiter)
            except UsageError as error:
                return error
        if invalid:
            return UsageError(
                f"a row has {invalid[0].actual_columns} values, the header names {len(self.names)} columns: "
                f"{invalid[0].text[:80]!r}",
                where=self.where,
                fix="Put values that contain a comma in quotes.",
            )
        return UsageError(f"it cannot be read as CSV: {message.splitlines()[0]}", where=self.where)


class ParquetStream:
    """A Parquet file, read page by page."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self.where = str(path)
        try:
            self._file = parquet.ParquetFile(path, pre_buffer=False, buffer_size=PAGE_BYTES)
            self._written = list(self._file.schema_arrow.names)
            self.total: int | None = int(self._file.metadata.num_rows)
        except (pa.ArrowException, OSError) as error:
            raise self._error(error) from error
        self.names = [name.strip() for name in self._written]
        check_names(self.names, self.where)
        self.done = 0
        """The rows read so far."""

    def parts(self, wanted: Sequence[str]) -> Iterator[pa.Table]:
        import pyarrow as pa

        written = dict(zip(self.names, self._written, strict=True))
        try:
            for batch in self._file.iter_batches(BATCH_ROWS, columns=[written[name] for name in wanted]):
                self.done += batch.num_rows
                table = pa.Table.from_batches([batch])
                # iter_batches returns the columns in the file's order.
                yield table.select([written[name] for name in wanted]).rename_columns(list(wanted))
        except (pa.ArrowException, OSError) as error:
            raise self._error(error) from error

    def close(self) -> None:
        self._file.close()

    def _error(self, error: Exception) -> UsageError:
        return UsageError(f"it cannot be read as Parquet: {first_line(error)}", where=self.where)


class _Counted(io.RawIOBase):
    """A file that counts the bytes read."""

    def __init__(self, path: Path) -> None:
        self._raw = path.open("rb", buffering=0)
        self.bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count: int = self._raw.readinto(buffer) or 0
        self.bytes += count
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Chained(io.RawIOBase):
    """The bytes already read from a file, followed by the rest of it."""

    def __init__(self, beginning: bytes, rest: Any) -> None:
        self._beginning = io.BytesIO(beginning)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._beginning.read(size)
        return data if len(data) == size else data + self._rest.read(size - len(data) if size >= 0 else -1)
