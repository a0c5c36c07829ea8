"""A table that is read once and held in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from trainer.data.fingerprint import TableFingerprint
from trainer.data.tables.checksums import fingerprint_of
from trainer.data.tables.once import release_unused, with_numbers
from trainer.data.tables.parts import Part
from trainer.data.tables.reading import located, whole
from trainer.data.tables.stream import FileRows, TableStream

if TYPE_CHECKING:
    import pyarrow as pa


Watch: TypeAlias = Callable[[str, int, "int | None"], None]
"""What is read for, how much was read, and how much there is in the same unit, None if unknown."""


class Readable(Protocol):
    """Some columns of a table, which can be read any number of times."""

    where: str
    untyped: bool
    names: Sequence[str]
    """The columns."""

    @property
    def rows(self) -> int:
        """The rows of the table, known after the first reading."""

    @property
    def kinds(self) -> Mapping[str, Any]:
        """The Arrow types of the columns."""

    @property
    def files(self) -> Sequence[FileRows]:
        """The files, in the order of their rows."""

    @property
    def fingerprint(self) -> TableFingerprint:
        """Of all columns, each of which was read."""

    def parts(self, names: Sequence[str], what: str) -> Iterator[Part]:
        """All rows from the first one on, whole blocks at a time; `what` the reading is for, in a word or two.

        Raises UsageError for a table without a row, like `TableStream.parts`, and for one that has changed.
        """

    def as_numbers(self, names: Sequence[str]) -> None:
        """Columns of which the text is to be read as numbers, if it is nothing else."""

    def located(self) -> AbstractContextManager[None]:
        """Makes errors in the rows of a table of several files name the file, and the row in it."""


class Held:
    """All rows in memory, in one part."""

    def __init__(self, stream: TableStream, where: str, names: Sequence[str], *, watch: Watch | None = None) -> None:
        self.where, self.untyped, self.names = where, stream.untyped, names
        as_read = None if watch is None else partial(watch, "read")
        self.table: pa.Table = whole(stream, names, as_read)
        self._stream = stream
        # Before texts become numbers.
        self.fingerprint = fingerprint_of(self.table)

    @property
    def rows(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def files(self) -> Sequence[FileRows]:
        return self._stream.files

    @property
    def kinds(self) -> Mapping[str, Any]:
        return dict(zip(self.table.column_names, self.table.schema.types, strict=True))

    def parts(self, names: Sequence[str], what: str) -> Iterator[Part]:
        yield Part.of(self.table)

    def as_numbers(self, names: Sequence[str]) -> None:
        if self.untyped:
            for name in names:
                # One by one, so that a column's text is given up before the next is read.
                self.table = with_numbers(self.table, name)
            release_unused()

    def located(self) -> AbstractContextManager[None]:
        return located(self._stream)
