"""Tables of any size, read once in parts: what every reader of a format gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

STANDARD_INPUT = "-"


@dataclass(frozen=True)
class FileRows:
    """A file of a table, and how many of its rows were read."""

    path: str
    rows: int


class TableStream(Protocol):
    """A table that is read once, from the first row to the last. Its rows may be those of many files."""

    where: str
    """The name of the file or the folder, or `standard input`."""
    untyped: bool
    """Whether every column is text, because the format has no types."""
    total: int | None
    """How much there is to read, in the source's own unit; None if unknown."""

    @property
    def names(self) -> Sequence[str]:
        """The names of the columns that can be read, stripped of white space. A name may occur twice."""

    @property
    def left_out(self) -> Sequence[str]:
        """The names of columns that the file has and that cannot be read: the index that pandas writes."""

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know about how it is read, a line each."""

    @property
    def advice(self) -> str:
        """What to do if the columns are not those that the user expects; empty if there is nothing to say."""

    @property
    def done(self) -> int:
        """How much was read, in the unit of `total`."""

    @property
    def types(self) -> Mapping[str, Any]:
        """The Arrow types of the columns, if they are not text."""

    @property
    def files(self) -> Sequence[FileRows]:
        """The files, in the order of their rows, with the rows read so far."""

    def place_of(self, row: int) -> tuple[str, int]:
        """The file of a row that was read, and the row's number in it. Rows are numbered from 1."""

    def parts(self, wanted: Sequence[str]) -> Iterator[pa.Table]:
        """The wanted columns, some thousands of rows of one file at a time. Call it once.

        Text is not changed, and other columns are not looked at. Types are plain: dictionaries, large strings and views
        are strings. Raises UsageError unless the wanted names are those of
        one column each, and the rows have equal length.
        """

    def close(self) -> None:
        """Releases the file."""


class OneFile:
    """What the readers of one file share."""

    where: str
    untyped = True
    types: Mapping[str, Any] = {}
    advice = ""
    rows_read = 0

    @property
    def files(self) -> Sequence[FileRows]:
        return (FileRows(self.where, self.rows_read),)

    def place_of(self, row: int) -> tuple[str, int]:
        return self.where, row
