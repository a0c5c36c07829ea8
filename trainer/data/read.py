"""Reads tables from CSV and Parquet files, with an error message for everything that can be wrong with a file."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import UsageError, did_you_mean, first_line, listed

if TYPE_CHECKING:
    import pyarrow as pa

CSV_ENDINGS = (".csv", ".tsv", ".txt")
PARQUET_ENDINGS = (".parquet", ".pq")
MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?")
"""Text that means a missing value, without surrounding white space."""

PARQUET_MAGIC = b"PAR1"
OTHER_SEPARATORS = (",", ";", "\t", "|")
BLOCK_BYTES = 8 << 20
"""Types are guessed from this many bytes at the beginning: large enough that few files refute the guess later."""
WIDER = {"int64": "float64", "bool": "string", "null": "string"}
"""The type to read a column as if a later row refutes the guess; other types become text."""


def read_table(path: Path, *, text: Collection[str] = ()) -> pa.Table:
    """The table in a file; names and text are stripped of white space, and missing values are null.

    Columns of a CSV file that are named in `text` are read verbatim: `007` and `True` stay text instead of becoming a
    number and a boolean. Memory: the table, and little more while it is read.

    Raises UsageError if the file is missing, empty, of another format than its name says, or not a table with unique
    names and rows of equal length.
    """
    check_file(path)
    table = _read_csv(path, text) if is_csv(path) else _read_parquet(path)
    names = [name.strip() for name in table.column_names]
    check_names(names, path)
    if table.num_rows == 0:
        raise UsageError("it has a header and no rows", where=str(path))
    return table.rename_columns(names)


def is_csv(path: Path) -> bool:
    """Whether the name is that of a CSV file; anything else is Parquet."""
    name = path.name.lower().removesuffix(".gz")
    return name.endswith(CSV_ENDINGS)


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
    if not is_parquet and b"\0" in beginning:
        raise UsageError("it is not text, so it cannot be CSV", where=where)


def _beginning(path: Path) -> bytes:
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        return file.read(65536)


def check_names(names: Sequence[str], where: str | Path) -> None:
    """Raises UsageError for a name that is empty or given twice."""
    twice = sorted({name for name in names if names.count(name) > 1 and name})
    if twice:
        raise UsageError(f"two columns are named {listed(twice)}", where=str(where), fix="Rename one of them.")
    if "" in names:
        raise UsageError(
            f"column {names.index('') + 1} has no name", where=str(where), fix="Give it one in the first line."
        )


def delimiter_of(path: Path) -> str:
    """A tab for `.tsv` and `.tsv.gz`, otherwise a comma."""
    return "\t" if path.name.lower().removesuffix(".gz").endswith(".tsv") else ","


def _read_csv(path: Path, text: Collection[str]) -> pa.Table:
    """Reads with the types that pyarrow guesses from the beginning; retries with wider ones if a later row needs it."""
    import pyarrow as pa
    from pyarrow import csv as pa_csv

    delimiter = delimiter_of(path)
    header = _header(path, delimiter)
    parse = pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    types: dict[str, Any] = {name: pa.string() for name in header if name.strip() in text}
    while True:
        convert = pa_csv.ConvertOptions(
            column_types=types, null_values=list(MISSING), strings_can_be_null=True, quoted_strings_can_be_null=True
        )
        try:
            # Not read_csv: to correct its guesses it keeps the text of the whole file in memory until the end.
            with pa_csv.open_csv(
                path,
                read_options=pa_csv.ReadOptions(block_size=BLOCK_BYTES),
                parse_options=parse,
                convert_options=convert,
            ) as reader:
                table = reader.read_all()
        except UnicodeDecodeError as error:
            raise not_utf8(path) from error
        except pa.ArrowInvalid as error:
            column, kind = _misfit(str(error), path, delimiter)
            name = header[column]
            types[name] = pa.type_for_alias(WIDER.get(kind, "string") if name not in types else "string")
        except OSError as error:
            raise UsageError(f"it cannot be read: {error}", where=str(path)) from error
        else:
            binary = [field.name for field in table.schema if pa.types.is_binary(field.type)]
            if binary:
                raise UsageError(f"column {binary[0]!r} is not UTF-8 text", where=str(path), fix="Save it as UTF-8.")
            return with_truth_values(stripped(table), text)


def _header(path: Path, delimiter: str) -> list[str]:
    """The names as written in the file. Raises UsageError if they cannot be a table's."""
    try:
        _, names = next(_lines(path, delimiter), (0, []))
    except (csv.Error, OSError, EOFError, zlib.error) as error:
        raise UsageError(f"its header cannot be read: {error}", where=str(path)) from error
    check_header(names, delimiter, str(path))
    return names


