"""What looks wrong with a column: constant, an ID, a copy of the label, other values in another split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.kinds import IDS, ORDERED, Category, Column, Number
from trainer.data.tables.vocabulary import MISSING

FEW_ROWS = 20
"""Fewer rows say nothing about a column."""
FEW_OF_A_CLASS = 5
"""Rows of each class without which a column that tells the classes apart may be chance."""
MOSTLY_MISSING = 0.95
DEVIATIONS = 0.5
"""Means of two splits differ if they are so many deviations of the training rows apart."""
SHARE = 0.25
"""Categories and missing values differ if they do in this share of the rows."""
SURE = 5.0
"""And means and missing values by so many standard errors, since small splits differ by chance."""
MOST_CLASSES = 40
SAME_NUMBER = 0.999999
"""A correlation with the label that only a copy has."""


@dataclass(frozen=True)
class Part:
    """A column in one split: numbers on an axis (n,), NaN if missing, or places among the known categories (n,)."""

    axis: NDArray[np.float64] | None = None
    places: NDArray[np.int64] | None = None

    @cached_property
    def missing(self) -> NDArray[np.bool_]:
        """Which values are missing."""
        found: NDArray[np.bool_] = np.isnan(self.axis) if self.axis is not None else self.among_words == MISSING
        return found

    @cached_property
    def present(self) -> NDArray[np.float64]:
        """The numbers that are not missing."""
        assert self.axis is not None  # noqa: S101  asked for columns with an axis only
        return self.axis[~np.isnan(self.axis)]

    @property
    def among_words(self) -> NDArray[np.int64]:
        """The places of all rows."""
        assert self.places is not None  # noqa: S101  asked for columns with words only
        return self.places

    @property
    def known(self) -> NDArray[np.int64]:
        """The places of the values that are known."""
        return self.among_words[self.among_words >= 0]

    @cached_property
    def distinct(self) -> int:
        """The number of different values, without the missing ones."""
        if self.axis is None:
            return int((np.bincount(self.known) > 0).sum())
        # By sorting: Arrow's table of hashes takes ten times as long for floats.
        ordered = np.sort(self.present)
        return int((ordered[1:] != ordered[:-1]).sum()) + min(len(ordered), 1)

    def __len__(self) -> int:
        return len(self.among_words if self.axis is None else self.axis)


class LabelClasses:
    """The labels of the training rows, numbered by their values."""

    def __init__(self, labels: NDArray[np.float32]) -> None:
        self.labels = labels
        values, numbers, self.counts = np.unique(labels, return_inverse=True, return_counts=True)
        self.numbers: NDArray[np.int64] = numbers.astype(np.int64)
        self.count = len(values)


def suspicions(column: Column, parts: Mapping[str, Part], labels: LabelClasses | None) -> list[str]:
    """What looks wrong, a sentence each. `labels` are those of the training rows."""
    train = parts["train"]
    found = [*_constant(column, train), *_missing(train), *_id(column, train), *_numbers_as_dates(column, train)]
    if labels is not None and not found:
        found += _label(column.name, train, labels)
    for split, part in parts.items():
        if split != "train" and len(part):
            found += _differs(column, train, part, split)
    return found


def suspicions_of_refused(distinct: int | None, present: int) -> list[str]:
    """The same for a column that is refused, of which only the number of distinct values is known."""
    return [_id_text()] if distinct is not None and distinct == present >= FEW_ROWS else []


def _constant(column: Column, train: Part) -> Iterator[str]:
    if train.axis is not None:
        same = train.present.min() == train.present.max()
    else:
        same = train.distinct == 1 and not getattr(column, "missing_category", False)
    if same:
        yield f"it is constant in the training rows; --ignore {column.name} leaves it out"


def _missing(train: Part) -> Iterator[str]:
    share = train.missing.mean()
    if share >= MOSTLY_MISSING:
        yield f"{share:.0%} of its values are missing"


def _id_text() -> str:
    return "every row has a value of its own, as an ID has"


def _id(column: Column, train: Part) -> Iterator[str]:
    if len(train) < FEW_ROWS or train.missing.any():
        return
    whole = isinstance(column, Number) and _are_whole(train.present)
    if (whole or isinstance(column, (Category, *IDS))) and train.distinct == len(train):
        yield f"{_id_text()}; --ignore {column.name} leaves it out"


def _are_whole(numbers: NDArray[np.float64]) -> bool:
    # A look at the first ones spares that at all of most columns.
    return all(bool((each == np.round(each)).all()) for each in (numbers[:FEW_ROWS], numbers))


def _numbers_as_dates(column: Column, train: Part) -> Iterator[str]:
    if not isinstance(column, Number) or len(train.present) < FEW_ROWS or not _are_whole(train.present):
        return
    numbers = train.present
    months, days = numbers // 100 % 100, numbers % 100
    dates = (numbers >= 19000101) & (numbers <= 21001231) & (months >= 1) & (months <= 12) & (days >= 1) & (days <= 31)
    if dates.all():
        text = f"{numbers[0]:.0f}"
        yield f"its numbers look like dates; write {text} as {text[:4]}-{text[4:6]}-{text[6:]} to make it one"


def _label(name: str, train: Part, labels: LabelClasses) -> Iterator[str]:
    """Whether the column alone says what the label is."""
    copy = f"it says what the label is; if it is a copy, --ignore {name} leaves it out"
    if labels.count > MOST_CLASSES:
        if train.axis is not None and _correlation(train.axis, labels.labels) >= SAME_NUMBER:
            yield copy
        return
    if labels.count < 2 or labels.counts.min() < FEW_OF_A_CLASS:
        return
    if _decides(train.missing.astype(np.int64), labels):
        yield f"whether it is missing says what the label is; --ignore {name} leaves it out"
    elif train.axis is None:
        # With few rows of each value, each says it by chance.
        if train.distinct * FEW_OF_A_CLASS <= len(train) and _decides(train.among_words - MISSING, labels):
            yield copy
    elif _separates(train.present, labels.numbers[~train.missing], labels.count):
        yield copy


def _decides(places: NDArray[np.int64], labels: LabelClasses) -> bool:
    """Whether all rows of a place are of one class, and there are places of different classes."""
    size = (int(places.max()) + 1) * labels.count
    found = np.bincount(places * labels.count + labels.numbers, minlength=size).reshape(-1, labels.count) > 0
    return bool((found.sum(axis=1) <= 1).all() and (found.sum(axis=0) > 0).sum() > 1 and found.any(axis=1).sum() > 1)


def _separates(numbers: NDArray[np.float64], classes: NDArray[np.int64], count: int) -> bool:
    """Whether each class has an interval of its own."""
    intervals: list[tuple[float, float]] = []
    for each in range(count):
        of_class = numbers[classes == each]
        if not len(of_class):
            return False
        low, high = float(of_class.min()), float(of_class.max())
        if any(low <= top and high >= bottom for bottom, top in intervals):
            return False
        intervals.append((low, high))
    return True


def _correlation(axis: NDArray[np.float64], labels: NDArray[np.float32]) -> float:
    known = ~np.isnan(axis)
    if known.sum() < FEW_ROWS or np.ptp(axis[known]) == 0 or np.ptp(labels[known]) == 0:
        return 0.0
    return float(abs(np.corrcoef(axis[known], labels[known])[0, 1]))


def _differs(column: Column, train: Part, part: Part, split: str) -> Iterator[str]:
    """Whether the values of a split are wildly different from those of the training rows."""
    sampled = 1 / len(train) + 1 / len(part)
    ours, theirs = train.missing.mean(), part.missing.mean()
    both = (train.missing.sum() + part.missing.sum()) / (len(train) + len(part))
    if abs(ours - theirs) > max(SHARE, SURE * np.sqrt(both * (1 - both) * sampled)):
        yield f"{theirs:.0%} of its values are missing in the {split} rows, and {ours:.0%} in the training rows"
    if isinstance(column, ORDERED):
        here, there = train.present, part.present
        if not len(there):
            return
        spread, error = here.std(), np.sqrt(1 / len(here) + 1 / len(there))
        apart = abs(there.mean() - here.mean())
        if apart > spread * max(DEVIATIONS, SURE * error) and (spread > 0 or apart > 0):
            means = [column.written(float(each.mean())) for each in (there, here)]
            yield f"its mean is {means[0]} in the {split} rows, and {means[1]} in the training rows"
        return
    # Places from 0: missing, unseen, and the known ones.
    size = int(max(each.among_words.max() for each in (train, part))) - MISSING + 1
    here, there = (np.bincount(each.among_words - MISSING, minlength=size) / len(each) for each in (train, part))
    distance = np.abs(here - there).sum() / 2
    # About the distance that two samples of the same values have.
    chance = np.sqrt(here * (1 - here) * sampled).sum() / 2
    unseen = there[1]
    if distance > SHARE + 2 * chance:
        more = f"; {unseen:.0%} are values that training rows do not have" if unseen else ""
        yield f"its values are distributed otherwise in the {split} rows than in the training rows{more}"
