"""Splits rows at random with the same share of each class on both sides: the same rows on every version of numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import TrainerError
from trainer.seeds import derive

SPLIT_VERSION = 2
"""The version of the way in which `stratified_split` chooses rows; 1 was scikit-learn's `train_test_split`. A run that
was split in another way cannot be resumed: it would train on rows that it was to be judged by."""


FEW_CLASSES = 8


class TooFewRows(TrainerError):  # noqa: N818  it says what it is
    """There are too few rows for a split with every class on both sides."""


def stratified_split(classes: NDArray[Any], size: int, seed: int, stream: str) -> NDArray[np.int64]:
    """The rows to split off, in ascending order, as int64 (size,); the others are the rest.

    `classes` are the rows' class numbers (rows,), integers from 0. Each class gives its share of `size`, rounded down,
    and the classes with the largest remainders give one row more, as in scikit-learn; equal remainders and the rows of
    a class are chosen at random, by the seed and the name `stream`. Raises TooFewRows if a class has fewer than two
    rows, or if either side would have fewer rows than there are classes.
    """
    rows = len(classes)
    numbers = np.asarray(classes)
    if numbers.dtype.kind not in "iu":
        numbers = numbers.astype(np.int64)
    if rows and numbers.max() > rows:
        numbers = np.unique(numbers, return_inverse=True)[1].reshape(-1)
    every = np.bincount(numbers) if rows else np.zeros(0, np.int64)
    present = np.flatnonzero(every)
    counts = every[present]
    if not rows or counts.min() < 2 or min(size, rows - size) < len(present):
        raise TooFewRows(f"{rows} rows of {len(present)} classes are too few to split off {size}")
    # numpy promises the same raw numbers on every version, which it does not for shuffling.
    stream_of = np.random.PCG64(derive(seed, stream))
    drawn = stream_of.random_raw(rows)
    whole, remainders = np.divmod(counts * size, rows)
    largest = np.lexsort((stream_of.random_raw(len(present)), -remainders))[: size - int(whole.sum())]
    whole[largest] += 1
    if len(present) <= FEW_CLASSES:
        # A look at all rows for each class takes less memory than their order by class.
        chosen = np.zeros(rows, bool)
        for class_, number in zip(present.tolist(), whole.tolist(), strict=True):
            _choose(chosen, drawn, numbers == class_ if len(present) > 1 else None, number)
        return np.flatnonzero(chosen)
    # Numbers of 16 bits are sorted without comparisons.
    by_class = np.argsort(numbers.astype(np.uint16 if len(every) <= 1 << 16 else np.int64), kind="stable")
    ends = np.cumsum(counts)
    parts = zip(whole.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True)
    return np.sort(np.concatenate([_smallest(drawn, by_class[start:end], number) for number, start, end in parts]))


def _choose(chosen: NDArray[np.bool_], drawn: NDArray[np.uint64], among: NDArray[np.bool_] | None, number: int) -> None:
    """Chooses `number` of the rows `among` all (rows,), None for all: those that drew the smallest, of equal ones the
    first.
    """
    numbers = drawn.copy() if among is None else drawn[among]
    if number >= len(numbers):
        chosen |= True if among is None else among
        return
    if not number:
        return
    numbers.partition(number - 1)
    limit = numbers[number - 1]
    left = number - int(np.count_nonzero(numbers[: number - 1] < limit))
    del numbers
    smaller, same = drawn < limit, drawn == limit
    if among is not None:
        smaller &= among
        same &= among
    chosen |= smaller
    chosen[np.flatnonzero(same)[:left]] = True


def _smallest(drawn: NDArray[np.uint64], of: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """The rows (number,) among those `of` a class (n,) that drew the smallest numbers, of equal ones the first."""
    numbers = drawn[of]
    if not 0 < number < len(of):
        return of[:number]
    largest = np.partition(numbers, number - 1)[number - 1]
    chosen = numbers < largest
    chosen[np.flatnonzero(numbers == largest)[: number - int(chosen.sum())]] = True
    smallest: NDArray[np.int64] = of[chosen]
    return smallest