def check_header(names: Sequence[str], delimiter: str, where: str) -> None:
    """Raises UsageError if the names, as written in the first line, cannot be a table's."""
    check_names([name.strip() for name in names], where)
    try:
        "".join(names).encode()
    except UnicodeEncodeError as error:
        raise not_utf8(where) from error
    other = [separator for separator in OTHER_SEPARATORS if separator in "".join(names) and separator != delimiter]
    if len(names) == 1 and other:
        raise UsageError(
            f"its only column is {names[0]!r}, which looks like several columns separated by {other[0]!r}",
            where=where,
            fix="Use tabs as separators in a .tsv file, and commas in any other.",
        )


def _misfit(message: str, path: Path, delimiter: str) -> tuple[int, str]:
    """The column whose conversion failed, and its guessed type. Raises UsageError for any other message."""
    where = str(path)
    if "invalid UTF8" in message:
        raise not_utf8(path)
    found = re.search(r"In CSV column #(\d+): CSV conversion error to (\w+)", message)
    if found is not None:
        return int(found[1]), {"double": "float64"}.get(found[2], found[2])
    if "Empty CSV" in message:
        raise UsageError("it has a header and no rows" if _header(path, delimiter) else "it is empty", where=where)
    if "Expected" in message and "columns" in message:
        # Python's reader rejects some files that pyarrow reads; then pyarrow's message has to do.
        with suppress(csv.Error):
            check_lengths(path, delimiter)
    raise UsageError(f"it cannot be read as CSV: {message.splitlines()[0]}", where=where)


def check_lengths(path: Path, delimiter: str) -> None:
    """Raises UsageError naming the first row whose length differs from the header's."""
    width = 0
    for number, row in _lines(path, delimiter):
        width = width or len(row)
        if len(row) != width:
            missing = "Add the missing ones" + (", or the quote that ends a value." if "\n" in row[-1] else ".")
            raise UsageError(
                f"row {number} has {len(row)} values, the header names {width} columns",
                where=str(path),
                fix="Put values that contain a comma in quotes." if len(row) > width else missing,
            )


def _lines(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The header as number 0 and the rows from 1, without empty lines."""
    with _text(path) as file:
        yield from enumerate(row for row in csv.reader(file, delimiter=delimiter) if row)


def not_utf8(where: str | Path) -> UsageError:
    """The error for bytes that are not text."""
    return UsageError("it is not UTF-8 text", where=str(where), fix="Save it as UTF-8.")


def _text(path: Path) -> Any:
    """The file as text; invalid UTF-8 becomes surrogates, so that values can still be counted."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="")
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _read_parquet(path: Path) -> pa.Table:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            check_names([name.strip() for name in file.schema_arrow.names], path)
            return stripped(file.read())
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"it cannot be read as Parquet: {first_line(error)}", where=str(path)) from error


def stripped(table: pa.Table) -> pa.Table:
    """Strips text of white space, and replaces words for missing by null."""
    import pyarrow as pa
    from pyarrow import compute

    missing = pa.array(MISSING)
    for number, field in enumerate(table.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            text = compute.utf8_trim_whitespace(compute.cast(table.column(number), pa.string()))
            text = compute.if_else(compute.is_in(text, missing), pa.scalar(None, pa.string()), text)
            table = table.set_column(number, field.name, text)
    return table


def with_truth_values(table: pa.Table, text: Collection[str]) -> pa.Table:
    """Converts text columns whose values are all true or false, such as ` True`, to booleans."""
    import pyarrow as pa
    from pyarrow import compute

    for number, field in enumerate(table.schema):
        if not pa.types.is_string(field.type) or field.name.strip() in text:
            continue
        lower = compute.utf8_lower(table.column(number))
        # `all` is null if every value is missing: such a column stays as it is.
        if compute.all(compute.is_in(lower.drop_null(), pa.array(["true", "false"])), min_count=1).as_py():
            table = table.set_column(number, field.name, compute.equal(lower, "true"))
    return table
