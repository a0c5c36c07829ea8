"""What the kinds of targets share: missing labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.values import cleaned, is_text
from trainer.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa


def is_missing(values: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which values of a column in plain types are missing, (n,)."""
    from pyarrow import compute

    missing = cleaned(values).is_null() if is_text(values) else compute.is_null(values, nan_is_null=True)
    found: NDArray[np.bool_] = missing.to_numpy(zero_copy_only=False).astype(bool)
    return found


def missing_label(name: str, count: int, rows: int, first: int, *, where: str) -> UsageError:
    """The error for missing labels: so many of the rows, and the first of them, from 0."""
    what = f"the label in column {name!r} is missing"
    if count > 1:
        what = f"{count} of {rows} labels in column {name!r} are missing, the first"
    return UsageError(
        what,
        row=first + 1,
        where=where,
        fix="Fill in the label, or leave out such rows: --drop-unlabelled.",
    )
