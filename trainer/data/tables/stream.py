"""Tables of any size, read once in parts: what a file gives, and which class reads it."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from trainer.errors import UsageError, did_you_mean, listed

if TYPE_CHECKING:
    import pyarrow as pa

STANDARD_INPUT = "-"
CSV_ENDINGS = (".csv", ".tsv", ".txt")
PARQUET_ENDINGS = (".parquet", ".pq")
PARQUET_MAGIC = b"PAR1"
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class TableStream(Protocol):
    """A table that is read once, from the first row to the last."""

    where: str
    """The file's name, or `standard input`."""
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

    def parts(self, wanted: Sequence[str]) -> Iterator[pa.Table]:
        """The wanted columns, some thousands of rows at a time. Call it once.

        Text is not changed, and other columns are not looked at. Raises UsageError unless the wanted names are those of
        one column each, and the rows have equal length.
        """

    def close(self) -> None:
        """Releases the file."""


def is_csv(path: Path) -> bool:
    """Whether the name is that of a CSV file; anything else is Parquet."""
    name = path.name.lower().removesuffix(".gz")
    return name.endswith(CSV_ENDINGS)


def delimiter_of(path: Path) -> str:
    """The usual delimiter of the suffix: a tab for `.tsv` and `.tsv.gz`, otherwise a comma."""
    return "\t" if path.name.lower().removesuffix(".gz").endswith(".tsv") else ","


def check_file(path: Path) -> None:
    """Raises UsageError if the file is missing, empty, or of another format than its name says."""
    where = str(path)
    try:
        if path.is_dir():
            raise UsageError("it is a folder", where=where, fix="Name a CSV or Parquet file in it.")
        if not path.exists():
            siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
            raise UsageError(
                "there is no such file", where=where, fix=did_you_mean(path.name, siblings) or "Check the path."
            )
        if not is_csv(path) and path.suffix.lower() not in PARQUET_ENDINGS:
            raise UsageError(
                f"its suffix {path.suffix!r} is neither CSV's nor Parquet's",
                where=where,
                fix=f"Use {listed([*CSV_ENDINGS, *PARQUET_ENDINGS])}.",
            )
        beginning = _beginning(path)
    except gzip.BadGzipFile as error:
        raise UsageError("it is not a gzip file", where=where, fix="If it is text, drop the .gz.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"it cannot be read: {getattr(error, 'strerror', None) or error}", where=where) from error
    if not beginning:
        raise UsageError("it is empty", where=where)
    is_parquet = beginning.startswith(PARQUET_MAGIC)
    if is_parquet and is_csv(path):
        raise UsageError("it is a Parquet file, not CSV", where=where, fix="Rename it to end in .parquet.")
    if not is_parquet and not is_csv(path):
        raise UsageError("it is not a Parquet file", where=where, fix="If it is CSV, rename it to end in .csv.")
    if not is_parquet and b"\0" in beginning and not beginning.startswith(UTF_16_MARKS):
        raise UsageError("it is not text, so it cannot be CSV", where=where, fix="If it is UTF-16, save it as UTF-8.")


def _beginning(path: Path) -> bytes:
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        return file.read(65536)
