"""Categories: one input for each, and one for missing values if the training rows have any."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.kinds.base import Counts, Scale
from trainer.data.tables.values import check_flat
from trainer.data.tables.vocabulary import MISSING, UNSEEN, Form, Vocabulary

if TYPE_CHECKING:
    import pyarrow as pa

MISSING_NAME = "(missing)"


@dataclass(frozen=True)
class Category:
    """A column of categories. `form` says which spellings of a category are the same."""

    name: str
    categories: tuple[str, ...] = ()
    form: Form = "written"
    missing_category: bool = False
    """Whether missing values have an input of their own; otherwise they are all zeros."""
    kind: Literal["category"] = "category"

    @property
    def width(self) -> int:
        """The number of net inputs."""
        return len(self.categories) + self.missing_category

    @property
    def feature_names(self) -> list[str]:
        """The names of the inputs, such as `colour=red`."""
        values = [*self.categories, MISSING_NAME] if self.missing_category else self.categories
        return [f"{self.name}={value}" for value in values]

    def word(self, place: int) -> str:
        """The category at a place."""
        return self.categories[place]

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary(self.categories, self.form)

    def places(self, values: pa.ChunkedArray, *, where: str) -> NDArray[np.int64]:
        """The place of each value among the categories (n,): -1 if it is none of them, -2 if it is missing.

        Raises UsageError for lists, structs and bytes.
        """
        check_flat(self.name, values, where=where)
        return self._vocabulary.places(values)

    @property
    def scales(self) -> list[Scale]:
        """The inputs are not standardised."""
        return [Scale()] * self.width

    def encode(self, values: pa.ChunkedArray, target: NDArray[np.float32], *, where: str) -> Counts:
        """Writes the inputs of each row to `target` (rows, width), which is zero. An unseen category stays zero.

        Raises UsageError for lists, structs and bytes.
        """
        places = self.places(values, where=where)
        missing, unseen = (int(np.count_nonzero(places == place)) for place in (MISSING, UNSEEN))
        if self.missing_category and missing:
            places[places == MISSING] = len(self.categories)
        rows = np.flatnonzero(places >= 0) if missing or unseen else np.arange(len(places))
        target[rows, places[rows]] = 1.0
        return Counts(missing, unseen)

    def check(self) -> str | None:
        """What is wrong with values that were read from a file, or None."""
        repeated = len(set(self.categories)) < len(self.categories)
        return f"column {self.name!r} has a category twice" if repeated else None
