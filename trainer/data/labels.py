"""Encodes the labels of two classes, whatever their names, as 0 and 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainer.data.columns import as_text
from trainer.errors import UsageError, listed

if TYPE_CHECKING:
    import pyarrow as pa

NEGATIVE_WORDS = ("no", "n", "false", "f", "negative", "neg", "0", "-1")
POSITIVE_WORDS = ("yes", "y", "true", "t", "positive", "pos", "1")


@dataclass(frozen=True)
class Labels:
    """The two classes as text; `positive` is 1."""

    negative: str
    positive: str

    @classmethod
    def learn(cls, name: str, values: pa.ChunkedArray, positive_class: str | None, *, where: str) -> Labels:
        """The classes in the label column. Raises UsageError unless it has two classes and no missing value."""
        text = as_text(values)
        _check_missing(name, text, where)
        counts = {entry["values"]: entry["counts"] for entry in text.value_counts().to_pylist()}
        classes = in_order(list(counts))
        if len(classes) != 2:
            shown = listed((f"{value!r} ({counts[value]} rows)" for value in classes), limit=10)
            many = "one class" if len(classes) == 1 else f"{len(classes)} classes"
            raise UsageError(
                f"the label column {name!r} has {many}: {shown}", where=where, fix="Two classes are needed."
            )
        if positive_class is None:
            return cls(*classes)
        equal = [value for value in classes if _same(value, positive_class)]
        match = positive_class if positive_class in classes else next(iter(equal), None)
        if match is None:
            raise UsageError(
                f"{positive_class!r} is not a class of column {name!r}",
                where="--positive-class",
                fix=f"Its classes are {listed(map(repr, classes))}.",
            )
        return cls(next(value for value in classes if value != match), match)

    def encode(self, name: str, values: pa.ChunkedArray, *, where: str) -> NDArray[np.float32]:
        """0 and 1 as float32 (rows,). Raises UsageError for a missing label and for an unknown class."""
        import pyarrow as pa
        from pyarrow import compute

        text = as_text(values)
        _check_missing(name, text, where)
        place = compute.fill_null(compute.index_in(text, pa.array([self.negative, self.positive])), -1)
        numbers = place.to_numpy(zero_copy_only=False)
        unknown = np.flatnonzero(numbers < 0)
        if len(unknown):
            row = int(unknown[0])
            raise UsageError(
                f"the label in column {name!r} is {text[row].as_py()!r}",
                row=row + 1,
                where=where,
                fix=f"The classes are {self.negative!r} and {self.positive!r}.",
            )
        labels: NDArray[np.float32] = numbers.astype(np.float32)
        return labels


def in_order(classes: list[str]) -> list[str]:
    """The classes, the positive one last: yes and no by meaning, numbers by size, other text alphabetically."""
    words = {value.lower() for value in classes}
    if len(classes) == 2 and words & set(NEGATIVE_WORDS) and words & set(POSITIVE_WORDS):
        return sorted(classes, key=lambda value: value.lower() in POSITIVE_WORDS)
    try:
        numbers = {value: float(value) for value in classes}
    except ValueError:
        return sorted(classes)
    if any(map(math.isnan, numbers.values())):
        return sorted(classes)
    # The text breaks ties such as 1 and 01, so that the order of the rows does not matter.
    return sorted(classes, key=lambda value: (numbers[value], value))


def _same(value: str, wanted: str) -> bool:
    wanted = wanted.strip()
    if value == wanted or (value in ("true", "false") and value == wanted.lower()):
        return True
    try:
        return float(value) == float(wanted)
    except ValueError:
        return False


def _check_missing(name: str, text: pa.ChunkedArray, where: str) -> None:
    if text.null_count:
        row = int(np.flatnonzero(text.is_null().to_numpy(zero_copy_only=False))[0])
        raise UsageError(
            f"the label in column {name!r} is missing", row=row + 1, where=where, fix="Fill it in, or drop the row."
        )
