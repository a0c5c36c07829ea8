"""Arrays in memory: copied to the device once and gathered in the epoch's order by chunks; batches are slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.batches import Batch, Shard, Share
from trainer.data.fingerprint import Fingerprint, SplitRows, TableFingerprint
from trainer.data.gather import Gather, Rows
from trainer.errors import UsageError

if TYPE_CHECKING:
    from trainer.mxnet import Array, Context


@dataclass(frozen=True)
class Arrays:
    """A split in memory: numpy arrays or NDArrays with the rows along the first axis.

    `features` is (rows, …), or a tuple of such arrays for a net with several inputs; `labels` is (rows, …); `weights`
    is (rows,) or (rows, 1), or None if all rows count the same. Labels, weights, floating-point and boolean features
    become float32; integer features stay integers.
    """

    features: Any
    labels: Any
    weights: Any = None

    @property
    def inputs(self) -> tuple[Any, ...]:
        """The features as a tuple, one entry per input of the net."""
        return self.features if isinstance(self.features, tuple) else (self.features,)

    def __len__(self) -> int:
        return int(self.inputs[0].shape[0])


class ArrayBatches:
    """Batches of `Arrays`, shuffled by (seed, epoch) or in order.

    Memory on each context: the data (on the CPU shared with the numpy arrays, not copied) and, if shuffled, two buffers
    for a chunk of an epoch (`trainer.data.gather`). Batches are views and need no copy.
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
    ) -> None:
        _check(arrays, where)
        self._share = share or Share(len(contexts))
        self._size = batch_size
        self._contexts = list(contexts)
        self._seed = seed
        self._shuffle = shuffle
        self._inputs = len(arrays.inputs)
        self.rows: int = len(arrays)
        self.weighted = arrays.weights is not None
        columns = [*arrays.inputs, _floating(arrays.labels)] + ([_floating(arrays.weights)] if self.weighted else [])
        held = {str(context): [_on_device(column, context) for column in columns] for context in self._contexts}
        self._columns = [held[str(context)] for context in self._contexts]
        self._views: dict[tuple[int, int, int], tuple[Shard, ...]] = {}
        self._bounds: dict[int, tuple[int, int]] = {}
        self._gather: Gather | None = None
        self.look_ahead: Callable[[Sequence[Rows]], Any] | None = None
        """Called with each shuffled batch ahead of the step; the batch's `distinct` is what it returns."""

    @property
    def batches_per_epoch(self) -> int:
        """Batches per epoch, including the last and possibly shorter one."""
        return -(-self.rows // self._size)

    def sample(self) -> tuple[Array, ...]:
        """The first row of each input on the first context, (1, …)."""
        return tuple(column[0:1] for column in self._columns[0][: self._inputs])

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """The batches of an epoch without the first `skip`; skipping is free."""
        return self._shuffled(epoch, skip) if self._shuffle else self._in_order(skip)

    def _in_order(self, skip: int) -> Iterator[Batch]:
        for start in range(skip * self._size, self.rows, self._size):
            size = min(self._size, self.rows - start)
            begin, counts = self._share.of(size)
            shards, offset = [], start + begin
            indices = np.arange(offset, offset + sum(counts))
            for columns, context, rows in zip(self._columns, self._contexts, counts, strict=True):
                shards.append(self._shard(context, columns, offset, rows))
                offset += rows
            yield Batch(tuple(shards), size, indices)

    def _shuffled(self, epoch: int, skip: int) -> Iterator[Batch]:
        if self._gather is None:
            self._gather = Gather(self._columns, self._contexts, self._share, size=self._size, seed=self._seed)
            self._gather.look_ahead = self.look_ahead
        gather = self._gather
        for first in range(skip, gather.batches, gather.chunk_batches):
            slot, (chunk, found) = gather.chunk((epoch, first))
            for number, start in enumerate(range(0, len(chunk), self._size)):
                size = min(self._size, len(chunk) - start)
                begin, end = self._mine(size)
                batch = Batch(self._view(gather, slot, number, size), size, chunk[start + begin : start + end])
                batch.distinct = found[number] if found else None
                yield batch

    def _view(self, gather: Gather, slot: int, number: int, size: int) -> tuple[Shard, ...]:
        """The shards of batch `number` of a chunk. The buffers do not move, so the views are created once."""
        shards = self._views.get((slot, number, size))
        if shards is None:
            _, whole = self._share.of(self._size)
            shards = tuple(
                self._shard(context, buffers, number * full, rows)
                for context, buffers, full, rows in zip(
                    self._contexts, gather.buffers(slot), whole, self._share.of(size)[1], strict=True
                )
            )
            self._views[slot, number, size] = shards
        return shards

    def _mine(self, size: int) -> tuple[int, int]:
        """The first and the last row (exclusive) of this process's part of a batch."""
        bounds = self._bounds.get(size)
        if bounds is None:
            begin, counts = self._share.of(size)
            bounds = self._bounds[size] = (begin, begin + sum(counts))
        return bounds

    def _shard(self, context: Context, columns: Sequence[Array], start: int, rows: int) -> Shard:
        if rows == 0:
            return Shard(context, (), None, None, 0)
        parts = [column[start : start + rows] for column in columns]
        weight = parts.pop() if self.weighted else None
        label = parts.pop()
        return Shard(context, tuple(parts), label, weight, rows)


def fingerprint_of_arrays(splits: Mapping[str, Any]) -> Fingerprint | None:
    """What identifies the splits that are `Arrays`, each a table of its own; None if there is none.

    Costs a look at all values, and a copy of those that are on another device than the CPU.
    """
    tables = {split: _fingerprint(arrays) for split, arrays in splits.items() if isinstance(arrays, Arrays)}
    if not tables:
        return None
    return Fingerprint(tables, {split: SplitRows(split, table.rows) for split, table in tables.items()})


def _fingerprint(arrays: Arrays) -> TableFingerprint:
    several = len(arrays.inputs) > 1
    parts = {f"input {number}" if several else "X": part for number, part in enumerate(arrays.inputs, start=1)}
    parts |= {"y": arrays.labels} | ({} if arrays.weights is None else {"weights": arrays.weights})
    return TableFingerprint.of_arrays(
        {name: part.asnumpy() if hasattr(part, "asnumpy") else np.asarray(part) for name, part in parts.items()}
    )


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
    sums = np.bincount(numbers, weights=weights.reshape(-1))
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


def _on_device(column: Any, context: Context) -> Array:
    """The column as an NDArray on the context; on the first CPU context it shares numpy's memory."""
    from trainer.mxnet import mx

    if isinstance(column, mx.nd.NDArray):
        column = column.astype("float32") if column.dtype in (np.float64, np.float16) else column
        return column.as_in_context(context)
    column = np.asarray(column)
    column = np.ascontiguousarray(column, dtype=_taken_as(column.dtype))
    if context == mx.cpu(0):
        # from_numpy marks its argument as read-only; a view keeps the caller's array writable.
        return mx.nd.from_numpy(column.view(), zero_copy=True)
    return mx.nd.array(column, ctx=context, dtype=column.dtype)


def _taken_as(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The MXNet type that holds values of `dtype`, in native byte order."""
    if dtype.kind in "fb":
        return np.dtype(np.float32)
    if dtype.name in ("uint8", "int32", "int64"):
        return dtype.newbyteorder("=")
    return np.dtype(np.int32 if dtype.itemsize < 4 else np.int64)
