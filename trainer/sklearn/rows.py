"""What scikit-learn's users pass as X, as a table; checked as scikit-learn checks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils.validation import check_array, validate_data

from trainer.data.tables.memory import as_table
from trainer.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa


def table_of(estimator: Any, X: Any, *, reset: bool) -> pa.Table:  # noqa: N803  scikit-learn's name
    """The rows as a table with a column per feature. With `reset`, the estimator learns their number and their names.

    Columns of arrays are named as scikit-learn does without names: `x0`, `x1`, … Raises ValueError and TypeError as
    scikit-learn does for what cannot be rows, and for other columns than those of `fit`.
    """
    X = X.asnumpy() if hasattr(X, "asnumpy") else X  # noqa: N806
    if is_table(X):
        return _of_table(estimator, X, reset=reset)
    texts = _array_with_texts(X)
    if texts is None:
        array = validate_data(estimator, X, reset=reset, dtype="numeric", ensure_all_finite="allow-nan")
        check_range(array)
        columns: list[NDArray[Any]] = list(np.asfortranarray(array).T)
    else:
        array = validate_data(estimator, texts, reset=reset, dtype=None, ensure_all_finite=False)
        columns = [_plain(column) for column in np.asarray(array, dtype=object).T]
    names = _names(estimator, array.shape[1])
    return as_table(dict(zip(names, columns, strict=True)))


def is_table(X: Any) -> bool:  # noqa: N803
    """Whether the columns have types of their own: a data frame, an Arrow table, a dict of columns."""
    if issparse(X):  # some kinds are mappings
        return False
    if isinstance(X, Mapping) or hasattr(X, "__arrow_c_stream__"):
        return not hasattr(X, "type")  # a column of Arrow's
    return (hasattr(X, "columns") and hasattr(X, "iloc")) or (isinstance(X, np.ndarray) and bool(X.dtype.names))


def _of_table(estimator: Any, X: Any, *, reset: bool) -> pa.Table:  # noqa: N803
    try:
        table = as_table(X)
    except UsageError as error:
        raise ValueError(str(error)) from error
    # Of a data frame of pandas the names are scikit-learn's business, such as names that are numbers.
    validate_data(estimator, X if hasattr(X, "iloc") else table, reset=reset, skip_check_array=True)
    for size, what in ((table.num_rows, "sample"), (table.num_columns, "feature")):
        if not size:
            raise ValueError(f"Found array with 0 {what}(s) (shape={table.shape}) while a minimum of 1 is required.")
    return table.rename_columns(_names(estimator, table.num_columns))


def _names(estimator: Any, columns: int) -> list[str]:
    known = getattr(estimator, "feature_names_in_", None)
    return [f"x{number}" for number in range(columns)] if known is None else [str(name) for name in known]


def _array_with_texts(X: Any) -> NDArray[Any] | None:  # noqa: N803
    """X as an array of objects if it holds texts; None for numbers, and for what scikit-learn refuses."""
    if issparse(X) or (hasattr(X, "dtype") and getattr(X.dtype, "kind", "f") not in "OUS"):
        return None
    try:
        array = np.asarray(X)
    except ValueError:
        return None
    if array.dtype.kind in "US":
        return array.astype(object)
    if array.dtype.kind != "O" or array.ndim != 2 or not any(isinstance(value, str) for value in array.ravel()):
        return None
    return array


def _plain(column: NDArray[Any]) -> NDArray[Any]:
    """A column of objects as numbers, if all of them are numbers or missing."""
    if any(isinstance(value, (str, bytes)) for value in column):
        return column
    return check_array(column.reshape(-1, 1), dtype="numeric", ensure_all_finite="allow-nan").ravel()  # type: ignore[no-any-return]


def check_range(array: NDArray[Any]) -> None:
    """Raises ValueError, as scikit-learn does, for infinity."""
    if array.dtype.kind == "f" and np.isinf(array).any():
        raise ValueError(f"Input X contains infinity or a value too large for {array.dtype.name!r}.")
