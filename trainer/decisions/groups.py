"""Groups of rows by the value of a column: the number of each row's group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.values import distinct, plain

MISSING = "missing"
"""The group of rows without a value."""


def codes_of(column: Any, names: Sequence[str]) -> NDArray[np.int64]:
    """The place of each value's text in `names`, (rows,): -1 if it is not there.

    `column` is an Arrow array of any type, whose values have the texts that `--slice` gives them, or a list of texts.
    """
    import pyarrow as pa

    places = {name: place for place, name in enumerate(names)}
    if isinstance(column, (list, tuple)):
        return np.array([places.get(text, -1) for text in column], np.int64)
    numbers, texts = distinct(plain(column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])))
    table = np.array([places.get(MISSING if text is None else text, -1) for text in texts], np.int64)
    return table[numbers] if len(numbers) else np.zeros(0, np.int64)
