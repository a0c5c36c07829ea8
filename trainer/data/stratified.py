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
    numbers = np.asarray(classes).astype(np.int64)
    if rows and numbers.max() > rows:
        numbers = np.unique(numbers, return_inverse=True)[1].reshape(-1)
    every = np.bincount(numbers)
    present = np.flatnonzero(every)
    counts = every[present]
    if not rows or counts.min() < 2 or min(size, rows - size) < len(present):
        raise TooFewRows(f"{rows} rows of {len(present)} classes are too few to split off {size}")
    # numpy promises the same raw numbers on every version, which it does not for shuffling.
    drawn = np.random.PCG64(derive(seed, stream)).random_raw(rows + len(present))
    whole, remainders = np.divmod(counts * size, rows)
    largest = np.lexsort((drawn[rows:], -remainders))[: size - int(whole.sum())]
    whole[largest] += 1
    # Numbers of 16 bits are sorted without comparisons.
    by_class = np.argsort(numbers.astype(np.uint16 if len(every) <= 1 << 16 else np.int64), kind="stable")
    ends = np.cumsum(counts)
    parts = zip(whole.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True)
    return np.sort(np.concatenate([_smallest(drawn, by_class[start:end], number) for number, start, end in parts]))


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
