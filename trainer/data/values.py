"""A table's columns in the few Arrow types that the rest tells apart, and the rows of it that are looked at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

Indices = NDArray[np.int64]


@contextmanager
def rows_of_the_table(rows: Indices | None) -> Iterator[None]:
    """Errors that name a row of the chosen `rows` name that of the table: a person looks it up in the file."""
    try:
        yield
    except UsageError as error:
        found = re.search(r"(?<= at row )\d+$", error.what)
        if rows is None or found is None:
            raise
        what = f"{error.what[: found.start()]}{rows[int(found[0]) - 1] + 1}"
        raise UsageError(what, where=error.where, fix=error.fix) from error


def values_of(table: pa.Table, name: str, rows: Indices | None) -> pa.ChunkedArray:
    """A column, or `rows` of it, as text, truth values, integers or floats where its type is of that kind."""
    import pyarrow as pa
    from pyarrow import compute

    values = table.column(name)
    if rows is not None:
        values = values.take(pa.array(rows))
    if pa.types.is_dictionary(values.type):
        values = compute.cast(values, values.type.value_type)
    if pa.types.is_large_string(values.type) or str(values.type) == "string_view":
        return compute.cast(values, pa.string())
    if pa.types.is_float16(values.type):
        # By way of numpy, because early pyarrow casts no half floats; NaN is missing, as everywhere.
        return pa.chunked_array([pa.array(values.to_numpy().astype(np.float32), from_pandas=True)])
    return compute.cast(values, pa.float64()) if pa.types.is_decimal(values.type) else values


def as_float(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Integers as float64, rounded beyond 2⁵³, which pyarrow refuses unless it is told; nulls of no type too."""
    import pyarrow as pa
    from pyarrow import compute

    # A file of few rows may have a column without a single value, which is then of no type.
    wanted = pa.types.is_integer(values.type) or pa.types.is_null(values.type)
    return compute.cast(values, pa.float64(), safe=False) if wanted else values


def labels_of(table: pa.Table, name: str, rows: Indices | None, *, where: str) -> pa.ChunkedArray:
    """The label column. Raises UsageError for values that cannot name classes."""
    values = values_of(table, name, rows)
    check_flat(name, values, where=where)
    return values


def check_flat(name: str, values: pa.ChunkedArray, *, where: str) -> None:
    """Lists, structs and bytes are no classes and no categories."""
    import pyarrow as pa

    kind = values.type
    if pa.types.is_nested(kind) or not (pa.types.is_primitive(kind) or pa.types.is_string(kind)):
        if pa.types.is_null(kind):
            return
        raise UsageError(f"column {name!r} holds {kind}, which is neither numbers nor text", where=where)
