"""Rows in memory as a table: data frames, dicts of columns, arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError, first_line, listed

if TYPE_CHECKING:
    import pyarrow as pa


def as_table(data: Any, columns: Sequence[str]) -> pa.Table:
    """The caller's data as a table. Raises UsageError if it is not one."""
    import pyarrow as pa

    try:
        if isinstance(data, pa.Table):
            return data
        if isinstance(data, pa.RecordBatch):
            return pa.Table.from_batches([data])
        if isinstance(data, Mapping):
            return pa.table({str(name): _as_column(values) for name, values in data.items()})
        if isinstance(data, np.ndarray) and data.dtype.names:
            return pa.table({name: _as_column(data[name]) for name in data.dtype.names})
        if hasattr(data, "asnumpy"):
            data = data.asnumpy()
        if not isinstance(data, (np.ndarray, list, tuple)) and hasattr(data, "columns"):
            return pa.table({str(name): _as_column(data[name]) for name in data.columns})
        if not isinstance(data, (np.ndarray, list, tuple)):
            raise TypeError(f"a {type(data).__name__} is not a table")
        return _of_array(np.asarray(data), columns)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UsageError(
            f"it is not a table: {first_line(error)}",
            where="the data",
            fix="Pass a pyarrow Table, a data frame, a dict of columns, or an array (rows, columns).",
        ) from error


def _of_array(array: NDArray[Any], columns: Sequence[str]) -> pa.Table:
    """An array with the training columns in their order; NaN is missing."""
    import pyarrow as pa

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
