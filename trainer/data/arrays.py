"""Arrays of numbers as a split: gathered in the epoch's order by chunks, or in order; batches are slices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trainer.data.addressed import Addressed
from trainer.data.batches import Batch, Share
from trainer.data.fingerprint import TableFingerprint
from trainer.data.gather import Layout
from trainer.data.gathered import GatheredBatches, on_context
from trainer.data.held import HeldColumns, is_half, taken_as
from trainer.data.order import Order
from trainer.errors import UsageError

if TYPE_CHECKING:
    from trainer.mxnet import Array, Context


LARGEST = 2**31 - 1
"""Numbers in an array that MXNet can index."""


@dataclass(frozen=True)
class Arrays(Addressed):
    """A split in memory: numpy arrays or NDArrays with the rows along the first axis.

    `features` is (rows, …), or a tuple of such arrays for a net with several inputs; `labels` is (rows, …); `weights`
    is (rows,) or (rows, 1), or None if all rows count the same. Labels, weights, floating-point and boolean features
    become float32; integer features stay integers.
    """

    features: Any
    labels: Any
    weights: Any = None

    is_mapped: ClassVar[bool] = False
    """Whether the arrays are views of a file, whose values were checked when it was written."""

    @property
    def inputs(self) -> tuple[Any, ...]:
        """The features as a tuple, one entry per input of the net."""
        return self.features if isinstance(self.features, tuple) else (self.features,)

    def __len__(self) -> int:
        return int(self.inputs[0].shape[0])

    @property
    def columns(self) -> tuple[Any, ...]:
        """The inputs, the labels and, if there are some, the weights."""
        return (*self.inputs, self.labels, *(() if self.weights is None else (self.weights,)))

    @property
    def row_bytes(self) -> int:
        of_inputs = sum(_numbers(part) * taken_as(np.dtype(part.dtype)).itemsize for part in self.inputs)
        return of_inputs + sum(_numbers(part) * 4 for part in self.columns[len(self.inputs) :])

    @property
    def most_numbers(self) -> int:
        """The numbers in the largest of the arrays."""
        return max(int(np.prod(part.shape, dtype=int)) for part in self.columns)

    @property
    def is_in_memory(self) -> bool:
        return not self.is_mapped

    def fingerprint(self) -> TableFingerprint | None:
        """Costs a look at all values, and a copy of those that are on another device than the CPU."""
        several = len(self.inputs) > 1
        parts = {f"input {number}" if several else "X": part for number, part in enumerate(self.inputs, start=1)}
        parts |= {"y": self.labels} | ({} if self.weights is None else {"weights": self.weights})
        return TableFingerprint.of_arrays(
            {name: part.asnumpy() if hasattr(part, "asnumpy") else np.asarray(part) for name, part in parts.items()}
        )


class ArrayBatches(GatheredBatches):
    """Batches of `Arrays`, shuffled or in order.

    All contexts on the CPU share the memory of the numpy arrays. Other devices get a copy of arrays in memory that
    MXNet can index; the rows of mapped and larger ones are gathered on the host, and so with `staged`. If shuffled,
    there are two buffers for a chunk of an epoch on each context. Batches are views and need no copy.
    """

    def __init__(
        self,
        arrays: Arrays,
        *,
        batch_size: int,
        contexts: Sequence[Context],
        seed: int,
        shuffle: bool,
        where: str = "the data",
        share: Share | None = None,
        order: Order | None = None,
        epochs: int | None = None,
        staged: bool = False,
    ) -> None:
        from trainer.host_memory import is_host

        if not arrays.is_mapped:
            _check(arrays, where)
        columns = [*arrays.inputs, *map(_floating, arrays.columns[len(arrays.inputs) :])]
        on_host = staged or arrays.is_mapped or arrays.most_numbers > LARGEST or all(map(is_host, contexts))
        self._host = [_on_host(column, is_mapped=arrays.is_mapped) for column in columns] if on_host else []
        held = {} if on_host else {str(each): [_on_device(column, each) for column in columns] for each in contexts}
        self._columns = [held[str(context)] for context in contexts] if held else []
        shapes = [(tuple(column.shape[1:]), taken_as(np.dtype(column.dtype))) for column in columns]
        super().__init__(
            len(arrays),
            [Layout(*each) for each in shapes],
            batch_size=batch_size,
            contexts=contexts,
            order=order or Order(len(arrays), seed),
            epochs=epochs,
            shuffle=shuffle,
            weighted=arrays.weights is not None,
            share=share,
            held=HeldColumns(self._host, getattr(arrays, "prefetch", None)) if on_host else None,
            columns=self._columns,
            staged=staged or (on_host and not all(map(is_host, contexts))),
        )
        widest = max(1, *(int(np.prod(shape)) for shape, _ in shapes))
        self._slab_rows = max(1, LARGEST // widest // batch_size) * batch_size
        self._slabs: dict[tuple[int, int], Array] = {}

    def sample(self) -> tuple[Array, ...]:
        """The first row of each input on the first context, (1, …)."""
        return tuple(self._part(0, number, 0, 1) for number in range(self._inputs))

    def _in_order(self, skip: int) -> Iterator[Batch]:
        for start in range(skip * self._size, self.rows, self._size):
            size = min(self._size, self.rows - start)
            begin, counts = self._share.of(size)
            shards, offset = [], start + begin
            indices = np.arange(offset, offset + sum(counts))
            for number, rows in enumerate(counts):
                end = offset + rows
                parts = [self._part(number, column, offset, end) for column in range(len(self._layouts)) if rows]
                shards.append(self._shard(self._contexts[number], parts, rows))
                offset = end
            yield Batch(tuple(shards), size, indices)

    def _part(self, context: int, number: int, start: int, stop: int) -> Array:
        """Rows of a column on a context."""
        if self._columns:
            return self._columns[context][number][start:stop]
        column, at = self._host[number], self._contexts[context]
        if at != self._first_cpu or is_half(column):
            return on_context(column[start:stop], at, self._layouts[number].dtype)
        slab, first = divmod(start, self._slab_rows)
        array = self._slabs.get((number, slab))
        if array is None:
            rows = column[slab * self._slab_rows : (slab + 1) * self._slab_rows]
            array = self._slabs[number, slab] = on_context(rows, at, rows.dtype)
        return array[first : first + stop - start]


def _check(arrays: Arrays, where: str) -> None:
    parts = [*arrays.inputs, arrays.labels] + ([arrays.weights] if arrays.weights is not None else [])
    for part in parts:
        if not hasattr(part, "shape") or not part.shape:
            raise UsageError(f"a {type(part).__name__} is not an array of rows", where=where)
        if not hasattr(part, "asnumpy") and (dtype := np.asarray(part).dtype).kind not in "fiub":
            raise UsageError(f"an array holds {dtype.name}, not numbers", where=where)
    lengths = sorted({int(part.shape[0]) for part in parts})
    if len(lengths) > 1:
        raise UsageError(f"its arrays have different numbers of rows: {', '.join(map(str, lengths))}", where=where)
    if lengths[0] == 0:
        raise UsageError("it has no rows", where=where)
    if arrays.weights is not None and int(np.prod(arrays.weights.shape)) != lengths[0]:
        raise UsageError(f"its weights have shape {tuple(arrays.weights.shape)}, not one per row", where=where)
    several = len(arrays.inputs) > 1
    named = [(f"input {number}" if several else "X", part) for number, part in enumerate(arrays.inputs, start=1)]
    named += [] if arrays.weights is None else [("the weights", arrays.weights)]
    for name, part in named:
        values = part.asnumpy() if hasattr(part, "asnumpy") else np.asarray(part)
        # Labels are free to hold NaN: a loss may leave such rows out.
        check_finite(values, where=where, what=name, fix="Fill or drop such rows.")


def check_class_weights(
    labels: NDArray[Any], weights: NDArray[Any] | None, classes: Sequence[object], *, where: str
) -> None:
    """Raises UsageError if all rows of a class have weight 0, so that nothing can be learned about it.

    `labels` are (rows,) class numbers; `classes` are the classes' names.
    """
    if weights is None:
        return
    numbers = labels.reshape(-1).astype(int)
    rows = np.bincount(numbers)
    check_weight_sums(rows, np.bincount(numbers, weights=weights.reshape(-1)), classes, where=where)


def check_weight_sums(rows: NDArray[Any], sums: NDArray[Any], classes: Sequence[object], *, where: str) -> None:
    """The same by the rows of each class and the sums of their weights, (classes,)."""
    for number in np.flatnonzero((rows > 0) & (sums == 0)):
        raise UsageError(
            f"all {rows[number]} rows of the class {classes[number]!r} have weight 0",
            where=where,
            fix="Give some of them a weight above 0, or leave the rows of the class out.",
        )


def check_finite(array: NDArray[Any], *, where: str, what: str, fix: str) -> None:
    """Raises UsageError, naming the first row, if an array holds NaN or infinity."""
    if array.dtype.kind != "f":
        return
    with np.errstate(over="ignore", invalid="ignore"):
        # One pass without a temporary array; the search runs only if the sum is not finite.
        if np.isfinite(array.sum(dtype=np.float64)):
            return
    bad = ~np.isfinite(array)
    if not bad.any():
        return
    rows = bad.reshape(len(array), -1).any(axis=1)
    first = int(rows.argmax())
    value = array[first][bad[first]].ravel()[0]
    count = int(rows.sum())
    several = f" and in {count - 1} more" if count > 1 else ""
    raise UsageError(f"{what} holds {value:g} in row {first}{several}", where=where, fix=fix)


def _floating(column: Any) -> Any:
    """Labels and weights as float32: Gluon's losses multiply them with the outputs, and accept float class numbers."""
    return column if np.dtype(column.dtype) == np.float32 else column.astype(np.float32)


def _on_host(given: Any, *, is_mapped: bool) -> NDArray[Any]:
    """The column in memory of the host, of the type that batches have; half floats stay such in a mapped file."""
    from trainer.host_memory import memory_of
    from trainer.mxnet import mx

    if isinstance(given, mx.nd.NDArray):
        return memory_of(_on_device(given, mx.cpu()))
    column: NDArray[Any] = np.asarray(given)
    if is_mapped and is_half(column) and column.flags.c_contiguous:
        return column
    return np.ascontiguousarray(column, dtype=taken_as(column.dtype))


def _on_device(column: Any, context: Context) -> Array:
    """The column as an NDArray on the context."""
    from trainer.mxnet import mx

    if isinstance(column, mx.nd.NDArray):
        column = column.astype("float32") if column.dtype in (np.float64, np.float16) else column
        return column.as_in_context(context)
    column = np.asarray(column)
    return mx.nd.array(column, ctx=context, dtype=taken_as(column.dtype))


def _numbers(column: Any) -> int:
    """The numbers in a row of a column."""
    return int(np.prod(column.shape[1:], dtype=int))
