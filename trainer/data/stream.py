"""Tables that may be larger than memory: read from the first row to the last, a part at a time, from files or a pipe.

A CSV file is read as text throughout, and `trainer.data.cast` makes numbers of each part by what was learned of its
columns. Guessing types, as `trainer.data.read` does, would need the whole file: what the first part says of a column, a
later one may refute.
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
    is_csv,
    not_utf8,
)
from trainer.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

STANDARD_INPUT = "-"
BLOCK_BYTES = 4 << 20
"""Of a CSV file at a time. Some copies of a block are in memory at once."""
BATCH_ROWS = 1 << 15
"""Of a Parquet file at a time."""
PAGE_BYTES = 1 << 20
"""Of each column of a Parquet file at a time: a row group as a whole may be larger than memory."""
HEADER_BYTES = 16 << 20
"""A first line that is longer than that is none."""


class TableStream(Protocol):
    """A table that is read once, from its first row to its last."""

    where: str
    """The file's name, or `standard input`."""
    total: int | None
    """How much there is to read, in units of its own; None where that is not known."""

    @property
    def names(self) -> Sequence[str]:
        """Its columns, without white space around them."""

    @property
    def done(self) -> int:
        """How much of it was read."""

    def parts(self, wanted: Sequence[str]) -> Iterator[pa.Table]:
        """The wanted columns, some thousand rows at a time. To be called once.

        Text stays as it is written. Raises UsageError for what is no table of rows of equal length.
        """

    def close(self) -> None:
        """Gives the file free."""


def open_stream(source: str) -> TableStream:
    """The table in a CSV or Parquet file, or the CSV on standard input (`-`).

    Raises UsageError for a source that is missing, empty, not what its name says, or has no usable header.
    """
    if source == STANDARD_INPUT:
        return CsvStream(standard_input(), "standard input")
    path = Path(source)
    check_file(path)
    return CsvStream.of_file(path) if is_csv(path) else ParquetStream(path)


class CsvStream:
    """A CSV file: its header is read at once, its rows as they are asked for, all columns as text."""

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
        """The file at a path; `.gz` is unpacked on the way."""
        counted = _Counted(path)
        raw = io.BufferedReader(counted, 1 << 20)
        file: Any = gzip.GzipFile(fileobj=raw) if path.suffix.lower() == ".gz" else raw
        return cls(file, str(path), path=path, counted=counted, total=path.stat().st_size)

    @property
    def done(self) -> int:
        """The bytes that were read, before unpacking."""
        return self._counted.bytes if self._counted is not None else 0

    def close(self) -> None:
        """Closes the file; the process's standard input stays open."""
        self._file.close()
        if self._counted is not None:
            self._counted.close()

    def _read_header(self) -> tuple[bytes, list[str], str]:
        """What was read so far, the names in it as they are written, and what separates them."""
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
            # A line that goes on behind what was read so far may be a part of a name in quotes.
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
            return "\t" if self._path.name.lower().removesuffix(".gz").endswith(".tsv") else ","
        return "\t" if "\t" in line and "," not in line else ","

    def _read_some(self, size: int) -> bytes:
        try:
            # What is there: a pipe may not have more than the header for a long time.
            data: bytes = self._file.read1(size)
        except (OSError, EOFError, zlib.error) as error:
            raise UsageError(f"it cannot be read: {error}", where=self.where) from error
        return data

    def parts(self, wanted: Sequence[str]) -> Iterator[pa.Table]:
        """As the protocol has it."""
        import pyarrow as pa
        from pyarrow import csv as pa_csv

        written = dict(zip(self.names, self._header, strict=True))
        chosen = [written[name] for name in wanted]
        odd: list[Any] = []

        def note(row: Any) -> str:
            odd.append(row)
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
            raise self._complaint(str(error), odd) from error
        except UnicodeDecodeError as error:
            raise not_utf8(self.where) from error
        except (OSError, EOFError, zlib.error) as error:
            raise UsageError(f"it cannot be read: {error}", where=self.where) from error

    def _complaint(self, message: str, odd: Sequence[Any]) -> UsageError:
        """A word of our own for what pyarrow complains of in a file that is no table."""
        if "UTF8" in message:
            return not_utf8(self.where)
        if odd and self._path is not None:
            # Python's reader counts the rows; it refuses some files that pyarrow reads.
            try:
                with suppress(csv.Error):
                    check_lengths(self._path, self._delimiter)
            except UsageError as error:
                return error
        if odd:
            return UsageError(
                f"a row has {odd[0].actual_columns} values, the header names {len(self.names)} columns: "
                f"{odd[0].text[:80]!r}",
                where=self.where,
                fix="Put values that hold a comma in quotes.",
            )
        return UsageError(f"it cannot be read as CSV: {message.splitlines()[0]}", where=self.where)


class ParquetStream:
    """A Parquet file, a page of each wanted column at a time."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self.where = str(path)
        try:
            self._file = parquet.ParquetFile(path, pre_buffer=False, buffer_size=PAGE_BYTES)
            self._written = list(self._file.schema_arrow.names)
            self.total: int | None = int(self._file.metadata.num_rows)
        except (pa.ArrowException, OSError) as error:
            raise self._complaint(error) from error
        self.names = [name.strip() for name in self._written]
        check_names(self.names, self.where)
        self.done = 0
        """The rows that were read."""

    def parts(self, wanted: Sequence[str]) -> Iterator[pa.Table]:
        """As the protocol has it."""
        import pyarrow as pa

        written = dict(zip(self.names, self._written, strict=True))
        try:
            for batch in self._file.iter_batches(BATCH_ROWS, columns=[written[name] for name in wanted]):
                self.done += batch.num_rows
                table = pa.Table.from_batches([batch])
                # The file gives its columns in an order of its own.
                yield table.select([written[name] for name in wanted]).rename_columns(list(wanted))
        except (pa.ArrowException, OSError) as error:
            raise self._complaint(error) from error

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _complaint(self, error: Exception) -> UsageError:
        return UsageError(f"it cannot be read as Parquet: {next(iter(str(error).splitlines()), '')}", where=self.where)


class _Counted(io.RawIOBase):
    """A file that counts what is read of it."""

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
    """What was read of a file already, and then the rest of it."""

    def __init__(self, beginning: bytes, rest: Any) -> None:
        self._beginning = io.BytesIO(beginning)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._beginning.read(size)
        return data if len(data) == size else data + self._rest.read(size - len(data) if size >= 0 else -1)
