"""Tables from CSV and Parquet files, with every complaint that a file can give rise to."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import UsageError, did_you_mean, listed

if TYPE_CHECKING:
    import pyarrow as pa

CSV_ENDINGS = (".csv", ".tsv", ".txt")
PARQUET_ENDINGS = (".parquet", ".pq")
MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?")
"""What stands for a missing value in a text field, white space around it left out."""

PARQUET_MAGIC = b"PAR1"
WIDER = {"int64": "float64", "bool": "string", "null": "string"}
"""What a column is read as where the type guessed from its beginning does not hold; anything else becomes text."""


def read_table(path: Path) -> pa.Table:
    """The table in a file, its names and texts stripped of white space, its missing values null.

    Raises UsageError for a file that is missing, empty, not what its name says, or not a table of rows of equal length
    under unique names.
    """
    _check_file(path)
    table = _read_csv(path) if _is_csv(path) else _read_parquet(path)
    names = [name.strip() for name in table.column_names]
    _check_names(names, path)
    if table.num_rows == 0:
        raise UsageError("it has a header and no rows", where=str(path))
    return table.rename_columns(names)


def _is_csv(path: Path) -> bool:
    name = path.name.lower().removesuffix(".gz")
    return name.endswith(CSV_ENDINGS)


def _check_file(path: Path) -> None:
    where = str(path)
    if path.is_dir():
        raise UsageError("it is a folder", where=where, fix="Name a CSV or Parquet file in it.")
    if not path.exists():
        siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UsageError(
            "there is no such file", where=where, fix=did_you_mean(path.name, siblings) or "Check the path."
        )
    if not _is_csv(path) and path.suffix.lower() not in PARQUET_ENDINGS:
        endings = listed([*CSV_ENDINGS, *PARQUET_ENDINGS])
        raise UsageError(f"its ending {path.suffix!r} says neither CSV nor Parquet", where=where, fix=f"Use {endings}.")
    try:
        with path.open("rb") as file:
            beginning = file.read(65536)
    except OSError as error:
        raise UsageError(f"it cannot be read: {error.strerror}", where=where) from error
    if not beginning:
        raise UsageError("it is empty", where=where)
    is_parquet = beginning.startswith(PARQUET_MAGIC)
    if is_parquet and _is_csv(path):
        raise UsageError("it is a Parquet file, not CSV", where=where, fix="Rename it to end in .parquet.")
    if not is_parquet and not _is_csv(path):
        raise UsageError("it is not a Parquet file", where=where, fix="If it is CSV, rename it to end in .csv.")
    if not is_parquet and path.suffix.lower() != ".gz" and b"\0" in beginning:
        raise UsageError("it is not text, so it cannot be CSV", where=where)


def _check_names(names: Sequence[str], path: Path) -> None:
    twice = sorted({name for name in names if names.count(name) > 1 and name})
    if twice:
        raise UsageError(f"two columns are called {listed(twice)}", where=str(path), fix="Rename one of them.")
    if "" in names:
        raise UsageError(
            f"column {names.index('') + 1} has no name", where=str(path), fix="Give it one in the first line."
        )


def _read_csv(path: Path) -> pa.Table:
    """Reads with the types that pyarrow guesses from the beginning, and with wider ones where a later row needs it."""
    import pyarrow as pa
    from pyarrow import csv as pa_csv

    is_tab = path.name.lower().removesuffix(".gz").endswith(".tsv")
    parse = pa_csv.ParseOptions(delimiter="\t" if is_tab else ",", newlines_in_values=True)
    types: dict[str, Any] = {}
    while True:
        convert = pa_csv.ConvertOptions(
            column_types=types, null_values=list(MISSING), strings_can_be_null=True, quoted_strings_can_be_null=True
        )
        try:
            table = pa_csv.read_csv(path, parse_options=parse, convert_options=convert)
        except UnicodeDecodeError as error:
            raise UsageError("it is not UTF-8 text", where=str(path), fix="Save it as UTF-8.") from error
        except pa.ArrowInvalid as error:
            name, kind = _misfit(str(error), path, parse.delimiter)
            types[name] = pa.type_for_alias(WIDER.get(kind, "string") if name not in types else "string")
        except OSError as error:
            raise UsageError(f"it cannot be read: {error}", where=str(path)) from error
        else:
            binary = [field.name for field in table.schema if pa.types.is_binary(field.type)]
            if binary:
                raise UsageError(f"column {binary[0]!r} is not UTF-8 text", where=str(path), fix="Save it as UTF-8.")
            return _stripped(table)


def _misfit(message: str, path: Path, delimiter: str) -> tuple[str, str]:
    """The column, and its guessed type, that a conversion failed for. Raises UsageError for any other complaint."""
    where = str(path)
    if "invalid UTF8" in message:
        raise UsageError("it is not UTF-8 text", where=where, fix="Save it as UTF-8.")
    found = re.search(r"In CSV column #(\d+): CSV conversion error to (\w+)", message)
    if found is not None:
        with _text(path) as file:
            names = next(csv.reader(file, delimiter=delimiter))
        # Duplicate names are complained of before a column is asked for by its name.
        _check_names([name.strip() for name in names], path)
        return names[int(found[1])], {"double": "float64"}.get(found[2], found[2])
    if "Expected" in message and "columns" in message:
        _ragged(path, delimiter)
    raise UsageError(f"it cannot be read as CSV: {message.splitlines()[0]}", where=where)


def _ragged(path: Path, delimiter: str) -> None:
    """Raises UsageError that names the first row of another length than the header."""
    with _text(path) as file:
        reader = csv.reader(file, delimiter=delimiter)
        width = len(next(reader))
        for number, row in enumerate((row for row in reader if row), start=1):
            if len(row) != width:
                raise UsageError(
                    f"row {number} has {len(row)} values, the header names {width} columns",
                    where=str(path),
                    fix="Put values that hold a comma in quotes." if len(row) > width else "Add the missing ones.",
                )


def _text(path: Path) -> Any:
    if path.suffix.lower() == ".gz":
        import gzip

        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _read_parquet(path: Path) -> pa.Table:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            _check_names([name.strip() for name in file.schema_arrow.names], path)
            return _stripped(file.read())
    except (pa.ArrowException, OSError) as error:
        message = next(iter(str(error).splitlines()), "")
        raise UsageError(f"it cannot be read as Parquet: {message}", where=str(path)) from error


def _stripped(table: pa.Table) -> pa.Table:
    """Texts without the white space around them, and null where only a word for missing is left."""
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
