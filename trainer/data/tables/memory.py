"""Rows in memory as a table: data frames, dicts of columns, arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError, first_line, listed, type_of

if TYPE_CHECKING:
    import pyarrow as pa


def as_table(data: Any, columns: Sequence[str] | None = None) -> pa.Table:
    """The caller's data as a table: a data frame of pandas or polars, what exports an Arrow stream, an Arrow table or
    batch, a dict of columns, a structured array, or rows of an array with the given `columns`.

    Raises UsageError if it is not one, or if two columns have the same name.
    """
    import pyarrow as pa

    try:
        if isinstance(data, pa.Table):
            return data
        if isinstance(data, pa.RecordBatch):
            return pa.Table.from_batches([data])
        if isinstance(data, Mapping):
            return _of_columns(data, data.values())
        if hasattr(data, "asnumpy"):
            data = data.asnumpy()
        if isinstance(data, (np.ndarray, list, tuple)):
            return _of_array(np.asarray(data), columns)
        return _of_frame(data)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UsageError(
            f"it is not a table: {first_line(error)}",
            where="the data",
            fix="Pass a pyarrow Table, a data frame, a dict of columns, or an array (rows, columns).",
        ) from error


def _of_frame(data: Any) -> pa.Table:
    """A data frame, or whatever exports an Arrow stream. Raises TypeError for anything else."""
    import pyarrow as pa

    if hasattr(data, "iloc") and hasattr(data, "columns"):
        # By place, since two columns may have the same name.
        return _of_columns(data.columns, (data.iloc[:, place] for place in range(data.shape[1])))
    if hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__"):
        # Polars, DuckDB, Ibis and others.
        return pa.table(data)
    if hasattr(data, "collect"):
        raise TypeError(f"{type_of(data)} holds no rows yet: give its collect()")
    if hasattr(data, "columns"):
        return _of_columns(data.columns, (data[name] for name in data.columns))
    raise TypeError(f"{type_of(data)} is not a table")


def _of_columns(names: Iterable[Any], columns: Iterable[Any]) -> pa.Table:
    """A table of columns with their names, as text."""
    import pyarrow as pa

    arrays = {}
    for name, values in zip(map(str, names), columns, strict=True):
        if name in arrays:
            raise ValueError(f"two columns are named {name!r}")
        arrays[name] = _as_column(values)
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        shown = listed((f"{name} has {rows}" for name, rows in lengths.items()), 4)
        raise ValueError(f"its columns have different numbers of rows: {shown}")
    return pa.table(arrays)


def _of_array(array: NDArray[Any], columns: Sequence[str] | None) -> pa.Table:
    """An array with the training columns in their order; NaN is missing."""
    import pyarrow as pa

    if array.dtype.names:
        return _of_columns(array.dtype.names, (array[name] for name in array.dtype.names))
    if columns is None:
        raise UsageError(
            "an array has no names of columns",
            where="the data",
            fix='Give a dict of columns or a data frame: {"age": X[:, 0], …}.',
        )
    if array.ndim != 2 or array.shape[1] != len(columns):
        raise UsageError(
            f"an array of shape {array.shape} does not have the training table's {len(columns)} columns",
            where="the data",
            fix=f"Its columns have to be: {listed(columns)}.",
        )
    # One copy to column order, so that no column needs its own.
    array = np.asfortranarray(array)
    return pa.table({name: _as_column(array[:, number]) for number, name in enumerate(columns)})


def _as_column(values: Any) -> Any:
    """A column of a dict, an array or a data frame as an Arrow array."""
    import pyarrow as pa

    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    if hasattr(values, "asnumpy"):
        values = values.asnumpy()
    elif hasattr(values, "to_arrow"):
        return values.to_arrow()
    elif hasattr(values, "to_numpy"):
        # As numbers, the whole ones beside missing ones of pandas' nullable types would lose digits.
        inner = getattr(values, "array", None)
        if hasattr(inner, "__arrow_array__") and hasattr(inner, "isna"):
            made = pa.array(inner)
            if not isinstance(made.type, pa.ExtensionType):
                return made
        values = values.to_numpy()
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        # Objects of several types, such as a column of text with numbers in it: the text that a file would have.
        if any(isinstance(value, (list, tuple, dict, bytes, np.ndarray)) for value in values):
            raise
        texts = (str(value) for value in values)
        return pa.array([None if text in ("None", "nan", "NaT", "<NA>") else text for text in texts], pa.string())
