"""True and false: 1 and 0; a missing one becomes the share of true in the training rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.blocks import Span
from trainer.data.tables.kinds.base import Counts, OneInput, all_missing
from trainer.data.tables.vocabulary import MISSING, Vocabulary, first_unseen
from trainer.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

WORDS = ("false", "true")
"""The values in the order of their places."""


@dataclass(frozen=True)
class Flag(OneInput):
    """A column of true and false, in any case, also written 1 and 0. `mean` is the share of true in training."""

    mean: float = 0.5
    kind: Literal["flag"] = "flag"

    def word(self, place: int) -> str:
        """The value at a place."""
        return WORDS[place]

    def places(self, values: pa.ChunkedArray, *, where: str) -> NDArray[np.int64]:
        """0 for false, 1 for true and -2 for a missing value (n,). Raises UsageError for other values."""
        places = Vocabulary(WORDS, "truth").places(values)
        unseen = first_unseen(values, places)
        if unseen is not None:
            row, text = unseen
            raise UsageError(
                f"{text!r} in the column {self.name!r} of true and false",
                row=row + 1,
                where=where,
                fix="Write true, false, 1 or 0, or leave it empty.",
            )
        return places

    def encode(self, values: pa.ChunkedArray, target: NDArray[np.float32], *, where: str) -> Counts:
        """Writes the input of each row to `target` (rows, 1). Raises UsageError for other values."""
        places = self.places(values, where=where)
        target[:, 0] = np.where(places == MISSING, self.mean, places)
        return Counts(int((places == MISSING).sum()))

    def check(self) -> str | None:
        """What is wrong with values that were read from a file, or None."""
        return None if 0 <= self.mean <= 1 else f"column {self.name!r} has no usable mean"


class FlagSurvey:
    """What is learned from a column of truth values."""

    def __init__(self, name: str, *, where: str) -> None:
        self.name, self.where = name, where
        self._present = self._true = 0

    def add(self, values: pa.ChunkedArray, spans: Sequence[Span]) -> None:
        """Counts the values of an Arrow type of truth values."""
        from pyarrow import compute

        self.count(len(values) - values.null_count, int(compute.sum(values).as_py() or 0))

    def count(self, present: int, true: int) -> None:
        """Adds values, of which some are true."""
        self._present += present
        self._true += true

    def merge(self, other: FlagSurvey) -> None:
        """Adds what another one found."""
        self.count(other._present, other._true)

    def learned(self) -> Flag:
        """Raises UsageError for a column without a value."""
        if not self._present:
            raise all_missing(self.name, self.where)
        return Flag(self.name, self._true / self._present)
