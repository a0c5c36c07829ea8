"""Classes: the labels of two or more classes, whatever their names, as class numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.data.arrays import check_weight_sums
from trainer.data.tables.coded import Coded, smallest
from trainer.data.tables.targets.base import missing_label
from trainer.data.tables.targets.tally import Tally
from trainer.data.tables.values import check_flat
from trainer.data.tables.vocabulary import MISSING, UNSEEN, Form, Vocabulary, form_of, spelled
from trainer.errors import UsageError, listed

if TYPE_CHECKING:
    import pyarrow as pa

NEGATIVE_WORDS = ("no", "n", "false", "f", "negative", "neg", "0", "-1")
POSITIVE_WORDS = ("yes", "y", "true", "t", "positive", "pos", "1")
MOST_NUMBERS = 40
"""A label column of more different numbers is taken for a quantity, not for classes."""
CLASSES_SHOWN = 10
Numbers = Literal["classes", "text", "refused"]


@dataclass(frozen=True)
class Classes:
    """The classes as text, in the order of their numbers; of two classes the second, number 1, is the positive one.

    `form` says which spellings of a class are the same.
    """

    names: tuple[str, ...]
    form: Form = "written"
    rest: tuple[str, ...] = ()
    """One class against the rest: the classes that are together the first of the two `names`."""
    kind: Literal["classes"] = "classes"

    @classmethod
    def learn(
        cls,
        name: str,
        values: pa.ChunkedArray,
        positive_class: str | None,
        *,
        where: str,
        numbers: Numbers = "classes",
        for_numbers: str = "",
    ) -> Classes:
        """The classes in the label column. `positive_class` makes two of more: that one, and all others.

        `numbers` says whether many different numbers are classes all the same, or `refused`, together with texts that
        are all numbers if they are `text` (of a file without types); `for_numbers` is what learns them instead. Raises
        UsageError for fewer than two classes, a missing value, and numbers that are refused.
        """
        coded = _coded(name, values, where=where)
        return learn_classes(name, coded, positive_class, where=where, numbers=numbers, for_numbers=for_numbers)

    def fitted(self, name: str, labels: NDArray[Any], *, where: str) -> Classes:
        """The same: nothing about classes is estimated from the training labels, (rows,)."""
        return self

    @property
    def is_binary(self) -> bool:
        """Whether there are two classes: the second is the positive one."""
        return len(self.names) == 2

    @property
    def known(self) -> tuple[str, ...]:
        """The values that the label column may have."""
        return (*self.rest, self.names[1]) if self.rest else self.names

    def encode(self, name: str, values: pa.ChunkedArray, *, where: str) -> NDArray[np.float32]:
        """Class numbers as float32 (rows,). Raises UsageError for a missing label and for an unknown class."""
        labels: NDArray[np.float32] = class_numbers(self, name, _coded(name, values, where=where), where=where).astype(
            np.float32
        )
        return labels

    def strata(self, labels: NDArray[Any]) -> NDArray[Any]:
        """The group of each row, (rows,), of which each side of a split gets its share."""
        return labels if labels.dtype.kind == "u" else labels.astype(smallest(len(self.names)))

    def check_rows(self, tally: Tally, split: str, *, where: str) -> None:
        """Raises UsageError if a split's rows cannot be learned from, or not be judged on."""
        counts = tally.counts
        absent = [name for name, count in zip(self.names, counts, strict=True) if not count]
        if split == "train" and absent:
            left = f"the {tally.rows} rows left for training"
            raise UsageError(
                f"{left} are all of one class" if self.is_binary else f"{left} have none of the class {absent[0]!r}",
                where=where,
                fix="Use a smaller --validation-split, --calibration-split or --test-split.",
            )
        if split != "train" and (counts > 0).sum() < 2:
            only = self.names[int(counts.argmax())]
            needed = "both" if self.is_binary else "several"
            raise UsageError(
                f"all of its {tally.rows} rows are of the class {only!r}, so a model cannot be evaluated on them",
                where=where,
                fix=f"Use a larger --{split}-split, or a --{split}-data file with {needed} classes.",
            )
        if tally.weights is not None:
            check_weight_sums(counts, tally.weights, self.names, where=where)

    def too_few(self, labels: NDArray[Any], left: NDArray[Any], split: str, size: int, *, where: str) -> UsageError:
        """The error for `size` rows that cannot be split off, with every class on both sides.

        `labels` are those of all rows, `left` those of the rows that are not in another split.
        """
        whole, counts = (np.bincount(each, minlength=len(self.names)) for each in (labels, left))
        fix = f"Change --{split}-split (0 for none), or name a file with --{split}-data."
        rows = len(labels)
        if self.is_binary:
            rarer = self.names[int(whole.argmin())]
            what = (
                f"{rows} rows ({whole.min()} of the class {rarer!r}) are too few for a {split} split of {size} rows "
                "with both classes"
            )
        elif counts.min() < 2:
            rare = [f"{name!r} ({rows} {'row' if rows == 1 else 'rows'})"
                    for name, rows, count in zip(self.names, whole, counts, strict=True) if count < 2]  # fmt: skip
            one = len(rare) == 1
            what = (
                f"the class{'' if one else 'es'} {listed(rare, CLASSES_SHOWN)} {'has' if one else 'have'} too few rows"
            )
            what += f" for a {split} split, which needs 2 of each"
            fix = f"Add rows, leave these out, or merge the class with another. {fix}"
        else:
            what = f"a {split} split of {size} of {rows} rows is too small for {len(self.names)} classes"
        return UsageError(what, where=where, fix=fix)

    def describe(self, name: str) -> str:
        """How the label column is understood, in a line."""
        if self.is_binary:
            others = f" ({listed(map(repr, self.rest), 5)})" if self.rest else ""
            return f"{name}: {self.names[0]!r}{others} → 0, {self.names[1]!r} → 1 (positive)"
        return f"{name}: {len(self.names)} classes, {listed(map(repr, self.names), CLASSES_SHOWN)}"

    def summary(self, tally: Tally) -> str:
        """What a split's labels are like, in a few words."""
        if self.is_binary:
            return f"{tally.counts[1] / tally.rows:.1%} positive"
        return f"{tally.counts.min()} to {tally.counts.max()} per class"

    def check(self) -> str | None:
        """What is wrong with values that were read from a file, or None."""
        if len(self.names) < 2 or (self.rest and len(self.names) != 2):
            return f"its target has {len(self.names)} classes"
        same = len(set(self.names)) < len(self.names) or len(set(self.known)) < len(self.known)
        return "two of its classes are the same" if same else None


