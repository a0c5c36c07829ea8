"""Notices what plugins and handlers change on Gluon's parameters while a run trains.

A `gluon.Trainer` reads each parameter's `grad_req`, `lr_mult` and `wd_mult` at every update, and works on the arrays
that the parameter has at that moment. Here the arrays are bound once, so a change has to be noticed. Looking costs
about 1.5 µs per step on a net of eight parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import is_, itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.errors import ChangeError

if TYPE_CHECKING:
    from trainer.mxnet import Array

_settings = itemgetter("_grad_req", "lr_mult", "wd_mult")
_arrays = itemgetter("_data")


class Watch:
    """Whether any parameter has other arrays, another `grad_req` or other multipliers than when it was last seen."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._attributes = [vars(parameter) for parameter in parameters.values()]
        self.remember()

    def remember(self) -> None:
        """Takes the present as seen."""
        self._seen = list(map(_settings, self._attributes))
        self._held = list(map(_arrays, self._attributes))

    def sees_a_change(self) -> bool:
        """Compares arrays by identity, since `==` would compute. New gradients come with another `grad_req`."""
        return list(map(_settings, self._attributes)) != self._seen or not all(
            map(is_, map(_arrays, self._attributes), self._held)
        )


@dataclass(slots=True)
class Held:
    """The arrays of one parameter that step and optimizer work on, and its settings when the step was built."""

    parameter: Any
    weights: list[Array]
    """One per context; empty if it has no shape, because nothing uses it."""
    gradients: list[Array] | None
    """One per context; None if it was never trained."""
    contexts: tuple[Any, Any]
    settings: tuple[str, float, float]

    @classmethod
    def of(cls, parameter: Any) -> Held:
        """What a parameter has now."""
        inner = vars(parameter)
        contexts = inner["_ctx_list"], inner["_ctx_map"]
        return cls(parameter, inner["_data"] or [], inner["_grad"], contexts, settings_of(parameter))

    def restore(self, name: str) -> None:
        """Gives the parameter its arrays back, with the values of those that replaced them.

        `Parameter.initialize` and `grad_req` make new arrays. A parameter that is trained for the first time keeps its
        new gradients. Raises ChangeError if the new arrays have another shape or type.
        """
        from trainer.mxnet import autograd

        parameter, inner = self.parameter, vars(self.parameter)
        data, gradients = inner["_data"], inner["_grad"]
        if not self.weights:
            return
        if data is not self.weights:
            self._copy(name, data)
        if self.gradients is None:
            self.gradients = gradients
        trains = parameter.grad_req != "null"
        # Gluon has no public way to set a parameter's arrays.
        inner["_data"], inner["_grad"] = self.weights, self.gradients if trains else None
        inner["_ctx_list"], inner["_ctx_map"] = self.contexts
        if self.gradients is not None:
            # Also if it is not trained: oneDNN computes a wrong gradient of a bias if that of the weight is left out.
            autograd.mark_variables(self.weights, self.gradients, parameter.grad_req if trains else "write")

    def _copy(self, name: str, data: list[Array] | None) -> None:
        kept = self.weights[0]
        if not data or data[0].shape != kept.shape or data[0].dtype != kept.dtype:
            now = f"{data[0].shape} {np.dtype(data[0].dtype).name}" if data else "without a value"
            raise ChangeError(
                f"the parameter {name} was {kept.shape} {np.dtype(kept.dtype).name} when the step was built, and is "
                f"{now}",
                where="the net",
                fix="Change shapes and types before training, in the task's net().",
            )
        for weight in self.weights:
            data[0].copyto(weight)  # does nothing if both are the same memory


def settings_of(parameter: Any) -> tuple[str, float, float]:
    """What `gluon.Trainer` reads of a parameter at every update."""
    return str(parameter.grad_req), float(parameter.lr_mult), float(parameter.wd_mult)


def part_of(state: Any, start: int, end: int) -> Any:
    """The elements from `start` to `end` of every array of an optimizer's state, as views."""
    if isinstance(state, (list, tuple)):
        return type(state)(part_of(part, start, end) for part in state)
    return None if state is None else state[start:end]
