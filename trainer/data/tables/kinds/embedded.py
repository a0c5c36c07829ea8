"""Many categories: each has a row of weights of its own, and rare and unseen ones share one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.kinds.base import Counts, OneId, wrong_units
from trainer.data.tables.text_index import ManyTexts
from trainer.data.tables.values import check_flat
from trainer.data.tables.vocabulary import MISSING, UNSEEN, Form

if TYPE_CHECKING:
    import pyarrow as pa

COMMON_NAME, MISSING_NAME = "(other)", "(missing)"


@dataclass(frozen=True)
class Embedded(OneId):
    """A column of many categories, which the net gets as the number of a row in a table of weights.

    The rows are the categories, those with the most training rows first (equally many: in the order of their texts);
    then one for all other values, rare and unseen; then one for missing values if the training rows have any. A missing
    value without a row of its own takes that of the other values.
    """

    count: int = 0
    """The number of categories."""
    form: Form = "written"
    missing_category: bool = False
    """Whether missing values have a row of their own."""
    min_count: int = 1
    """How many training rows a category has at least; rarer values share a row with unseen ones."""
    units: int = 0
    """How many weights a row has; 0 in a linear model, where they are as many as the net has outputs."""
    kind: Literal["embedded"] = "embedded"
    categories: Any = None
    """The categories in the order of their rows, an Arrow array of strings."""

    @property
    def rows(self) -> int:
        """The rows of weights."""
        return self.count + 1 + self.missing_category

    @property
    def row_names(self) -> list[str]:
        """The rows in words. Costs a Python object for each."""
        rest = [COMMON_NAME, MISSING_NAME] if self.missing_category else [COMMON_NAME]
        return [*self.categories.to_pylist(), *rest]

    @property
    def shared_rows(self) -> tuple[int, ...]:
        """The rows that training may never see: unlike a category's, they have a meaning without it."""
        return (self.count,)

    def most_frequent(self, most: int) -> list[str]:
        """The categories with the most training rows, at most so many."""
        found: list[str] = self.categories.slice(0, most).to_pylist()
        return found

    def word(self, place: int) -> str:
        """The category at a place."""
        return str(self.categories[place].as_py())

    @cached_property
    def _known(self) -> ManyTexts:
        return ManyTexts(self.categories, self.form)

    def places(self, values: pa.ChunkedArray, *, where: str) -> NDArray[np.int64]:
        """The place of each value among the categories (n,): -1 if it is none of them, -2 if it is missing.

        Raises UsageError for lists, structs and bytes.
        """
        check_flat(self.name, values, where=where)
        return self._known.places(values)

    def encode_ids(self, values: pa.ChunkedArray, target: NDArray[np.int32], *, first: int, where: str) -> Counts:
        """Writes the row of each value to `target` (n,), counted from the column's `first` one.

        Raises UsageError for lists, structs and bytes.
        """
        places = self.places(values, where=where)
        missing, unseen = places == MISSING, places == UNSEEN
        places[unseen] = self.count
        places[missing] = self.count + self.missing_category
        target[:] = places + first
        return Counts(int(missing.sum()), int(unseen.sum()))

    def check(self) -> str | None:
        """What is wrong with values that were read from a file, or None."""
        if self.categories is None or len(self.categories) != self.count:
            found = 0 if self.categories is None else len(self.categories)
            return f"column {self.name!r} has {found} categories instead of {self.count}"
        repeated = self.categories.null_count or len(self.categories.unique()) < self.count
        return f"column {self.name!r} has a category twice" if repeated else wrong_units(self.name, self.units)
