"""The weights, their gradients, the reduction over contexts and the optimizer's update.

Parameters of the same type and multipliers share one flat buffer per context: one reduction, one norm and one optimizer
call for all of them (15 µs for the eight parameters of a small net; one call each took 115 µs). Optimizers that treat a
parameter as a whole, such as LAMB with its norms, and nets with convolutions keep one array per parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.device_time import waiting
from trainer.errors import UsageError
from trainer.host_memory import wait_for_all
from trainer.step.after_update import AfterUpdate, UpdatedWeight, updated_weights
from trainer.step.changes import Held, Watch, part_of, settings_of
from trainer.step.flat import alone, groups_of
from trainer.step.groups import (
    ELEMENTWISE,
    Gradients,
    Group,
    Guarding,
    average,
    parameters_of,
    put,
    settle,
    swap,
    take_back,
)
from trainer.step.refusals import Layers, Numbers, check_settings
from trainer.step.tables import Tables
from trainer.step.touched import TouchedRows
from trainer.step.update import make_update

if TYPE_CHECKING:
    from trainer.data.batches import Shard
    from trainer.data.distinct import Distinct
    from trainer.mxnet import Array, Context
    from trainer.step.lookups import Lookups

MEMBERS = 1_000_000
"""The optimizer's numbers of parameters that are updated on their own start here; those of groups start at 0."""


