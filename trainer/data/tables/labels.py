"""Encodes the labels of two classes, whatever their names, as 0 and 1."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.values import check_flat, distinct, precision_of
from trainer.data.tables.vocabulary import MISSING, Form, Vocabulary, first_unseen, form_of, spelled
from trainer.errors import UsageError, listed

if TYPE_CHECKING:
    import pyarrow as pa

NEGATIVE_WORDS = ("no", "n", "false", "f", "negative", "neg", "0", "-1")
POSITIVE_WORDS = ("yes", "y", "true", "t", "positive", "pos", "1")


@dataclass(frozen=True)
class Labels:
    """The two classes as text; `positive` is 1. `form` says which spellings of a class are the same."""

    negative: str
    positive: str
    form: Form = "written"

    @classmethod
    def learn(cls, name: str, values: pa.ChunkedArray, positive_class: str | None, *, where: str) -> Labels:
        """The classes in the label column. Raises UsageError unless it has two classes and no missing value."""
        check_flat(name, values, where=where)
        numbers, texts = distinct(values)
        present = Counter(dict(zip(*map(list, np.unique(numbers, return_counts=True)), strict=True)))
        written = {text: present[number] for number, text in enumerate(texts) if present[number]}
        if None in written:
            raise _missing(name, np.array([text is None for text in texts])[numbers], where)
        known = [text for text in written if text is not None]
        form = form_of(known, precision_of(values.type))
        classes = in_order(spelled(known, form))
        counts = dict.fromkeys(classes, 0)
        vocabulary = Vocabulary(classes, form)
        for text in known:
            counts[classes[vocabulary.place(text, typed=False)]] += int(written[text])
        if len(classes) != 2:
            shown = listed((f"{value!r} ({counts[value]} rows)" for value in classes), limit=10)
            many = "one class" if len(classes) == 1 else f"{len(classes)} classes"
            raise UsageError(
                f"the label column {name!r} has {many}: {shown}", where=where, fix="Two classes are needed."
            )
        if positive_class is None:
            return cls(classes[0], classes[1], form)
        place = vocabulary.place(positive_class.strip(), typed=True)
        if place < 0:
            raise UsageError(
                f"{positive_class!r} is not a class of column {name!r}",
                where="--positive-class",
                fix=f"Its classes are {listed(map(repr, classes))}.",
            )
        return cls(classes[1 - place], classes[place], form)

    def encode(self, name: str, values: pa.ChunkedArray, *, where: str) -> NDArray[np.float32]:
        """0 and 1 as float32 (rows,). Raises UsageError for a missing label and for an unknown class."""
        check_flat(name, values, where=where)
        places = Vocabulary((self.negative, self.positive), self.form).places(values)
        if (places == MISSING).any():
            raise _missing(name, places == MISSING, where)
        unseen = first_unseen(values, places)
        if unseen is not None:
            row, text = unseen
            raise UsageError(
                f"the label in column {name!r} is {text!r}",
                row=row + 1,
                where=where,
                fix=f"The classes are {self.negative!r} and {self.positive!r}.",
            )
        labels: NDArray[np.float32] = places.astype(np.float32)
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


def _missing(name: str, missing: NDArray[np.bool_], where: str) -> UsageError:
    row = int(np.flatnonzero(missing)[0])
    return UsageError(
        f"the label in column {name!r} is missing", row=row + 1, where=where, fix="Fill it in, or drop the row."
    )
