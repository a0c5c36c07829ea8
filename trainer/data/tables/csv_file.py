"""CSV files and pipes. All columns are text: what a column is depends on all its values, never on the first ones."""

from __future__ import annotations

import codecs
import csv
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.data.tables.compressed import OpenedFile, opened
from trainer.data.tables.csv_header import Header, check_unique, named, read_header, shown
from trainer.data.tables.csv_rows import blocks_of, read_some
from trainer.data.tables.formats import PARQUET_MAGIC, UTF_16_MARKS, delimiter_of
from trainer.data.tables.stream import OneFile
from trainer.data.tables.threads import in_order
from trainer.errors import UsageError, first_line

if TYPE_CHECKING:
    import pyarrow as pa

HEADER_BYTES = 16 << 20
"""A longer first line is not taken for a header."""
SAMPLE_BYTES = 1 << 16


class CsvStream(OneFile):
    """A CSV file. The header is read at once, the rows on demand; all columns are text."""

    def __init__(
        self,
        file: Any,
        where: str,
        *,
        usual: str = ",",
        likely: str | None = None,
        delimiter: str | None = None,
        counted: OpenedFile | None = None,
        total: int | None = None,
        is_file: bool = False,
    ) -> None:
        self.where = where
        self.usual = usual
        self.total = total
        self._counted = counted
        self._is_file = is_file
        self._file = file
        try:
            self._beginning, header = self._read_header(likely or usual, delimiter)
        except BaseException:
            self.close()
            raise
        self.delimiter = header.delimiter
        made, left_out = named(header.names)
        self._width = len(made)
        self._places = [place for place in range(len(made)) if place not in left_out]
        self.names = [made[place] for place in self._places]
        self.left_out = [made[place] for place in left_out]
        self.advice = header.advice
        unnamed = [self.names[index] for index, place in enumerate(self._places) if not header.names[place]]
        self.notes = [
            *(["left out: the first column, which has no name, like the index that pandas writes"] if left_out else []),
            *([f"columns without a name are called {', '.join(unnamed)}"] if unnamed else []),
            *([f"the delimiter is {shown(header.delimiter)}"] if header.delimiter not in (usual, delimiter) else []),
        ]

    @classmethod
    def of_file(
        cls, path: Path, *, delimiter: str | None = None, usual: str | None = None, likely: str | None = None
    ) -> CsvStream:
        """Opens the file at a path; a compressed one is decompressed on the fly.

        The `likely` delimiter is tried before the `usual` one, which needs no note.
        """
        file = opened(path)
        return cls(
            file,
            str(path),
            usual=usual or delimiter_of(path),
            likely=likely,
            delimiter=delimiter,
            counted=file,
            total=path.stat().st_size,
            is_file=path.is_file(),
        )

    @classmethod
    def of_standard_input(cls, *, delimiter: str | None = None, usual: str | None = None) -> CsvStream:
        """The rows on standard input, which stays open."""
        file = io.BytesIO() if sys.stdin is None else _Kept(sys.stdin.buffer)
        return cls(file, "standard input", usual=usual or ",", delimiter=delimiter)

    @property
    def done(self) -> int:
        """The bytes read so far, before decompression."""
        return self._counted.bytes_read if self._counted is not None else 0

    def close(self) -> None:
        """Closes the file; the process's standard input stays open."""
        self._file.close()

    def _read_header(self, usual: str, delimiter: str | None) -> tuple[bytes, Header]:
        """The bytes read so far after the header, and the header."""
        beginning = b""
        while True:
            more = read_some(self._file, SAMPLE_BYTES, self.where)
            if not beginning and more.startswith(UTF_16_MARKS):
                self._file = _Recoded(self._file, more)
                more = read_some(self._file, SAMPLE_BYTES, self.where)
            beginning += more
            if beginning[:2] == b"\x1f\x8b" or beginning.startswith(PARQUET_MAGIC) or b"\0" in beginning:
                raise UsageError(
                    "it is not text, so it cannot be CSV", where=self.where, fix="If it is UTF-16, save it as UTF-8."
                )
            marked = len(codecs.BOM_UTF8) if beginning.startswith(codecs.BOM_UTF8) else 0
            text = beginning[marked:].decode("utf-8", errors="surrogateescape")
            header = read_header(text, usual=usual, delimiter=delimiter, where=self.where)
            # A line that continues beyond the bytes read so far may be part of a quoted name.
            if not more or (header is not None and (header.characters < len(text) or text.endswith("\n"))):
                break
            if len(beginning) > HEADER_BYTES:
                raise UsageError("its first line does not end", where=self.where)
        if header is None:
            raise UsageError("it is empty", where=self.where)
        try:
            "".join(header.names).encode()
        except UnicodeEncodeError as error:
            raise UsageError("its header is not UTF-8 text", where=self.where, fix="Save it as UTF-8.") from error
        first = text[: header.characters].encode("utf-8", errors="surrogateescape")
        return beginning[marked + len(first) :], header

    def parts(self, wanted: Sequence[str]) -> Iterator[pa.Table]:
        check_unique(wanted, self.names, self.where)
        places = [self._places[self.names.index(name)] for name in wanted]
        blocks = blocks_of(self._file, self._beginning, self.delimiter, self.where)
        tried = partial(self._tried, places)
        # What is behind a pipe may be waited for, while what came is asked for.
        parsed = in_order(blocks, tried) if self._is_file else map(tried, blocks)
        for block, table in parsed:
            part = self._parse(block, places, self.rows_read) if table is None else table
            self.rows_read += part.num_rows
            if part.num_rows:
                yield part.rename_columns(list(wanted))

    def _tried(self, places: Sequence[int], block: bytes) -> tuple[bytes, pa.Table | None]:
        """The rows of a block; None if it is wrong, which `_parse` tells when the rows before it are known."""
        import pyarrow as pa

        try:
            return b"", self._read(block, {str(place): pa.string() for place in places})
        except (pa.ArrowInvalid, UnicodeDecodeError):
            return block, None

    def _parse(self, block: bytes, places: Sequence[int], before: int) -> pa.Table:
        import pyarrow as pa

        if not block.strip(b"\r\n"):
            return pa.table({str(place): pa.array([], pa.string()) for place in places})
        try:
            return self._read(block, {str(place): pa.string() for place in places})
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            self._check_lengths(block, before)
            self._check_encoding(block, places, before)
            # Of a row with other bytes than text pyarrow cannot even make a message.
            what = "" if isinstance(error, UnicodeDecodeError) else f": {first_line(error)}"
            raise UsageError(f"it cannot be read as CSV{what}", where=self.where) from error

    def _read(self, block: bytes, types: dict[str, Any]) -> pa.Table:
        import pyarrow as pa
        from pyarrow import csv as pa_csv

        # Copied out of Python's memory: a thread of pyarrow may still hold it when the process ends after an error, and
        # freeing Python's memory then aborts the process.
        copy = pa.allocate_buffer(len(block))
        memoryview(copy).cast("B")[:] = block
        return pa_csv.read_csv(
            pa.BufferReader(copy),
            read_options=pa_csv.ReadOptions(
                column_names=[str(place) for place in range(self._width)],
                block_size=max(len(block), 1 << 20),
                use_threads=not self._is_file,
            ),
            parse_options=pa_csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                column_types=types, include_columns=list(types), strings_can_be_null=False
            ),
        )

    def _check_lengths(self, block: bytes, before: int) -> None:
        """Raises UsageError naming the first row whose length differs from the header's."""
        text = io.StringIO(block.decode("utf-8", errors="replace"), newline="")
        rows = (row for row in csv.reader(text, delimiter=self.delimiter) if row)
        # Python's reader rejects some rows that pyarrow reads; then pyarrow's message has to do.
        with suppress(csv.Error):
            for number, row in enumerate(rows, before + 1):
                if len(row) != self._width:
                    missing = "Add the missing ones" + (", or the quote that ends a value." if "\n" in row[-1] else ".")
                    sign = shown(self.delimiter).replace("','", "comma")
                    raise UsageError(
                        f"row {number} has {len(row)} values, the header names {self._width} columns",
                        where=self.where,
                        fix=f"Put values that contain a {sign} in quotes." if len(row) > self._width else missing,
                    )

    def _check_encoding(self, block: bytes, places: Sequence[int], before: int) -> None:
        """Raises UsageError naming the first value that is not UTF-8."""
        import pyarrow as pa

        names = dict(zip(self._places, self.names, strict=True))
        for place in places:
            with suppress(pa.ArrowInvalid):
                values = self._read(block, {str(place): pa.binary()}).column(0)
                for number, value in enumerate(values.to_pylist(), before + 1):
                    try:
                        value.decode()
                    except UnicodeDecodeError as error:
                        raise UsageError(
                            f"column {names[place]!r} is not UTF-8 text",
                            where=self.where,
                            row=number,
                            fix="Save the file as UTF-8.",
                        ) from error


class _Kept:
    """A file that stays open when this is closed."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def read1(self, size: int) -> bytes:
        data: bytes = self._file.read1(size)
        return data

    def close(self) -> None:
        pass


class _Recoded:
    """A UTF-16 file as UTF-8. `beginning` was read from it already, with its byte order mark."""

    def __init__(self, file: Any, beginning: bytes) -> None:
        self._file, self._beginning = file, beginning
        self._decoder = codecs.getincrementaldecoder("utf-16")()

    def read1(self, size: int) -> bytes:
        data = b""
        # A read may end within a character.
        while not data:
            raw, self._beginning = self._beginning or self._file.read1(size), b""
            data = self._decoder.decode(raw, final=not raw).encode()
            if not raw:
                break
        return data

    def close(self) -> None:
        self._file.close()