class Parameters:
    """The parameters of a net (and of a loss, if it has any), laid out for few calls.

    The optimizer runs on the first context; the others receive the new weights. So all contexts hold identical weights,
    and a checkpoint needs one set of optimizer states.
    """

    def __init__(
        self,
        net: Any,
        loss: Any,
        *,
        optimizer: Any,
        contexts: Sequence[Context],
        flat: bool,
        lookups: Lookups | None = None,
    ) -> None:
        """`lookups` names the tables of which only the rows that a batch uses are trained."""
        self._contexts = list(contexts)
        self.optimizer = optimizer
        self.named = parameters_of(net, loss)
        for name, parameter in self.named.items():
            check_settings(name, parameter)
        self.all = list(self.named.values())
        self.trained = [parameter for parameter in self.all if parameter.grad_req != "null"]
        self.measured = [parameter for parameter in self.all if not parameter._differentiable]  # noqa: SLF001
        """Parameters that a forward pass in training writes, such as BatchNorm's running mean and variance."""
        self._tables = {
            name: TouchedRows(name, parameter.list_data(), contexts, lookups[parameter.name])
            for name, parameter in self.named.items()
            if lookups is not None and parameter.name in lookups
        }
        self.tables = Tables({self.named[name].name: table for name, table in self._tables.items()})
        self.flat = flat and type(optimizer).__name__.lower() in ELEMENTWISE
        self.groups = list(groups_of(self.named, self._contexts, self._tables, flat=self.flat))
        optimizer.param_dict = {index: group.first for index, group in enumerate(self.groups)}
        self.states = [self._state(index, group) for index, group in enumerate(self.groups)]
        self._updates = [[self._update_of(index)] for index in range(len(self.groups))]
        self.gradients = Gradients([group.gradients[0] for group in self.groups], tables=tuple(self._tables))
        self.guards: list[Guarding] = []
        self.after_update = AfterUpdate(self._updated)
        self.layout = 0
        """Increases when there are more groups or new arrays: executors are stale."""
        self._built = len(self.groups)
        self._held = {name: Held.of(parameter) for name, parameter in self.named.items()}
        self._split: set[int] = set()
        """Groups whose members are updated one by one, since they no longer have the same settings."""
        self._frozen: list[Array] = []
        """Gradients of parameters whose training was switched off after the step was built."""
        self._watch = Watch(self.named)
        self._layers = Layers(net, loss)
        self._numbers = Numbers(optimizer)

    def _state(self, index: int, group: Group) -> Any:
        try:
            return self.optimizer.create_state_multi_precision(index, group.weights[0])
        except AssertionError as error:
            # This is how MXNet's optimizers reject parameters.
            what = f"the parameter {group.names[0]} of shape {group.weights[0].shape}"
            raise UsageError(
                f"{type(self.optimizer).__name__.lower()} does not accept {what}: {error}".rstrip(": "),
                where="--optimizer",
                fix="Choose another optimizer.",
            ) from error

    def _update_of(self, index: int) -> Callable[[bool], None]:
        group, state = self.groups[index], self.states[index]
        if group.table is not None:
            return group.table.updates(self.optimizer, index, state)
        return make_update(self.optimizer, index, group.weights[0], group.gradients[0], state, in_place=self.flat)

    # ---- changes while a run trains ----------------------------------------------------------------------------------

    def follow(self) -> None:
        """Obeys what was changed on the optimizer, and on Gluon's parameters: settings and new arrays.

        Raises ChangeError for what cannot be obeyed.
        """
        self._layers.check_counts()
        self._numbers.check()
        if self._watch.sees_a_change():
            self._obey()

    def look(self) -> None:
        """As `follow`, and also notices layers and parameters that were replaced."""
        self._layers.check()
        self.follow()

    def _obey(self) -> None:
        for name, parameter in self.named.items():
            check_settings(name, parameter)
        for name, held in self._held.items():
            held.restore(name)
            if held.gradients is not None and not any(name in group.names for group in self.groups):
                self._train_too(name, held)
        self.trained = [parameter for parameter in self.all if parameter.grad_req != "null"]
        self._frozen = [
            gradient
            for name, held in self._held.items()
            if held.parameter.grad_req == "null"
            for gradient in (self._tables[name].gradients if name in self._tables else held.gradients or ())
        ]
        for index, group in enumerate(self.groups):
            settings = {settings_of(self.named[name]) for name in group.names}
            if len({(req == "null", *multipliers) for req, *multipliers in settings}) > 1:
                self._split_up(index)
            self._updates[index] = self._planned(index)
        self.after_update.forget()
        self._watch.remember()

    def _train_too(self, name: str, held: Held) -> None:
        """Adds a group for a parameter that was not trained so far."""
        assert held.gradients is not None  # noqa: S101  it has just got them
        group, index = alone(name, held.parameter, self._tables), len(self.groups)
        self.groups.append(group)
        self.optimizer.param_dict[index] = group.first
        self.states.append(self._state(index, group))
        self._updates.append([])
        self.gradients.arrays.append(group.gradients[0])
        self.layout += 1

    def _split_up(self, index: int) -> None:
        """Lets the members of a group count their updates themselves from now on."""
        if index in self._split:
            return
        self._split.add(index)
        counts = self.optimizer._index_update_count  # noqa: SLF001  MXNet has no public way to its counters
        for name in self.groups[index].names if index in counts else ():
            counts[self._number(name)] = counts[index]

    def _number(self, name: str) -> int:
        return MEMBERS + list(self.named).index(name)

    def _planned(self, index: int) -> list[Callable[[bool], None]]:
        """The updates of a group: one for all, one for each trained member, or none."""
        group = self.groups[index]
        if index not in self._split:
            return [] if group.first.grad_req == "null" else [self._update_of(index)]
        updates, start = [], 0
        for name in group.names:
            parameter, number = self.named[name], self._number(name)
            end = start + int(np.prod(parameter.shape))
            if parameter.grad_req != "null":
                self.optimizer.param_dict[number] = parameter
                weight, gradient = group.weights[0][start:end], group.gradients[0][start:end]
                state = part_of(self.states[index], start, end)
                updates.append(make_update(self.optimizer, number, weight, gradient, state))
            start = end
        return updates

    def _updated(self) -> Iterator[UpdatedWeight]:
        split = {name: self._number(name) for index in self._split for name in self.groups[index].names}
        return updated_weights(self.groups, self.states, self.named, self.optimizer, split)

    def clear_frozen(self) -> None:
        """Zeroes the gradients of parameters that are no longer trained, before they are summed."""
        for gradient in self._frozen:
            gradient[:] = 0

    def gradient_of(self, parameter: Any, number: int) -> Array | None:
        """The gradient of a parameter on context `number`, also while it is not trained; None if it never was."""
        gradients = next(held.gradients for held in self._held.values() if held.parameter is parameter)
        return None if gradients is None else gradients[number]

    def look_up(self, shards: Sequence[Shard], known: Sequence[Distinct] | None = None) -> Sequence[Shard]:
        """The shards with places in place of the row numbers of tables, whose rows are gathered (`Tables.look_up`)."""
        if self.tables:
            shards = self.tables.look_up(shards, known)
            self.follow_tables()
        return shards

    def expect(self, shards: Sequence[Shard], known: Sequence[Distinct] | None = None) -> Sequence[Shard]:
        """The same shards, which numpy computes next. Gradients of tables are computed when they are read."""
        if self.tables:
            self.tables.expect(shards, known)
            self.gradients.pend(self._compute_tables)
        return shards

    def _compute_tables(self) -> None:
        self.tables.compute()
        self.follow_tables()

    def follow_tables(self) -> None:
        """Takes new arrays of tables."""
        if self.tables.have_new_arrays():
            self.layout += 1
            self.gradients.arrays = [group.gradients[0] for group in self.groups]

    def changes(self) -> dict[str, Any]:
        """What was changed since the step was built, as JSON values; empty if nothing was."""
        settings = {
            name: list(settings_of(held.parameter))
            for name, held in self._held.items()
            if settings_of(held.parameter) != held.settings
        }
        late = [name for group in self.groups[self._built :] for name in group.names]
        split = sorted(self._split)
        return {"settings": settings, "late": late, "split": split} if settings or late or split else {}

    def repeat(self, changes: Mapping[str, Any]) -> None:
        """Makes the changes that `changes` returned, in a step that was just built."""
        for name in changes.get("late", ()):
            self.named[name].grad_req = "write"
            self.follow()
        for index in changes.get("split", ()):
            self._split_up(index)
        for name, (grad_req, lr_mult, wd_mult) in changes.get("settings", {}).items():
            parameter = self.named[name]
            parameter.grad_req, parameter.lr_mult, parameter.wd_mult = grad_req, lr_mult, wd_mult
        self._obey()

    def remember_numbers(self) -> None:
        """Takes the optimizer's numbers as they are, after they were restored from a checkpoint."""
        self._numbers.remember()

    def take_gradients(self) -> None:
        """Obeys what was replaced in `gradients`. Raises ChangeError for what does not fit."""
        take_back(self.gradients, [group.gradients[0] for group in self.groups])

    def named_gradients(self) -> Iterator[tuple[str, Array]]:
        """Each trained parameter by name, with its gradient on the first context."""
        for name, parameter in self.named.items():
            if parameter.grad_req != "null":
                table = self._tables.get(name)
                yield name, parameter.grad(self._contexts[0]) if table is None else table.sparse_gradient()

    def copy(self) -> dict[str, NDArray[Any]]:
        """Every parameter by name, on the host. Waits for the device."""
        self.follow()
        with waiting:
            return {name: parameter.data(self._contexts[0]).asnumpy() for name, parameter in self.named.items()}

    def assign(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Sets every parameter, on every context, to the values that `copy` returned."""
        self.follow()
        for name, parameter in self.named.items():
            put(values[name], parameter.list_data())

    @property
    def measures(self) -> bool:
        """Whether a forward pass in training computes statistics over its rows, as BatchNorm does."""
        from trainer.mxnet import gluon

        return any(not isinstance(parameter, gluon.Constant) for parameter in self.measured)

    @property
    def moving(self) -> list[list[Array]]:
        """What training changes: the groups' weights and the running statistics, each a list over contexts.

        Groups that a run adds come last.
        """
        self.follow()
        groups = [group.weights for group in self.groups]
        measured = [parameter.list_data() for parameter in self.measured]
        return [*groups[: self._built], *measured, *groups[self._built :]]

    def swap(self, values: Sequence[Array]) -> None:
        """Swaps `moving` with `values`, one array each on the first context. A second call undoes it.

        Groups that the run has added since the values were taken keep theirs.
        """
        moving = self.moving
        if 0 < len(moving) - len(values) <= len(self.groups) - self._built:
            moving = moving[: len(values)]
        swap(moving, values)

    def reduce(self, rows: Sequence[int]) -> None:
        """Sums the gradients into the first context, and averages the contexts' running statistics.

        `rows` is the number of rows of each context; one without rows holds an old gradient and is skipped.
        """
        self.clear_frozen()
        settle(self.measured)
        if len(self._contexts) == 1:
            return
        self.gradients.compute()
        for group in self.groups:
            group.reduce(rows)
        for parameter in self.measured:
            average(parameter.list_data(), rows)

    def update(self) -> None:
        """One optimizer step on the first context, from the reduced gradients; copies the weights to the others."""
        self._numbers.scale = self.optimizer.rescale_grad = self.gradients.factor / self.gradients.rows
        for guard in self.guards:
            guard.before_update()
        on_host = self.gradients.on_host
        if on_host or self.tables:
            wait_for_all()
            if any(guard.has_found for guard in self.guards):
                return
        for update in chain.from_iterable(self._updates):
            update(on_host)
        self.after_update()
        for guard in self.guards:
            guard.after_update()
        for group, updates in zip(self.groups, self._updates, strict=True):
            # A table has written the rows of all contexts.
            for weight in group.weights[1:] if updates and group.table is None else ():
                group.weights[0].copyto(weight)
