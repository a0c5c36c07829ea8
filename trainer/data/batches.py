"""The engine's interface to data: batches in a reproducible order, divided into one shard per device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from numpy.typing import NDArray

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
    _shapes: tuple[tuple[int, ...], ...] | None = field(default=None, repr=False, compare=False)

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


@dataclass(slots=True)
class Batch:
    """Consecutive rows of an epoch's order.

    The arrays may be views of a buffer that a later chunk or epoch overwrites: copy what you want to keep.
    """

    shards: tuple[Shard, ...]
    """The part that this process computes, one shard per context."""
    rows: int
    """All rows, including those of other processes."""
    indices: NDArray[Any] | None
    """Row numbers within the split, int64, of the rows in the shards, in their order; None if unknown."""

    @property
    def data(self) -> Array:
        """The first input on the first context, (rows on that context, …)."""
        return self.shards[0].inputs[0]

    @property
    def label(self) -> Array:
        """The labels on the first context."""
        return self.shards[0].label


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