def learn_classes(
    name: str,
    coded: Coded,
    positive_class: str | None,
    *,
    where: str,
    numbers: Numbers = "classes",
    for_numbers: str = "",
) -> Classes:
    """`Classes.learn` of labels as small numbers."""
    counts = coded.counts
    if None in coded.texts:
        raise _missing(name, coded.missing, where=where)
    known = [text for text in coded.texts if text is not None]
    form = form_of(known, coded.precision)
    classes = in_order(spelled(known, form))
    if len(classes) > MOST_NUMBERS and positive_class is None and are_quantities(coded, numbers):
        other = f"To predict the number: {for_numbers}. " if for_numbers else ""
        raise UsageError(
            f"the label column {name!r} holds numbers, {len(classes)} different ones",
            where=where,
            fix=f"{other}To tell them apart as classes: --categorical {name}.",
        )
    vocabulary = Vocabulary(classes, form)
    if len(classes) < 2:
        raise UsageError(
            f"the label column {name!r} has one class: {classes[0]!r} ({counts.sum()} rows)",
            where=where,
            fix="Two classes or more are needed.",
        )
    if positive_class is None:
        return Classes(tuple(classes), form)
    place = vocabulary.place(positive_class.strip(), typed=True)
    if place < 0:
        raise UsageError(
            f"{positive_class!r} is not a class of column {name!r}",
            where="--positive-class",
            fix=f"Its classes are {listed(map(repr, classes))}.",
        )
    others = tuple(classes[:place] + classes[place + 1 :])
    if len(others) == 1:
        return Classes((others[0], classes[place]), form)
    return Classes((f"not {classes[place]}", classes[place]), form, rest=others)


def class_numbers(target: Classes, name: str, coded: Coded, *, where: str) -> NDArray[Any]:
    """Class numbers in as few bits as possible (rows,). Raises UsageError like `Classes.encode`."""
    if None in coded.texts and coded.missing.any():
        raise _missing(name, coded.missing, where=where)
    vocabulary = Vocabulary(target.known, target.form)
    places = np.array([
        MISSING if text is None
        else vocabulary.place(text, typed=coded.typed, precision=coded.precision)
        for text in coded.texts
    ], np.int64)  # fmt: skip
    unseen = np.flatnonzero(np.isin(coded.codes, np.flatnonzero(places == UNSEEN)))
    if len(unseen):
        row = int(unseen[0])
        shown = [repr(each) for each in target.known]
        raise UsageError(
            f"the label in column {name!r} is {coded.texts[coded.codes[row]]!r}",
            row=row + 1,
            where=where,
            fix=f"The classes are {' and '.join(shown) if len(shown) == 2 else listed(shown, CLASSES_SHOWN)}.",
        )
    table = places == len(target.rest) if target.rest else np.maximum(places, 0)
    return table.astype(smallest(len(target.names)))[coded.codes]


def in_order(classes: Sequence[str]) -> list[str]:
    """The classes, a positive one last: yes and no by meaning, numbers by size, other text alphabetically."""
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


def are_quantities(coded: Coded, numbers: str) -> bool:
    """Whether the values are numbers that may not be classes; `numbers` is that of `Classes.learn`."""
    return numbers != "classes" and coded.are_numbers(text=numbers == "text")


def _missing(name: str, missing: NDArray[np.bool_], *, where: str) -> UsageError:
    return missing_label(name, int(missing.sum()), len(missing), int(missing.argmax()), where=where)


def _coded(name: str, values: pa.ChunkedArray, *, where: str) -> Coded:
    """The values. Raises UsageError for lists, structs and bytes."""
    check_flat(name, values, where=where)
    return Coded.of(values)
