"""The rows that `fit(net, …)` is given as splits: arrays, a loader, reusable batches, or a fraction of the rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.arrays import Arrays, check_finite
from trainer.data.streamed import Streamed
from trainer.errors import UsageError, type_of
from trainer.nets.convert import (
    as_float,
    check_rows,
    features_of,
    labels_of,
    names_of,
    rows_of,
    weights_of,
)
from trainer.seeds import derive

FORMS = (
    "a tuple (X, y), trainer.Arrays, trainer.Streamed, a gluon.data.DataLoader, or an iterable of batches that can be "
    "iterated again"
)


@dataclass
class Rows:
    """One split: `arrays` in memory, `streamed` rows, or `batches` to go through once per epoch; others are None."""

    where: str
    """The argument that the split was given as."""
    arrays: Arrays | None = None
    batches: Batched | None = None
    feature_names: list[str] = field(default_factory=list)
    streamed: Streamed | None = None

    @property
    def labels(self) -> NDArray[Any]:
        """The labels of all rows in memory, or of the first block or batch, (rows, …)."""
        if self.arrays is not None:
            return np.asarray(self.arrays.labels)
        if self.streamed is not None:
            return self.streamed.blocks.first[self.streamed.blocks.inputs]
        assert self.batches is not None  # noqa: S101  the one or the other
        return self.batches.first_labels

    @property
    def inputs(self) -> Sequence[NDArray[Any]] | None:
        """The inputs of all rows in memory, or of the first block; None for batches."""
        if self.streamed is not None:
            return self.streamed.blocks.first[: self.streamed.blocks.inputs]
        return None if self.arrays is None else self.arrays.inputs

    @property
    def weighted(self) -> bool:
        """Whether the rows have weights."""
        if self.arrays is not None:
            return self.arrays.weights is not None
        if self.streamed is not None:
            return self.streamed.blocks.weighted
        assert self.batches is not None  # noqa: S101
        return self.batches.weighted


def rows_from(given: Any, where: str) -> Rows:
    """Converts an argument to a split. Raises UsageError, naming the argument, if that is impossible."""
    from trainer.mxnet import gluon

    if isinstance(given, Arrays):
        return Rows(where, arrays=given) if given.is_mapped else _own_arrays(given, where)
    if isinstance(given, Streamed):
        return Rows(where, streamed=given)
    if isinstance(given, gluon.data.DataLoader):
        return Rows(where, batches=Batched(given, where))
    if isinstance(given, gluon.data.Dataset):
        raise UsageError(
            f"{type_of(given)} gives single rows",
            where=where,
            fix="Give gluon.data.DataLoader(dataset, batch_size=32, shuffle=True).",
        )
    if isinstance(given, tuple):
        return _from_tuple(given, where)
    if isinstance(given, list) and given and not all(isinstance(part, (tuple, list)) for part in given):
        raise UsageError(
            f"a list whose first entry is {type_of(given[0])}",
            where=where,
            fix=f"Write a tuple, {where}=(X, y), or a list of batches (X, y).",
        )
    _refuse(given, where)
    return Rows(where, batches=Batched(given, where))


def _from_tuple(given: tuple[Any, ...], where: str) -> Rows:
    if len(given) not in (2, 3):
        raise UsageError(
            f"a tuple of {len(given)}",
            where=where,
            fix=f"Write {where}=(X, y) or (X, y, weights); several inputs as ((X1, X2), y).",
        )
    features = features_of(given[0], where=where)
    labels = labels_of(given[1], where=where)
    names = ["X"] if len(features) == 1 else [f"input {number}" for number in range(1, len(features) + 1)]
    check_rows([*zip(names, features, strict=True), ("y", labels)], where=where)
    fix = "Fill or drop such rows."
    for name, part in zip(names, features, strict=True):
        check_finite(part, where=where, what=name, fix=fix)
    check_finite(labels, where=where, what="y", fix=fix)
    weights = None if len(given) == 2 else weights_of(given[2], len(labels), where=where)
    arrays = Arrays(features if isinstance(given[0], tuple) else features[0], labels, weights)
    return Rows(where, arrays=arrays, feature_names=names_of(given[0]))


def _own_arrays(given: Arrays, where: str) -> Rows:
    """`Arrays` unchanged, integer features included; only their labels have to be numbers."""
    parts = [rows_of(part, where=where, what="X") for part in given.inputs]
    labels = labels_of(given.labels, where=where)
    check_rows([*(("X", part) for part in parts), ("y", labels)], where=where)
    for part in parts:
        check_finite(part, where=where, what="X", fix="Fill or drop such rows.")
    weights = None if given.weights is None else weights_of(given.weights, len(labels), where=where)
    features = tuple(parts) if isinstance(given.features, tuple) else parts[0]
    return Rows(where, arrays=Arrays(features, labels, weights), feature_names=names_of(given.features))


def _refuse(given: Any, where: str) -> None:
    """Raises UsageError for a source that cannot be iterated twice."""
    if isinstance(given, (str, bytes, dict)) or hasattr(given, "shape") or hasattr(given, "asnumpy"):
        what = "one array" if hasattr(given, "shape") else f"{type_of(given)}"
        raise UsageError(f"{what} is not rows with labels", where=where, fix=f"Give {FORMS}.")
    try:
        started = iter(given)
    except TypeError:
        raise UsageError(f"{type_of(given)} gives no rows", where=where, fix=f"Give {FORMS}.") from None
    if started is given:
        fix = "Give a list of batches, a gluon.data.DataLoader, or an object whose __iter__ starts over each time."
        raise UsageError(f"{type_of(given)} can be iterated only once", where=where, fix=fix)


class Batched:
    """Batches for a net, each (data, label) or (data, label, weight) of NDArrays of float32, checked as they come.

    Each iteration restarts the source. Raises UsageError, naming the argument and the batch, for a bad batch.
    """

    def __init__(self, source: Any, where: str) -> None:
        from trainer.mxnet import gluon

        self._source = source
        self._where = where
        self._is_fresh = isinstance(source, gluon.data.DataLoader)
        self._first: tuple[tuple[int, ...], ...] | None = None
        self._any = False
        self.weighted = False
        """Whether its batches have weights; known from the first one."""
        self.first_labels: NDArray[Any] = np.empty(0, np.float32)
        """The labels of the first batch that was seen."""

    @property
    def source(self) -> Any:
        """What it was made of."""
        return self._source

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        number = 0
        for number, batch in enumerate(self._source, start=1):
            yield self._batch(batch, f"{self._where}, batch {number}")
        if not number:
            fix = "Its __iter__ has to start from the beginning each time." if self._any else ""
            what = "it gave no batch when it was iterated again" if self._any else "it gives no batch"
            raise UsageError(what, where=self._where, fix=fix)
        self._any = True

    def _batch(self, batch: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            size = f" of {len(batch)}" if isinstance(batch, (tuple, list, dict)) else ""
            raise UsageError(
                f"it is {type_of(batch)}{size}",
                where=where,
                fix="A batch is (data, label) or (data, label, weight); several inputs are a tuple.",
            )
        if not getattr(batch[1], "shape", (1,)):
            raise UsageError(
                "it is a single row",
                where=where,
                fix=f"A batch holds several: give arrays, {self._where}=(X, y), or a gluon.data.DataLoader.",
            )
        inputs = [self._own(_input(part, where), part) for part in _parts(batch[0])]
        label = self._own(_numbers(batch[1], where, "y"), batch[1])
        weight = [self._own(_numbers(part, where, "the weights"), part) for part in batch[2:]]
        lengths = sorted({int(part.shape[0]) for part in [*inputs, label]})
        if len(lengths) > 1:
            raise UsageError(f"its parts have different numbers of rows: {lengths}", where=where)
        if weight and weight[0].size != lengths[0]:
            raise UsageError(f"its weights have shape {weight[0].shape} for {lengths[0]} rows", where=where)
        shapes = (*(tuple(part.shape[1:]) for part in inputs), (len(batch),))
        if self._first is None:
            self._first, self.first_labels, self.weighted = shapes, label.asnumpy(), bool(weight)
        elif shapes != self._first:
            raise UsageError(f"its rows have shapes {shapes[:-1]}, those before {self._first[:-1]}", where=where)
        self._any = True
        return (tuple(inputs), label, *weight)

    def _own(self, array: Any, given: Any) -> Any:
        """A copy, unless the array was made here or by a loader: plugins may change a batch, but not the data."""
        return array.copy() if array is given and not self._is_fresh else array


def _parts(data: Any) -> tuple[Any, ...]:
    """The inputs: a tuple; or a list, if its entries are arrays, as a DataLoader gives them."""
    if isinstance(data, tuple) or (isinstance(data, list) and data and all(hasattr(each, "shape") for each in data)):
        return tuple(data)
    return (data,)


def _input(part: Any, where: str) -> Any:
    from trainer.mxnet import mx

    if hasattr(part, "as_in_context"):
        return part if part.dtype == np.float32 else part.astype("float32")
    found = as_float(rows_of(part, where=where, what="X"))
    return mx.nd.array(found, dtype=found.dtype)


def _numbers(part: Any, where: str, what: str) -> Any:
    from trainer.mxnet import mx

    if hasattr(part, "as_in_context"):
        return part if part.dtype == np.float32 else part.astype("float32")
    return mx.nd.array(rows_of(part, where=where, what=what), dtype="float32")


def rows_or_fraction(given: Any, where: str) -> Rows | float | None:
    """An argument as rows, or as a fraction of the training rows; None for None. Raises UsageError for anything else.

    A fraction lies between 0 and 1.
    """
    if given is None:
        return None
    shape: Any = getattr(given, "shape", (1,))
    if not isinstance(given, (int, float)) and shape:
        return rows_from(given, where)
    if isinstance(given, (bool, np.bool_)) or not 0 < given < 1:
        raise UsageError(
            f"{given!r} is not a part of the training rows",
            where=where,
            fix=f"Give a number between 0 and 1, such as 0.2, or rows: {where}=(Xv, yv).",
        )
    return float(given)


def split_off(
    rows: Rows, fraction: float, *, seed: int, by_class: bool, split: str = "validation", of: int | None = None
) -> tuple[Rows, Rows]:
    """The rows left and those of a split, each in their original order: a function of the seed, rows and fraction.

    The fraction is of `of` rows, by default of these. With `by_class`, each class keeps its share of the rows, give or
    take one. Raises UsageError for batches, and if there are too few rows for both splits.
    """
    arrays = rows.arrays
    if arrays is None:
        raise UsageError(
            f"a part of the rows ({fraction:g}) can be taken from arrays only",
            where=split,
            fix=f"Give {split} rows: {split}=(Xv, yv), or a loader of them.",
        )
    total = len(arrays)
    every = total if of is None else of
    size = max(1, round(every * fraction))
    if size >= total:
        left = "" if every == total else f", as {total} are left"
        raise UsageError(f"{every} training rows are too few to take {fraction:g} of them{left}", where=split)
    order = np.random.default_rng(derive(seed, split)).permutation(total)
    if by_class:
        # Sorted by class and shuffled within it, so that evenly spaced rows take the right share of each class.
        classes = np.asarray(arrays.labels).reshape(total, -1)
        keys = classes.argmax(axis=1) if classes.shape[1] > 1 else classes[:, 0]
        order = order[np.argsort(keys[order], kind="stable")]
        taken = order[((np.arange(size) + 0.5) * total / size).astype(int)]
    else:
        taken = order[:size]
    chosen = np.zeros(total, bool)
    chosen[taken] = True
    kept, held = (_take(arrays, np.flatnonzero(part)) for part in (~chosen, chosen))
    return Rows(rows.where, kept, None, rows.feature_names), Rows(split, held, None, rows.feature_names)


def _take(arrays: Arrays, rows: NDArray[Any]) -> Arrays:
    parts = tuple(np.asarray(part)[rows] for part in arrays.inputs)
    weights = None if arrays.weights is None else np.asarray(arrays.weights)[rows]
    features = parts if isinstance(arrays.features, tuple) else parts[0]
    return Arrays(features, np.asarray(arrays.labels)[rows], weights)
