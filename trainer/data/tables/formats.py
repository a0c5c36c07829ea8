"""The formats of tables: which one a file's name says, and whether its content agrees."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

from trainer.data.tables.compressed import BAD, COMPRESSIONS, opened
from trainer.errors import UsageError, did_you_mean, listed

PARQUET_MAGIC = b"PAR1"
ARROW_MAGIC, ARROW_STREAM_MARK, FEATHER_1_MAGIC = b"ARROW1", b"\xff\xff\xff\xff", b"FEA1"
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
BEGINNING_BYTES = 1 << 16


@dataclass(frozen=True)
class Format:
    """A format of files."""

    name: str
    endings: tuple[str, ...]
    is_text: bool

    @property
    def endings_text(self) -> str:
        """The endings, as a message lists them."""
        return listed(self.endings)


CSV = Format("CSV", (".csv", ".tsv", ".txt"), is_text=True)
JSON_LINES = Format("JSON lines", (".jsonl", ".ndjson", ".json"), is_text=True)
PARQUET = Format("Parquet", (".parquet", ".pq"), is_text=False)
ARROW = Format("Arrow", (".arrow", ".feather", ".ipc", ".arrows"), is_text=False)
FORMATS = (CSV, JSON_LINES, PARQUET, ARROW)


def _bare(path: Path) -> str:
    """The name in lower case, without the ending of a compression."""
    name = path.name.lower()
    return next((name.removesuffix(ending) for ending in COMPRESSIONS if name.endswith(ending)), name)


def format_of(path: Path) -> Format | None:
    """The format that the name says; None if its suffix is not that of a table."""
    name = _bare(path)
    return next((each for each in FORMATS if name.endswith(each.endings)), None)


def is_csv(path: Path) -> bool:
    """Whether the name is that of a CSV file, compressed or not."""
    return format_of(path) is CSV


def delimiter_of(path: Path) -> str:
    """The usual delimiter of the suffix: a tab for `.tsv`, compressed or not, otherwise a comma."""
    return "\t" if _bare(path).endswith(".tsv") else ","


def check_file(path: Path) -> Format:
    """The file's format. Raises UsageError if it is missing, empty, or of another format than its name says."""
    where = str(path)
    try:
        if not path.exists():
            siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
            raise UsageError(
                "there is no such file", where=where, fix=did_you_mean(path.name, siblings) or "Check the path."
            )
        named = check_name(path)
        beginning = _beginning(path)
    except gzip.BadGzipFile as error:
        raise UsageError("it is not a gzip file", where=where, fix="If it is text, drop the .gz.") from error
    except (*BAD, zlib.error) as error:
        raise UsageError(f"it cannot be read: {getattr(error, 'strerror', None) or error}", where=where) from error
    if not beginning:
        raise UsageError("it is empty", where=where)
    _check_content(beginning, named, where)
    return named


def check_name(path: Path) -> Format:
    """The format that the name says. Raises UsageError if there is none, or a compression that it does not have."""
    named, where = format_of(path), str(path)
    if named is None:
        raise UsageError(
            f"its suffix {path.suffix!r} is not that of a table",
            where=where,
            fix="Use " + "; ".join(f"{each.endings_text} for {each.name}" for each in FORMATS) + ".",
        )
    if not named.is_text and path.suffix.lower() in COMPRESSIONS:
        raise UsageError(
            f"{named.name} files are compressed inside, not as a whole",
            where=where,
            fix=f"Decompress it, and drop the {path.suffix}.",
        )
    return named


def _check_content(beginning: bytes, named: Format, where: str) -> None:
    is_arrow = beginning.startswith((ARROW_MAGIC, ARROW_STREAM_MARK))
    found = PARQUET if beginning.startswith(PARQUET_MAGIC) else ARROW if is_arrow else None
    if found is not None and found is not named:
        raise UsageError(
            f"it is {'an Arrow' if found is ARROW else 'a Parquet'} file, not {named.name}",
            where=where,
            fix=f"Rename it to end in {found.endings[0]}.",
        )
    if named is ARROW and beginning.startswith(FEATHER_1_MAGIC):
        raise UsageError(
            "it is a Feather file of version 1", where=where, fix="Write it again with a newer program, or as Parquet."
        )
    if not named.is_text and found is None:
        article = "an" if named is ARROW else "a"
        raise UsageError(
            f"it is not {article} {named.name} file", where=where, fix="If it is CSV, rename it to end in .csv."
        )
    if named.is_text and b"\0" in beginning and not (named is CSV and beginning.startswith(UTF_16_MARKS)):
        raise UsageError(
            f"it is not text, so it cannot be {named.name}", where=where, fix="If it is UTF-16, save it as UTF-8."
        )


def _beginning(path: Path) -> bytes:
    file = opened(path)
    try:
        return file.read1(BEGINNING_BYTES)
    finally:
        file.close()
