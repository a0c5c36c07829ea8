"""The rows with the highest predictions of a file, found in one pass that holds little more than those rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

SLACK = 1 << 16
"""Rows beyond the capacity that are held before they are sorted out."""


class Highest:
    """Keeps at most `capacity` rows: those with the highest score; of equal scores, the earlier ones."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise UsageError(f"{capacity} is not a number of rows", where="--capacity", fix="Use an integer ≥ 1.")
        self._capacity = capacity
        self._tables: list[pa.Table] = []
        self._scores: list[NDArray[np.float64]] = []
        self._held = 0

    def add(self, scores: NDArray[Any], columns: Mapping[str, Any]) -> None:
        """Some rows: scores (rows,) and what is written of them. Raises UsageError for several scores per row."""
        import pyarrow as pa

        if scores.size != len(scores):
            raise UsageError(
                f"the model predicts {scores.size // len(scores)} values per row, by which rows have no order",
                where="--capacity",
                fix="Use it for two classes, or for one predicted number.",
            )
        own = np.asarray(scores, np.float64).ravel()
        self._scores.append(np.where(np.isnan(own), -np.inf, own))
        self._tables.append(pa.table(dict(columns)))
        self._held += len(own)
        if self._held >= 2 * self._capacity + SLACK:
            self._sort_out()

    def _sort_out(self) -> None:
        import pyarrow as pa

        scores = np.concatenate(self._scores)
        best = np.argsort(-scores, kind="stable")[: self._capacity]
        table = pa.concat_tables(self._tables).take(pa.array(best))
        self._tables, self._scores, self._held = [table.combine_chunks()], [scores[best]], len(best)

    def columns(self) -> Mapping[str, Any]:
        """The rows, from the highest score down."""
        self._sort_out()
        (table,) = self._tables
        return {name: table[name].combine_chunks() for name in table.column_names}
