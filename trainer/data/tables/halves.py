"""Encoded numbers rounded to half precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError

if TYPE_CHECKING:
    from trainer.data.tables.schema import Schema

LARGEST = 65504.0
"""The largest half float."""
ROWS = 1 << 14
"""Rows that are rounded at a time."""


def rounded(features: NDArray[np.float32], schema: Schema, *, where: str) -> None:
    """Rounds encoded features (n, d) in place to the nearest half floats.

    Raises UsageError, naming the column, for a number that half floats cannot hold.
    """
    for start in range(0, len(features), ROWS):
        part = features[start : start + ROWS]
        with np.errstate(over="ignore"):
            halves = part.astype(np.float16)
        if not np.isfinite(halves).all():
            place = int(np.flatnonzero(~np.isfinite(halves).all(axis=0))[0])
            value = part[~np.isfinite(halves[:, place]), place][0]
            raise UsageError(
                f"the input {schema.feature_names[place]!r} is {value:g}, and float16 holds at most {LARGEST:g}",
                where=where,
                fix="Leave out --feature-type float16, or standardise the column.",
            )
        part[:] = halves
