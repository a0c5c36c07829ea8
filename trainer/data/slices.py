"""Slices: rows of a split by the values of a column, for metrics of groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.split_names import JUDGED
from trainer.errors import UsageError


@dataclass(frozen=True, eq=False)
class Slices:
    """The rows of a split by the values of a column: row `i` is in the slice `names[codes[i]]`."""

    codes: NDArray[np.int32]
    """(rows,), numbers from 0."""
    names: Sequence[str]
    """The values as text, each once; `missing` for rows without one. A slice may have no row in this split."""

    @property
    def counts(self) -> NDArray[np.int64]:
        """The number of rows of each slice."""
        return np.bincount(self.codes, minlength=len(self.names))


SlicesBySplit = Mapping[str, Mapping[str, Slices]]
"""The slices by split and column."""


class Sliced:
    """The part of a run that knows the slices of its splits."""

    _state: Any

    def slices(self, split: str) -> Mapping[str, Slices]:
        """The slices of `validation`, `calibration` or `test`, by column; empty if the data have none.

        Row i is row i of the evaluation of that split, in all processes.
        """
        found: SlicesBySplit = self._state.slices
        return found.get(split, {})


def check_slices(slices: SlicesBySplit, rows: Mapping[str, int | None]) -> None:
    """Raises UsageError for slices that a task gives and that do not fit its splits, which have `rows` (None: unknown).

    Splits that do not exist are not in `rows`.
    """
    for split, columns in slices.items():
        for name, found in columns.items():
            where = f"the task's splits(), slices of {name!r} in {split!r}"
            codes, count = np.asarray(found.codes), rows.get(split, 0)
            if split not in JUDGED or split not in rows:
                raise UsageError("the run does not evaluate such a split", where=where, fix="Leave them out.")
            if codes.ndim != 1 or (count is not None and len(codes) != count):
                raise UsageError(f"their codes are {codes.shape} and the split has {count} rows", where=where)
            if codes.dtype.kind not in "iu" or (len(codes) and not 0 <= codes.min() <= codes.max() < len(found.names)):
                raise UsageError(f"a code is not a number of one of the {len(found.names)} names", where=where)
