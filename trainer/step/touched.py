"""Tables of weights of which a batch uses few rows: only these are gathered, trained and written back.

The net is bound to a small array with the rows that a batch uses, and to their places in it instead of row numbers. The
optimizer updates the small array and the same rows of its states. So a step costs as much as the rows that it uses,
however large the table is. Rows that a batch does not use have a gradient of 0: they stay as they are, without weight
decay, momentum or a running mean of gradients. This is what MXNet calls a lazy update.

Everything here is on the CPU, in the memory of MXNet's arrays (`trainer.host_memory`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.distinct import Distinct, Finder
from trainer.errors import UsageError
from trainer.host_memory import memory_of, wait_for_all
from trainer.step.host_update import rates_of, update_on_host
from trainer.step.lookups import Lookup
from trainer.step.numpy_tables import Joined, Pend
from trainer.step.update import STATELESS, host_operator

if TYPE_CHECKING:
    from trainer.data.batches import Shard
    from trainer.data.gather import Rows
    from trainer.mxnet import Array, Context

Floats = NDArray[np.float32]
FEWEST = 64


def room_for(rows: int) -> int:
    """The size of the small array for `rows`: 2ⁿ or 1.5 · 2ⁿ, so that few sizes occur, each with its own executor."""
    size = FEWEST
    while size < rows:
        size *= 2
    return size * 3 // 4 if size > FEWEST and size * 3 // 4 >= rows else size


@dataclass(frozen=True, slots=True)
class Taken:
    """The gradient of sums of rows, (sums, units), and the rows of each sum."""

    matrix: Joined
    ids: NDArray[Any]
    gradient: Floats


class TouchedRows:
    """One table: its parameter's arrays, and small arrays with the rows of the newest batch."""

    def __init__(self, name: str, arrays: Sequence[Array], contexts: Sequence[Context], lookups: Sequence[Lookup]):
        """`arrays` are the parameter's, (rows, units), one per context."""
        self.name = name
        self.lookups = lookups
        self._arrays = list(arrays)
        self._tables: list[Floats] = [memory_of(array) for array in arrays]
        self._contexts = list(contexts)
        self._finder = Finder(len(self._tables[0]))
        self.ids: NDArray[np.intp] = np.empty(0, np.intp)
        """The rows that the newest batch uses (n,)."""
        self.size = 0
        """How many rows of the small arrays are bound; the first `len(ids)` are used."""
        self.weights: list[Array] = []
        self.gradients: list[Array] = []
        """One per context, (room, units), 0 beyond the rows that are used."""
        self.weight_memory: list[Floats] = []
        self.gradient_memory: list[Floats] = []
        self._held: list[Floats] = []
        self._states: list[tuple[Floats, Floats]] | None = None
        """The memory of each of the optimizer's states, and a small array for its rows."""
        self._taken: dict[int, Taken] = {}
        """What numpy has left of the newest batch's gradient, for each context."""
        self._known: Distinct | None = None
        self._is_left = False
        """Whether the gradient is still to be computed from that."""
        self._computed: Floats | None = None
        """A copy of the gradient that was computed from what is taken."""
        self.rooms = 0
        """How often the small arrays were made."""
        self._make_room(FEWEST)

    def _make_room(self, rows: int) -> None:
        from trainer.mxnet import mx

        units = self._tables[0].shape[1:]
        for held, memories in ((self.weights, self.weight_memory), (self.gradients, self.gradient_memory)):
            held[:] = [mx.nd.zeros((rows, *units), ctx=context) for context in self._contexts]
            memories[:] = [memory_of(array) for array in held]
        self._held = [np.empty((rows, *units), np.float32) for _ in range(2)]
        self._states = None
        self.size = 0
        self.rooms += 1

    @property
    def room(self) -> int:
        """The rows of the small arrays."""
        return len(self.gradient_memory[0])

    def parts(self, shards: Sequence[Shard | Rows]) -> list[NDArray[Any]]:
        """The row numbers in a batch: those of each lookup in each shard with rows."""
        return [columns_of(shard, each) for shard in shards if shard.rows for each in self.lookups]

    def distinct(self, parts: Sequence[NDArray[Any]]) -> Distinct:
        """The distinct row numbers. Raises UsageError for a row that the table does not have."""
        try:
            return self._finder.distinct(parts)
        except IndexError as error:
            raise self._absent(int(error.args[0])) from None

    def _absent(self, row: int) -> UsageError:
        rows = len(self._tables[0])
        return UsageError(
            f"row {row} is looked up in {self.name}, which has {rows} rows",
            where="the net's input",
            fix=f"Use row numbers from 0 to {rows - 1}.",
        )

    # ---- a batch that MXNet computes ---------------------------------------------------------------------------------

    def find(self, parts: Sequence[NDArray[Any]], known: Distinct | None = None) -> Distinct:
        """Gathers the rows that a batch uses, for every context; `known` are the distinct ones if already found.

        Nothing that is queued may use the table. Raises UsageError for a row that the table does not have.
        """
        found = known if known is not None and known.is_of(parts) else self.distinct(parts)
        self._taken.clear()
        self._use(found.ids, sum(part.size for part in parts))
        for memory in self.weight_memory[1:]:
            memory[: len(self.ids)] = self.weight_memory[0][: len(self.ids)]
        return found

    def _use(self, ids: NDArray[np.intp], most: int) -> None:
        """Gathers rows of the table, whose gradients are written next; `most` rows may be needed in such a batch."""
        rows = len(self._tables[0])
        if most > self.room and self.room < room_for(rows):
            self._make_room(min(room_for(most), room_for(rows)))
        before, self.size = self.size, min(room_for(len(ids)), self.room)
        for memory in self.gradient_memory:
            memory[self.size : before] = 0
        self.ids = ids
        self._is_left, self._computed = False, None
        np.take(self._tables[0], ids, axis=0, out=self.weight_memory[0][: len(ids)], mode="clip")

    # ---- a batch that numpy computes ---------------------------------------------------------------------------------

    def expect(self, shards: Sequence[Shard], known: Distinct | None) -> None:
        """Prepares for a batch that numpy computes. Raises UsageError for a row that the table does not have."""
        rows = len(self._tables[0])
        for part in self.parts(shards):
            lowest, highest = int(part.min()), int(part.max())
            if lowest < 0 or highest >= rows:
                raise self._absent(lowest if lowest < 0 else highest)
        self._taken.clear()
        self._known, self._is_left, self._computed = known, True, None

    def taker(self, number: int) -> Pend:
        """A function that takes the gradient of the rows that context `number` has looked up."""

        def take(matrix: Joined, ids: NDArray[Any], gradient: Floats) -> None:
            self._taken[number] = Taken(matrix, ids, gradient)

        return take

    def compute(self) -> None:
        """Computes the gradients of the rows that the newest batch uses, if numpy has left them."""
        if not self._is_left:
            return
        parts = [taken.ids for taken in self._taken.values()]
        known = self._known
        if known is not None and not known.is_of(parts):
            known = None
        found = known or self.distinct(parts)
        self._use(found.ids, sum(part.size for part in parts))
        for (number, taken), places in zip(self._taken.items(), found.places, strict=True):
            memory = self.gradient_memory[number][: self.size]
            memory.fill(0)
            flat = places.reshape(-1).astype(taken.ids.dtype, copy=False)
            taken.matrix.add_to_rows(taken.gradient, flat, memory)
        if len(self._taken) == 1:
            self._computed = self.gradient_memory[0][: len(self.ids)].copy()

    # ---- several processes -------------------------------------------------------------------------------------------

    def used(self) -> tuple[NDArray[Any], Floats]:
        """The rows that the newest batch uses, and their gradients. Waits until nothing is queued."""
        wait_for_all()
        return self.ids, self.gradient_memory[0][: len(self.ids)]

    def join(self, ids: NDArray[Any], gradients: Floats) -> None:
        """Takes the rows and gradients of all processes, one process after the other, and sums them in this order."""
        found = self.distinct([ids])
        order, count = np.argsort(found.places[0], kind="stable"), len(found.ids)
        starts = np.searchsorted(found.places[0][order], np.arange(count))
        sums = np.add.reduceat(gradients[order].astype(np.float64), starts, axis=0)
        self._taken.clear()
        self._use(found.ids, count)
        memory = self.gradient_memory[0]
        memory[:count] = sums
        memory[count : self.size] = 0

    # ---- the update --------------------------------------------------------------------------------------------------

    def updates(self, optimizer: Any, index: int, state: Any) -> Callable[[bool], None]:
        """A function like those of `make_update`."""
        return lambda _on_host: self._update(optimizer, index, state)

    def _update(self, optimizer: Any, index: int, state: Any) -> None:
        """One optimizer step on the rows of the newest batch, from the first context's gradients."""
        known = host_operator(optimizer)
        if known is not None:
            optimizer._update_count(index)  # noqa: SLF001  MXNet's classes begin an update with it
            operator, attributes = known(optimizer, index, state is not None)
            if self._adds(operator, attributes):
                return
        self.compute()
        ids, count = self.ids, len(self.ids)
        states = self._states_of(state)
        for memory, rows in states:
            np.take(memory, ids, axis=0, out=rows[:count], mode="clip")
        arrays = [self.weight_memory[0], self.gradient_memory[0], *(rows for _, rows in states)]
        if known is None:
            self._by_mxnet(optimizer, index, state, states)
        else:
            update_on_host(
                operator, [array[:count] for array in arrays], [each[:count] for each in self._held], attributes
            )
        for table in self._tables:
            write_rows(table, ids, arrays[0])
        for memory, rows in states:
            write_rows(memory, ids, rows)

    def _adds(self, operator: str, attributes: Mapping[str, Any]) -> bool:
        """Adds what numpy has left of the gradient straight to the table, if plain SGD does just that.

        The bits do not depend on whether the gradients were read, unless they were changed.
        """
        rate, decay = rates_of(attributes)
        if operator not in STATELESS or decay or "clip_gradient" in attributes or len(self._taken) != 1:
            return False
        if self._computed is not None and not np.array_equal(self._computed, self.used()[1]):
            return False
        (taken,) = self._taken.values()
        change = taken.gradient * np.float32(-rate * attributes["rescale_grad"])
        for table in self._tables:
            taken.matrix.add_to_rows(change, taken.ids, table)
        return True

    def _states_of(self, state: Any) -> list[tuple[Floats, Floats]]:
        if self._states is None:
            self._states = [(memory_of(each), np.empty_like(self.weight_memory[0])) for each in flat_state(state)]
        return self._states

    def _by_mxnet(self, optimizer: Any, index: int, state: Any, states: Sequence[tuple[Floats, Floats]]) -> None:
        """The update of an optimizer that computes each element by itself, with its own class."""
        from trainer.mxnet import mx

        count = len(self.ids)
        small = [mx.nd.array(rows[:count]) for _, rows in states]
        given: Any = None if state is None else small[0] if not isinstance(state, (list, tuple)) else tuple(small)
        weight = self.weights[0][:count]
        optimizer.update_multi_precision(index, weight, self.gradients[0][:count], given)
        wait_for_all()
        for (_, rows), array in zip(states, small, strict=True):
            rows[:count] = array.asnumpy()

    def sparse_gradient(self) -> Array:
        """The gradient of the newest batch, as MXNet stores it: the rows in rising order."""
        from trainer.mxnet import mx

        self.compute()
        wait_for_all()
        order = np.argsort(self.ids)
        rows = self.gradient_memory[0][order]
        return mx.nd.sparse.row_sparse_array((rows, self.ids[order]), shape=self._arrays[0].shape)


