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
    present, numbers = np.unique(classes, return_inverse=True)
    counts = np.bincount(numbers, minlength=len(present))
    if not rows or counts.min() < 2 or min(size, rows - size) < len(present):
        raise TooFewRows(f"{rows} rows of {len(present)} classes are too few to split off {size}")
    # numpy promises the same raw numbers on every version, which it does not for shuffling.
    drawn = np.random.PCG64(derive(seed, stream)).random_raw(rows + len(present))
    whole, remainders = np.divmod(counts * size, rows)
    largest = np.lexsort((drawn[rows:], -remainders))[: size - int(whole.sum())]
    whole[largest] += 1
    order = np.argsort(drawn[:rows], kind="stable")
    # By class, and shuffled within it.
    order = order[np.argsort(numbers[order], kind="stable")]
    starts = np.cumsum(counts) - counts
    rank = np.arange(rows) - np.repeat(starts, counts)
    return np.sort(order[rank < np.repeat(whole, counts)])
