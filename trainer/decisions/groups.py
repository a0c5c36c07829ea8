"""Groups of rows by the value of a column: their names, and the number of each row's group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MISSING = "missing"
"""The group of rows without a value."""


def texts_of(column: Any) -> Any:
    """An Arrow column as texts, a dictionary array; without a value, MISSING."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else pa.array(column)
    if isinstance(found, pa.ChunkedArray):
        found = pa.concat_arrays(found.chunks) if found.num_chunks else pa.array([], found.type)
    if pa.types.is_dictionary(found.type):
        found = found.cast(found.type.value_type)
    return pc.fill_null(found.cast(pa.string()), MISSING)


def codes_of(texts: Any, names: Sequence[str]) -> NDArray[np.int64]:
    """The place of each text in `names`, -1 if it is not there."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not names or not len(texts):
        return np.full(len(texts), -1)
    given = texts if isinstance(texts, pa.Array) else pa.array(list(texts), pa.string())
    places = pc.index_in(given, value_set=pa.array(list(names), pa.string()))
    codes: NDArray[np.int64] = pc.fill_null(places, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes
