"""A table that is read anew for each look at it, some thousands of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.data.fingerprint import TableFingerprint
from trainer.data.tables.blocks import BLOCK_ROWS
from trainer.data.tables.checksums import ColumnChecksum
from trainer.data.tables.held import Watch
from trainer.data.tables.parts import Part
from trainer.data.tables.reading import reading
from trainer.data.tables.sources import Given
from trainer.data.tables.stream import FileRows, TableStream
from trainer.data.tables.values import FIRST_ROWS, are_numbers, of_text
from trainer.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa


class Streamed:
    """Files that are read from the beginning for each pass, with the columns that are wanted. Memory: a few blocks."""

    def __init__(
        self,
        source: Given,
        stream: TableStream,
        where: str,
        names: Sequence[str],
        *,
        delimiter: str | None,
        watch: Watch | None = None,
    ) -> None:
        import pyarrow as pa

        self.where, self.untyped, self.names = where, stream.untyped, names
        text = pa.string()
        self.kinds: Mapping[str, Any] = {name: text if self.untyped else stream.types[name] for name in names}
        self._source, self._delimiter, self._progress = source, delimiter, watch
        self._read: Sequence[FileRows] | None = None
        self._states = [_state(file.path) for file in stream.files]
        self._last = stream
        self._checksums: dict[str, ColumnChecksum] = {}
        self._numeric: frozenset[str] = frozenset()

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def files(self) -> Sequence[FileRows]:
        return self._read or ()

    @property
    def fingerprint(self) -> TableFingerprint:
        return TableFingerprint(self.rows, {name: self._checksums[name].text() for name in self.names})

    def as_numbers(self, names: Sequence[str]) -> None:
        if self.untyped:
            self._numeric = frozenset(names)

    def prepared(self, part: Part) -> Part:
        """The part with those columns of text as numbers that `as_numbers` named. May be called in any thread."""
        import pyarrow as pa

        table = part.table
        for name in self._numeric.intersection(table.column_names):
            values = table.column(name)
            numbers = of_text(values, truth=False) if are_numbers(values.slice(0, FIRST_ROWS)) else None
            if numbers is not None:
                table = table.set_column(table.column_names.index(name), name, pa.chunked_array([pa.array(numbers)]))
        return Part(table, part.first, part.rows)

    def parts(self, names: Sequence[str], what: str) -> Iterator[Part]:
        try:
            yield from self._parts(names, what)
        except UsageError as error:
            if self._read is not None and self._has_changed():
                raise _changed(self.where) from error
            raise

    def _parts(self, names: Sequence[str], what: str) -> Iterator[Part]:
        new = {name: ColumnChecksum(self.kinds[name]) for name in names if name not in self._checksums}
        first = 0
        with reading(self._source, self._delimiter) as stream:
            for table in recut(stream.parts(names)):
                for name, checksum in new.items():
                    checksum.add(table.column(name))
                yield Part(table, first)
                first += table.num_rows
                if self._progress is not None:
                    self._progress(what, stream.done, stream.total)
            files = stream.files
        if not first:
            raise UsageError("it has a header and no rows", where=self.where)
        if self._has_changed() or (self._read is not None and list(self._read) != list(files)):
            raise _changed(self.where)
        self._read, self._last = files, stream
        self._checksums |= new

    def _has_changed(self) -> bool:
        try:
            files = self._last.files
            return [_state(file.path) for file in files] != self._states
        except OSError:
            return True

    @contextmanager
    def located(self) -> Iterator[None]:
        try:
            yield
        except UsageError as error:
            if error.row is None or len(self.files) <= 1:
                raise
            where, row = self._last.place_of(error.row)
            raise UsageError(error.what, where=where, fix=error.fix, row=row) from error


def recut(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows, a block at a time; the last one may be shorter."""
    import pyarrow as pa

    waiting: list[pa.Table] = []
    count = 0
    for table in tables:
        waiting.append(table)
        count += table.num_rows
        if count < BLOCK_ROWS:
            continue
        together = pa.concat_tables(waiting)
        whole = count // BLOCK_ROWS * BLOCK_ROWS
        for start in range(0, whole, BLOCK_ROWS):
            yield together.slice(start, BLOCK_ROWS)
        waiting = [together.slice(whole)] if count > whole else []
        count -= whole
    if count:
        yield pa.concat_tables(waiting)


def _state(path: str) -> tuple[int, int, int]:
    """What changes with a file's content."""
    found = Path(path).stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


def _changed(where: str) -> UsageError:
    return UsageError("it changed while it was read", where=where, fix="Run again when nothing writes to it.")
