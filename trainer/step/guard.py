"""Keeps steps with numbers that are not finite from changing the weights, without waiting for the device.

A symbol checks what a step has read and computed, and writes into one small array of float32:

    [sound, steps, the sum of squares of each checked array]

`sound` is 1 until the first step with a sum that is not finite, and `steps` counts the sound steps since the last look.
The sums are those of the newest step, or of the first unsound one. While `sound` is 0, updates leave weights and
optimizer states unchanged. The host reads the array once in many steps. Sums of squares take one operator for all
arrays; they also find a loss that overflows in float32, which a step with a closed form does not compute.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.calls import Call, Executor
from trainer.device_time import waiting
from trainer.host_memory import is_host, memory_of, wait_for_all
from trainer.step.compiled import KEPT_SHAPES, CompiledStep
from trainer.step.groups import ELEMENTWISE
from trainer.step.host import HostBound
from trainer.step.losses import on_host
from trainer.step.numpy_net import silent
from trainer.step.touched import flat_state

if TYPE_CHECKING:
    from trainer.mxnet import Array
    from trainer.step.compiled import Bound
    from trainer.step.groups import Group

CHECKED = ("float16", "float32", "float64")
"""The types that may hold NaN and infinity, and that MXNet can check."""
FIRST = 2
"""The place of the first sum."""


class Masked:
    """Arrays on one context that get their earlier values back unless `sound` is 1."""

    def __init__(self, arrays: Sequence[Array], sound: Array) -> None:
        from trainer.mxnet import mx

        self._hold: Executor | None = None
        self._mask: list[Call] = []
        if arrays:
            named = {f"array{number}": array for number, array in enumerate(arrays)}
            copies = mx.sym.Group([mx.sym.identity(mx.sym.var(name)) for name in named])
            # Starts once for all arrays.
            self._hold = Executor(copies.bind(arrays[0].context, args=named, grad_req="null"))
            held = zip(arrays, self._hold.outputs, strict=True)
            self._mask = [Call("_npi_where", [sound, array, copy], array) for array, copy in held]

    def hold(self) -> None:
        """Keeps the values."""
        if self._hold is not None:
            self._hold.forward()

    def mask(self) -> None:
        """Restores them if a step was not sound."""
        for call in self._mask:
            call()


@dataclass(slots=True)
class _Mark:
    """The state before the update of one step that was checked."""

    note: Any
    updates: int
    counts: dict[int, int]
    newest: int


class Guard:
    """Checks steps, and masks the updates from the first one on that has a number that is not finite.

    `check` belongs after the backward pass, `look` wherever waiting for the device is affordable.
    """

    def __init__(self, step: CompiledStep, counted: dict[str, Any], *, loss_only: bool = False) -> None:
        self._step = step
        self._parameters = step.parameters
        self._counted = counted
        self._loss_only = loss_only
        self._marks: list[_Mark] = []
        self._found: dict[str, Any] | None = None
        self._begin()
        step.parameters.guards.append(self)

    def _begin(self) -> None:
        """Lays out the array for the groups that the net has now."""
        from trainer.mxnet import mx

        parameters = self._parameters
        self._layout = parameters.layout
        self._context = parameters.groups[0].weights[0].context
        self._gradients = (
            [] if self._loss_only else [part for group in parameters.groups for part in self._parts_of(group)]
        )
        self._flat: list[NDArray[Any]] = []
        if is_host(self._context) and not self._loss_only:
            self._flat = [memory_of(group.gradients[0]).reshape(-1) for group in parameters.groups]
        arrays = 1 if self._loss_only else self._step.inputs + 3 + len(self._gradients)
        self._state = mx.nd.zeros(FIRST + arrays, ctx=self._context)
        self._sound = self._state[0:1]
        self._sound[:] = self._found is None
        self._restart = Call("_set_value", [], self._state[1:2], src=0.0)
        self._names: list[tuple[int, str, str]] = []
        """For each sum: the array's place in the order in which numbers flow, kind and name."""
        self._checks: dict[Bound, tuple[Executor, Call]] = {}
        # With tables the step waits anyway, so an update can be left out.
        states = [each for state in parameters.states for each in flat_state(state)] if not parameters.tables else []
        weights = [group.weights[0] for group in parameters.groups] if not parameters.tables else []
        self._weights = Masked([*weights, *states], self._sound)
        self._measured = Masked([each.list_data()[0] for each in parameters.measured], self._sound)

    # ---- called by the step --------------------------------------------------------------------------------------

    def before_step(self) -> None:
        """Before the forward pass, which may write running statistics."""
        self._measured.hold()

    def before_update(self) -> None:
        """Before the optimizer runs."""
        if not self._step.gradients.on_host:
            self._weights.hold()

    def after_update(self) -> None:
        """After the optimizer has run on the first context."""
        if not self._step.gradients.on_host:
            self._weights.mask()

    # ---- called by plugins ---------------------------------------------------------------------------------------

    @property
    def has_found(self) -> bool:
        """Whether a step is not sound and is not to be updated, if that is known without waiting, or waiting is due."""
        if self._step.gradients.on_host:
            return self._found is not None
        return bool(self._parameters.tables) and self.look() is not None

    def check(self, note: Any) -> None:
        """Checks the newest step, on the device. `note`, a JSON value, is what `look` returns with an unsound step."""
        parameters, newest = self._parameters, self._step.newest[0]
        self._step.gradients.compute()
        if self._layout != parameters.layout:
            self.look()
            self._begin()
        parameters.take_gradients()
        if isinstance(newest, HostBound):
            bad = None if self._found else self._bad_on_host(newest)
            if bad:
                self._found = self._told(*bad, self._mark(note))
            return
        self._marks.append(self._mark(note))
        executor, keep = self._check_of(newest)
        executor.forward()
        keep()
        self._measured.mask()

    def look(self) -> Mapping[str, Any] | None:
        """What was found in the first unsound step, as a JSON value; None if all were sound. Waits for the device.

        `kind`, `name` and the `note` of the step, and the numbers of updates before it for `take_back`.
        """
        if self._found is None and self._marks:
            with waiting:
                values = self._state.asnumpy()
            if values[0]:
                self._restart()
            else:
                is_bad = ~np.isfinite(values[FIRST:])
                _, kind, name = min(each for each, bad in zip(self._names, is_bad, strict=False) if bad)
                self._found = self._told(kind, name, self._marks[int(values[1])])
        self._marks.clear()
        return self._found

    def _mark(self, note: Any) -> _Mark:
        optimizer = self._parameters.optimizer
        counts = dict(optimizer._index_update_count)  # noqa: SLF001  MXNet has no public way to its counters
        return _Mark(note, self._counted["updates"], counts, optimizer.num_update)

    def _bad_on_host(self, bound: HostBound) -> tuple[str, str] | None:
        """Kind and name of the first array of a step that numpy computed with a number that is not finite."""
        wait_for_all()
        arrays = [bound.kept[0]] if self._loss_only else [*bound.inputs, bound.kept[0], *self._flat]
        with silent:
            total = sum(float(np.dot(flat, flat)) for flat in (array.reshape(-1) for array in arrays))
        if math.isfinite(total):
            return None
        # A sum of squares may also overflow.
        bad = (each[:2] for each in self._arrays(bound) if not np.isfinite(on_host(each[2])).all())
        return next(bad, None)

    def _told(self, kind: str, name: str, mark: _Mark) -> dict[str, Any]:
        """What `look` returns for an unsound step."""
        return {
            "kind": kind,
            "name": name,
            "note": mark.note,
            "updates": mark.updates,
            "counts": {str(index): count for index, count in mark.counts.items()},
            "newest": mark.newest,
        }

    def take_back(self, found: Mapping[str, Any]) -> None:
        """Sets the numbers of updates to those before the unsound step, whose update and later ones had no effect."""
        self._counted["updates"] = found["updates"]
        optimizer = self._parameters.optimizer
        counts = optimizer._index_update_count  # noqa: SLF001
        counts.clear()
        counts.update({int(index): count for index, count in found["counts"].items()})
        optimizer.num_update = found["newest"]

    def resume(self, found: Mapping[str, Any] | None) -> None:
        """Continues with what `look` found before a checkpoint was written."""
        if found is not None:
            self._found = dict(found)
            self._sound[:] = 0

    # ---- the symbol ----------------------------------------------------------------------------------------------

    def _check_of(self, bound: Bound) -> tuple[Executor, Call]:
        check = self._checks.get(bound)
        if check is None:
            if len(self._checks) >= KEPT_SHAPES:
                self._checks.clear()
            check = self._checks[bound] = self._bind(bound)
        return check

    def _bind(self, bound: Bound) -> tuple[Executor, Call]:
        from trainer.mxnet import mx

        arrays = [each for each in self._arrays(bound) if _type(each[2]) in CHECKED]
        given: dict[str, Array] = {}
        sums: list[Any] = []
        self._names = []
        for kind in CHECKED:
            same = {f"{kind}:{place}": array for place, (_, _, array) in enumerate(arrays) if _type(array) == kind}
            given |= same
            self._names += [(place, *each[:2]) for place, each in enumerate(arrays) if _type(each[2]) == kind]
            variables = [mx.sym.var(name) for name in same]
            if kind == "float64":
                # The sum would be float32, and overflow for numbers that float64 has.
                sums += [1 / mx.sym.all_finite(each) for each in variables]
            elif same:
                sums.append(mx.sym.multi_sum_sq(*variables, num_arrays=len(same)))
        missing = self._state.size - FIRST - len(arrays)
        sums += [mx.sym.ones((missing,))] if missing else []
        newest = mx.sym.concat(*sums, dim=0) if len(sums) > 1 else sums[0]
        before, steps, known = (mx.sym.var(name) for name in ("before", "steps", "known"))
        sound = before * mx.sym.all_finite(newest)
        told = mx.sym.where(mx.sym.broadcast_like(before, known), newest, known)
        after = mx.sym.concat(sound, steps + sound, told, dim=0)
        given |= {"before": self._sound, "steps": self._state[1:FIRST], "known": self._state[FIRST:]}
        executor = Executor(after.bind(self._context, args=given, grad_req="null"))
        return executor, Call("_copyto", [executor.outputs[0]], self._state)

    def _arrays(self, bound: Bound | HostBound) -> Iterator[tuple[str, str, Any]]:
        """Kind, name and array of what a step reads and computes."""
        if not self._loss_only:
            inputs = self._step.inputs
            for number, array in enumerate(bound.inputs[:inputs]):
                yield "input", str(number) if inputs > 1 else "", array
            for kind, array in zip(("label", "sample weight"), bound.inputs[inputs:], strict=False):
                yield kind, "", array
        # A loss with a closed form follows from the outputs.
        yield "loss", "", bound.outputs[0 if bound.lean is None or bound.on_host else 1]
        for name, gradient in self._gradients:
            yield "gradient", name, gradient

    def _parts_of(self, group: Group) -> Iterator[tuple[str, Array]]:
        """Name and gradient of each parameter of a group."""
        gradient, start = group.gradients[0], 0
        if len(group.names) == 1:
            yield group.names[0], gradient
            return
        for name in group.names:
            end = start + int(np.prod(self._parameters.named[name].shape))
            yield name, gradient[start:end]
            start = end


def guard_of(step: object, counted: dict[str, Any], *, loss_only: bool) -> Guard | None:
    """A guard for a step; None if it computes with autograd, on several devices, in parts or with other processes.

    Also None for an optimizer that keeps more than its arrays and counts, as Nadam does.
    """
    if not isinstance(step, CompiledStep) or step.devices > 1:
        return None
    parameters, optimizer = step.parameters, step.parameters.optimizer
    plain = type(optimizer).__module__.startswith("mxnet.") and type(optimizer).__name__.lower() in ELEMENTWISE
    if not plain or optimizer.lr_scheduler is not None or not parameters.groups:
        return None
    arrays = [array for group in parameters.groups for array in (group.weights[0], group.gradients[0])]
    if any(array.stype != "default" or _type(array) not in CHECKED for array in arrays):
        return None
    return Guard(step, counted, loss_only=loss_only)


def _type(array: Array) -> str:
    return np.dtype(array.dtype).name
