"""The tables of which only the rows of a batch are trained, and batches with places in place of row numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from trainer.data.batches import Shard
from trainer.data.distinct import Distinct
from trainer.host_memory import memory_of, wait_for_all
from trainer.step.touched import TouchedRows

if TYPE_CHECKING:
    from trainer.data.gather import Rows
    from trainer.mxnet import Array


KEPT_SHAPES = 16
"""Arrays of places that are kept, for batches of different shapes and for each device."""


class Tables:
    """All such tables of a net. A net without any has an empty one, which is false."""

    def __init__(self, tables: Mapping[str, TouchedRows]) -> None:
        """`tables` by the names of their parameters."""
        self.named = tables
        self.all = tuple(tables.values())
        self._rooms = sum(table.rooms for table in self.all)
        self._inputs = sorted({each.input for table in self.all for each in table.lookups})
        self._local: dict[tuple[int, tuple[tuple[int, ...], ...]], dict[int, tuple[Array, NDArray[Any]]]] = {}

    def __bool__(self) -> bool:
        return bool(self.all)

    are_found_ahead = False
    """Whether a thread is to find the distinct row numbers (`distinct`) before the step needs them."""

    def have_new_arrays(self) -> bool:
        """Whether small arrays were made since the last call."""
        before, self._rooms = self._rooms, sum(table.rooms for table in self.all)
        return self._rooms != before

    @property
    def sizes(self) -> tuple[int, ...]:
        """The rows of the small arrays that the net is bound to."""
        return tuple(table.size for table in self.all)

    def distinct(self, shards: Sequence[Shard | Rows]) -> list[Distinct]:
        """The distinct row numbers in a batch, for each table. May run in a thread of its own."""
        return [table.distinct(table.parts(shards)) for table in self.all]

    def expect(self, shards: Sequence[Shard], known: Sequence[Distinct] | None = None) -> None:
        """Prepares for a batch that numpy computes, which takes the row numbers as they are."""
        wait_for_all()
        for number, table in enumerate(self.all):
            table.expect(shards, None if known is None else known[number])

    def compute(self) -> None:
        """Computes the gradients that numpy has left."""
        for table in self.all:
            table.compute()

    def look_up(self, shards: Sequence[Shard], known: Sequence[Distinct] | None = None) -> list[Shard]:
        """Gathers the rows that a batch uses; returns its shards with places among them in place of row numbers.

        `known` is what `distinct` has returned for these shards. Waits until nothing is queued.
        """
        wait_for_all()
        found = [
            table.find(table.parts(shards), None if known is None else known[number])
            for number, table in enumerate(self.all)
        ]
        places = [iter(each.places) for each in found]
        return [self._localized(number, shard, places) if shard.rows else shard for number, shard in enumerate(shards)]

    def _localized(self, number: int, shard: Shard, places: Sequence[Any]) -> Shard:
        local = self._local.get((number, shard.shapes))
        if local is None:
            if len(self._local) >= KEPT_SHAPES:
                self._local.clear()
            local = self._local[number, shard.shapes] = {place: _like(shard.inputs[place]) for place in self._inputs}
            for place, (_, memory) in local.items():
                memory[...] = shard.memory[place]
        for table, each in zip(self.all, places, strict=True):
            for lookup in table.lookups:
                memory = local[lookup.input][1]
                target = memory if lookup.end is None else memory[:, lookup.begin : lookup.end]
                target[...] = next(each)
        inputs = [local[place][0] if place in local else given for place, given in enumerate(shard.inputs)]
        memories = [local[place][1] if place in local else given for place, given in enumerate(shard.memory)]
        return shard.having(tuple(inputs), shard.label, shard.weight, memory=tuple(memories))


def _like(array: Array) -> tuple[Array, NDArray[Any]]:
    from trainer.mxnet import mx

    made = mx.nd.zeros(array.shape, ctx=array.context, dtype=array.dtype)
    return made, memory_of(made)