def columns_of(shard: Shard | Rows, lookup: Lookup) -> NDArray[Any]:
    """The row numbers of a lookup in the rows of a shard."""
    memory = shard.memory[lookup.input]
    columns = memory if lookup.end is None else memory[:, lookup.begin : lookup.end]
    return columns if columns.dtype.kind == "i" else columns.astype(index_type(columns.dtype))


def write_rows(table: Floats, ids: NDArray[np.intp], rows: Floats) -> None:
    """Writes the first `len(ids)` of `rows` to the rows of a table.

    As elements of a row's size they are copied three times as fast as by `table[ids] = …`.
    """
    element = np.dtype((np.void, table.itemsize * (table.size // len(table))))
    flat, given = (array.reshape(len(array), -1).view(element).reshape(-1) for array in (table, rows))
    np.put(flat, ids, given[: len(ids)], mode="clip")


def index_type(dtype: Any) -> np.dtype[Any]:
    """The type of row numbers that come as `dtype`; a floating-point input may hold whole numbers, too."""
    return np.dtype(dtype) if np.dtype(dtype).kind == "i" else np.dtype(np.int32)


def flat_state(state: Any) -> list[Array]:
    """The arrays of an optimizer's state."""
    if isinstance(state, (list, tuple)):
        return [each for part in state for each in flat_state(part)]
    return [] if state is None else [state]
