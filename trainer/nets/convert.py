"""Converts numpy arrays, NDArrays, data frames and lists to arrays of numbers; other values get a helpful error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError, first_line, listed, type_of

EXACT_INTEGERS = 1 << 24
"""Integers up to this are exact in float32."""


def features_of(given: Any, *, where: str) -> tuple[NDArray[Any], ...]:
    """The inputs of a net as arrays of rows: one, or one for each entry of a tuple.

    All numbers become float32, like a net's weights, except integers that float32 cannot represent. Raises UsageError
    for anything but rows of numbers.
    """
    if isinstance(given, tuple):
        if not given:
            raise UsageError("its tuple of inputs is empty", where=where)
        return tuple(as_float(rows_of(part, where=where, what=f"input {n}")) for n, part in enumerate(given, start=1))
    return (as_float(rows_of(given, where=where, what="X")),)


def labels_of(given: Any, *, where: str) -> NDArray[Any]:
    """The labels as float32, (rows, …). Raises UsageError for strings; the message says how to map them to integers."""
    labels = rows_of(given, where=where, what="y")
    return np.ascontiguousarray(labels, dtype=np.float32)


def weights_of(given: Any, rows: int, *, where: str) -> NDArray[Any]:
    """The rows' weights as float32, (rows,). Raises UsageError for other shapes and for negative ones."""
    weights = np.ascontiguousarray(rows_of(given, where=where, what="the weights"), dtype=np.float32)
    if weights.size != rows:
        raise UsageError(
            f"its weights have shape {weights.shape} for {rows} rows", where=where, fix="Give one per row."
        )
    weights = weights.reshape(-1)
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise UsageError("its weights have to be finite, not negative, and not all 0", where=where)
    return weights


def rows_of(given: Any, *, where: str, what: str) -> NDArray[Any]:
    """An array of numbers, (rows, …), without a copy if possible. Raises UsageError for anything else."""
    array = _array(given, where=where, what=what)
    if not array.ndim:
        raise UsageError(
            f"{what} is {type_of(given)}, not an array of rows",
            where=where,
            fix="Give a numpy array, an NDArray, a data frame or a list of rows.",
        )
    if array.dtype.kind == "O":
        array = _numbers_of_objects(array, given, where=where, what=what)
    if array.dtype.kind in "US":
        raise _texts(given, array, where=where, what=what)
    if array.dtype.kind not in "fiub":
        raise UsageError(f"{what} holds {array.dtype.name}, not numbers", where=where)
    if not len(array):
        raise UsageError(f"{what} has 0 rows", where=where)
    return array


def _array(given: Any, *, where: str, what: str) -> NDArray[Any]:
    """The value as a numpy array. Raises UsageError for what numpy mishandles: sparse matrices, ragged lists."""
    if hasattr(given, "asnumpy"):
        given = given.asnumpy()
    elif hasattr(given, "toarray"):
        raise UsageError(f"{what} is a sparse {type(given).__name__}", where=where, fix=f"Give {what}.toarray().")
    elif isinstance(given, dict):
        raise UsageError(f"{what} is a dict", where=where, fix="Give an array of rows; several inputs as a tuple.")
    if isinstance(given, list) and given and all(hasattr(part, "asnumpy") for part in given):
        given = [part.asnumpy() for part in given]
    try:
        return np.asarray(given)
    except Exception as error:
        # numpy calls methods of foreign objects, which may raise anything; ragged lists are a ValueError.
        ragged = isinstance(given, (list, tuple)) and "inhomogeneous" in str(error)
        reason = "its rows have different lengths" if ragged else f"{type(error).__name__}: {first_line(error)}"
        raise UsageError(f"{what} is not an array of numbers: {reason}", where=where) from error


def as_float(array: NDArray[Any]) -> NDArray[Any]:
    """The array as contiguous float32; as int64 if it has integers that float32 cannot represent."""
    wide = array.dtype.kind in "iu" and array.dtype.itemsize > 2 and array.size
    if wide and max(int(array.max()), -int(array.min())) > EXACT_INTEGERS:
        return np.ascontiguousarray(array, dtype=np.int64)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=np.float32)


def names_of(given: Any) -> list[str]:
    """The column names of a data frame, if they are strings; empty for anything else."""
    columns = getattr(given, "columns", None)
    if columns is None or not hasattr(given, "dtypes"):
        return []
    names = list(columns)
    return names if all(isinstance(name, str) for name in names) else []


def _numbers_of_objects(array: NDArray[Any], given: Any, *, where: str, what: str) -> NDArray[Any]:
    """Objects, such as those of a data frame with mixed types, as numbers if all of them are numbers."""
    if _has_texts(array):
        raise _texts(given, array, where=where, what=what)
    try:
        return np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError) as error:
        if any(isinstance(part, (list, tuple, np.ndarray)) for part in array.ravel()[:100]):
            raise UsageError(
                f"{what} is not an array of numbers: its rows have different lengths", where=where
            ) from None
        gaps = bool(array.size) and any(part is None or type(part).__name__ == "NAType" for part in array.ravel())
        column = _column_of(given, _has_gaps if gaps else lambda part: part.dtype.kind not in "fiub")
        place = f"its column {column!r}" if column else what
        holds, fix = (
            ("missing values", "Fill or drop them.") if gaps else ("objects that are not numbers", "Convert them.")
        )
        raise UsageError(f"{place} holds {holds}", where=where, fix=fix) from error


def _has_gaps(array: NDArray[Any]) -> bool:
    return (array.dtype.kind == "f" and bool(np.isnan(array).any())) or any(
        part is None or type(part).__name__ == "NAType" for part in array.ravel()
    )


def _has_texts(array: NDArray[Any]) -> bool:
    return any(isinstance(part, (str, bytes)) for part in array.ravel())


def _texts(given: Any, array: NDArray[Any], *, where: str, what: str) -> UsageError:
    if what == "y":
        seen = listed([repr(str(part)) for part in dict.fromkeys(array.ravel()[:1000].tolist())], 3)
        return UsageError(
            f"the labels are strings ({seen})",
            where=where,
            fix="Map them to integers: classes, y = numpy.unique(y, return_inverse=True).",
        )
    column = _column_of(given, lambda part: _has_texts(np.asarray(part, dtype=object)))
    place = f"its column {column!r}" if column else what
    return UsageError(
        f"{place} holds strings",
        where=where,
        fix="Encode them as numbers (one column per category), or drop them.",
    )


def _column_of(given: Any, is_bad: Any) -> str:
    """The first column of a data frame that causes the error; empty for anything else."""
    if not hasattr(given, "dtypes"):
        return ""
    for name in getattr(given, "columns", ()):
        if is_bad(np.asarray(given[name])):
            return str(name)
    return ""


def check_rows(parts: Sequence[tuple[str, NDArray[Any]]], *, where: str) -> None:
    """Raises UsageError unless all have the same number of rows."""
    lengths = {name: len(part) for name, part in parts}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} has {rows}" for name, rows in lengths.items())
        few = next((name for name, part in parts if name == "X" and part.ndim > 1 and len(part) <= 4), "")
        fix = "Several inputs of a net are a tuple: ((X1, X2), y)." if few else "Every row needs its label."
        raise UsageError(f"the numbers of rows differ: {said}", where=where, fix=fix)
