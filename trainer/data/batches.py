"""What the engine asks of data: batches in a reproducible order, cut into one shard a device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from numpy.typing import NDArray

if TYPE_CHECKING:
    from trainer.mxnet import Array, Context


@dataclass(slots=True)
class Shard:
    """The part of a batch that one context computes. `rows` may be 0; the arrays then are None."""

    context: Context
    inputs: tuple[Array, ...]
    """What the net is called with, each (rows, …)."""
    label: Array
    weight: Array | None
    rows: int
    _shapes: tuple[tuple[int, ...], ...] | None = field(default=None, repr=False, compare=False)

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The inputs, the label, and the weight where there is one."""
        return (*self.inputs, self.label) if self.weight is None else (*self.inputs, self.label, self.weight)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Those of `arrays`; asked for once, since MXNet takes a microsecond to tell each."""
        if self._shapes is None:
            self._shapes = tuple(part.shape for part in self.arrays)
        return self._shapes


@dataclass(slots=True)
class Batch:
    """Consecutive rows of an epoch's order.

    The arrays may be views of a buffer that the next epoch, or the next chunk of this one, is written into: copy what
    is to be kept.
    """

    shards: tuple[Shard, ...]
    """What this process computes of it, one part a context."""
    rows: int
    """All rows, those of other processes included."""
    indices: NDArray[Any] | None
    """The row numbers within the split, int64, of the rows in the shards, in their order; None where the data does not
    know."""

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
    """A split, cut into batches."""

    @property
    def rows(self) -> int | None:
        """How many rows an epoch has; None where that is not known before it was read."""

    @property
    def batches_per_epoch(self) -> int | None:
        """How many batches an epoch has; None where that is not known."""

    @property
    def weighted(self) -> bool:
        """Whether batches carry weights."""

    def sample(self) -> tuple[Array, ...]:
        """One row of the inputs on the first context, for the net to learn its shapes from."""

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, without the first `skip`: a function of the seed and the epoch alone."""


def split_rows(rows: int, parts: int) -> list[int]:
    """How many of `rows` each of the parts gets: as even as can be, the first ones more; may hold zeros."""
    share, rest = divmod(rows, parts)
    return [share + (part < rest) for part in range(parts)]


@dataclass(frozen=True)
class Share:
    """Which rows of a batch a process computes: it is split by rows over processes, and each part over contexts."""

    contexts: int = 1
    rank: int = 0
    processes: int = 1
    fixed: bool = False
    """Whether all processes have as many parts, and a batch's parts are the same however many processes there are."""

    def of(self, rows: int) -> tuple[int, list[int]]:
        """The first row of this process's part of a batch of `rows`, and how many rows each context has."""
        if self.fixed:
            parts, first = split_rows(rows, self.processes * self.contexts), self.rank * self.contexts
            return sum(parts[:first]), parts[first : first + self.contexts]
        parts = split_rows(rows, self.processes)
        return sum(parts[: self.rank]), split_rows(parts[self.rank], self.contexts)
