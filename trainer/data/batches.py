"""The engine's interface to data: batches in a reproducible order, divided into one shard per device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import is_
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from trainer.errors import TrainerError

if TYPE_CHECKING:
    from trainer.mxnet import Array, Context


@dataclass(slots=True)
class Shard:
    """The part of a batch that one context computes. `rows` may be 0; `inputs` is then empty and `label` None."""

    context: Context
    inputs: tuple[Array, ...]
    """The net's arguments, each (rows, …)."""
    label: Array
    weight: Array | None
    rows: int
    _shapes: tuple[tuple[int, ...], ...] | None = field(default=None, init=False, repr=False, compare=False)
    _memory: tuple[NDArray[Any], ...] | None = field(default=None, init=False, repr=False, compare=False)

    def having(
        self,
        inputs: tuple[Array, ...],
        label: Array,
        weight: Array | None,
        *,
        memory: tuple[NDArray[Any], ...] | None = None,
    ) -> Shard:
        """The shard with other arrays of the same shapes, which are not asked again; nor is a given `memory`."""
        shard = Shard(self.context, inputs, label, weight, self.rows)
        shard._shapes, shard._memory = self.shapes, memory
        return shard

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The inputs, the label and, if there is one, the weight."""
        return (*self.inputs, self.label) if self.weight is None else (*self.inputs, self.label, self.weight)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of `arrays`, cached: MXNet takes a microsecond for each."""
        if self._shapes is None:
            self._shapes = tuple(part.shape for part in self.arrays)
        return self._shapes

    @property
    def memory(self) -> tuple[NDArray[Any], ...]:
        """The memory of `arrays` as numpy arrays, for a context on the CPU; cached like `shapes`.

        MXNet does not know what is done with it (`trainer.host_memory`).
        """
        if self._memory is None:
            from trainer.host_memory import memory_of

            self._memory = tuple(map(memory_of, self.arrays))
        return self._memory


class Whole:
    """One column of a batch that lies in several shards: its rows joined on the first context.

    Changes of the joined array reach the shards' arrays, and the other way round, with every `settle`.
    """

    __slots__ = ("_before", "_parts", "array")

    def __init__(self, parts: Sequence[Array]) -> None:
        self._parts = parts
        self.array: Array = self._joined()
        self._before = self.array.copy()

    def joins(self, parts: Sequence[Array]) -> bool:
        """Whether these are the shards' arrays."""
        return len(parts) == len(self._parts) and all(map(is_, parts, self._parts))

    def settle(self) -> None:
        """Writes what was changed on either side to the other. Does not wait for the devices."""
        from trainer.mxnet import mx

        array, before = self.array, self._before
        # NaN differs from itself, and is a change only if one side has it.
        changed = (array != before) * ((array == array) + (before == before))  # noqa: PLR0124
        merged = mx.nd.where(changed, array, self._joined())
        merged.copyto(array)
        merged.copyto(before)
        start = 0
        for part in self._parts:
            merged[start : start + part.shape[0]].copyto(part)
            start += part.shape[0]

    def _joined(self) -> Array:
        from trainer.mxnet import mx

        first = self._parts[0].context
        return mx.nd.concat(*[part.as_in_context(first) for part in self._parts], dim=0)


@dataclass(slots=True)
class Batch:
    """Consecutive rows of an epoch's order.

    `inputs`, `data`, `label` and `weight` are all rows of this process, on the first context, however many shards
    there are. What `on_batch_begin` changes in them, in place, is trained, on every context. The arrays may be views of
    a buffer that a later chunk or epoch overwrites: copy what you want to keep.
    """

    shards: tuple[Shard, ...]
    """The part that this process computes, one shard per context."""
    rows: int
    """All rows, including those of other processes."""
    indices: NDArray[Any] | None
    """Row numbers within the split, int64, of the rows in the shards, in their order; None if unknown."""
    distinct: Sequence[Any] | None = field(default=None, init=False, repr=False, compare=False)
    """The distinct row numbers of each table of weights that the net looks up, if they were found ahead."""
    _wholes: dict[int, Whole] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def inputs(self) -> tuple[Array, ...]:
        """The net's arguments, each (rows, …). Raises TrainerError if this process has no rows of the batch."""
        return tuple(self._column(number) for number in range(len(self._filled()[0].inputs)))

    @property
    def data(self) -> Array:
        """The first input, (rows, …)."""
        return self._column(0)

    @property
    def label(self) -> Array:
        """The labels, (rows, …)."""
        return self._column(len(self._filled()[0].inputs))

    @property
    def weight(self) -> Array | None:
        """The rows' weights; None if they have none."""
        first = self._filled()[0]
        return None if first.weight is None else self._column(len(first.inputs) + 1)

    def inherit(self, old: Batch) -> None:
        """Takes over the arrays that plugins hold of the batch that this one replaces, if it has the same shards."""
        for number, whole in old._wholes.items():
            ours = [shard.arrays[number] for shard in self.shards if shard.rows and number < len(shard.arrays)]
            if whole.joins(ours):
                self._wholes.setdefault(number, whole)

    def settle(self) -> None:
        """Writes what was changed in `inputs`, `label` and `weight` to the shards. Costs nothing with one shard."""
        for whole in self._wholes.values():
            whole.settle()

    def _column(self, number: int) -> Array:
        filled = self._filled()
        if len(filled) == 1:
            return filled[0].arrays[number]
        whole = self._wholes.get(number)
        if whole is None:
            whole = self._wholes[number] = Whole([shard.arrays[number] for shard in filled])
        else:
            whole.settle()
        return whole.array

    def _filled(self) -> list[Shard]:
        filled = [shard for shard in self.shards if shard.rows]
        if not filled:
            raise TrainerError(
                "this process has no rows of the batch, so it has no arrays; look at the rows of its shards first"
            )
        return filled


@runtime_checkable
class Batches(Protocol):
    """A split, divided into batches."""

    @property
    def rows(self) -> int | None:
        """Rows per epoch; None if unknown before it was read."""

    @property
    def batches_per_epoch(self) -> int | None:
        """Batches per epoch; None if unknown."""

    @property
    def weighted(self) -> bool:
        """Whether batches carry weights."""

    def sample(self) -> tuple[Array, ...]:
        """One row of each input on the first context, from which the net infers its shapes."""

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """The batches of an epoch without the first `skip`; they depend only on the seed and the epoch."""


def split_rows(rows: int, parts: int) -> list[int]:
    """The sizes of `parts` nearly equal parts of `rows`, larger ones first; some may be 0."""
    share, rest = divmod(rows, parts)
    return [share + (part < rest) for part in range(parts)]


@dataclass(frozen=True)
class Share:
    """Which rows of a batch a process computes: batches are divided over processes, and each part over contexts."""

    contexts: int = 1
    rank: int = 0
    processes: int = 1
    fixed: bool = False
    """Whether a batch's parts do not depend on the number of processes; all processes then have equally many parts."""

    def of(self, rows: int) -> tuple[int, list[int]]:
        """The first row of this process's part of a batch with `rows` rows, and the number of rows of each context."""
        if self.fixed:
            parts, first = split_rows(rows, self.processes * self.contexts), self.rank * self.contexts
            return sum(parts[:first]), parts[first : first + self.contexts]
        parts = split_rows(rows, self.processes)
        return sum(parts[: self.rank]), split_rows(parts[self.rank], self.contexts)
