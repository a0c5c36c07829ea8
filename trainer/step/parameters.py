"""The weights, their gradients, the reduction over contexts and the optimizer's update.

Parameters of the same type and multipliers share one flat buffer per context: one reduction, one norm and one optimizer
call for all of them (15 µs for the eight parameters of a small net; one call each took 115 µs). Optimizers that treat a
parameter as a whole, such as LAMB with its norms, and nets with convolutions keep one array per parameter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.device_time import waiting
from trainer.errors import UsageError
from trainer.step.update import make_update

if TYPE_CHECKING:
    from trainer.mxnet import Array, Context

ELEMENTWISE = frozenset(
    {"sgd", "nag", "adam", "adagrad", "adadelta", "adamax", "rmsprop", "ftrl", "ftml", "signum", "dcasgd", "ccsgd"}
)
"""Optimizers whose update of an element depends only on that element's history, so many parameters can be updated as
one. Not Nadam, which advances a schedule at every call. Other optimizers get one array per parameter, which is correct
for all."""


@dataclass(slots=True)
class Group:
    """Parameters that are reduced and updated as one array."""

    names: tuple[str, ...]
    """Their places in the net."""
    weights: list[Array]
    """One per context, all with the same values."""
    gradients: list[Array]
    """One per context."""
    first: Any
    """The group's first Gluon parameter; the optimizer reads the multipliers from it."""


@dataclass(slots=True)
class Gradients:
    """The gradients of a batch, summed over its rows and the contexts, on the first context.

    The update divides by `rows`, so the gradient of the mean loss is `array / rows`. To change gradients, a plugin
    writes to `arrays` or sets `factor`; the latter is free, because the optimizer multiplies by it anyway.
    """

    arrays: list[Array]
    rows: int = 0
    factor: float = 1.0

    def norm(self) -> float:
        """The global 2-norm of the gradient of the mean loss. Waits for the device."""
        from trainer.mxnet import mx

        types = sorted({np.dtype(array.dtype).name for array in self.arrays})
        by_type = [[array for array in self.arrays if np.dtype(array.dtype).name == name] for name in types]
        squares = [mx.nd.multi_sum_sq(*arrays, num_arrays=len(arrays)) for arrays in by_type]
        with waiting:
            total = sum(float(square.asnumpy().sum(dtype=np.float64)) for square in squares)
        return float(np.sqrt(total)) * abs(self.factor) / max(self.rows, 1)


class Parameters:
    """The parameters of a net (and of a loss, if it has any), laid out for few calls.

    The optimizer runs on the first context; the others receive the new weights. So all contexts hold identical weights,
    and a checkpoint needs one set of optimizer states.
    """

    def __init__(self, net: Any, loss: Any, *, optimizer: Any, contexts: Sequence[Context], flat: bool) -> None:
        self._contexts = list(contexts)
        self.optimizer = optimizer
        self.named = _named(net, loss)
        """Every Gluon parameter, including those that are not trained, by its place in the net (`0.weight`). Gluon
        numbers its own names over all nets that a process builds, so they differ between processes."""
        self.all = list(self.named.values())
        self.trained = [parameter for parameter in self.all if parameter.grad_req != "null"]
        self._measured = [parameter for parameter in self.all if not parameter._differentiable]  # noqa: SLF001
        """Parameters that a forward pass in training writes, such as BatchNorm's running mean and variance."""
        self.flat = flat and type(optimizer).__name__.lower() in ELEMENTWISE
        self.groups = list(self._groups())
        optimizer.param_dict = {index: group.first for index, group in enumerate(self.groups)}
        self.states = [self._state(index, group) for index, group in enumerate(self.groups)]
        self._updates = [
            make_update(optimizer, index, group.weights[0], group.gradients[0], state, in_place=self.flat)
            for index, (group, state) in enumerate(zip(self.groups, self.states, strict=True))
        ]
        self.gradients = Gradients([group.gradients[0] for group in self.groups])

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

    def _groups(self) -> Iterator[Group]:
        def like(parameter: Any) -> tuple[str, float, float]:
            return np.dtype(parameter.dtype).name, float(parameter.lr_mult), float(parameter.wd_mult)

        trained = {name: parameter for name, parameter in self.named.items() if parameter.grad_req != "null"}
        dense = [name for name, parameter in trained.items() if self.flat and is_dense(parameter)]
        groups = groupby(sorted(dense, key=lambda name: like(trained[name])), key=lambda name: like(trained[name]))
        for _, names in groups:
            yield self._flattened({name: trained.pop(name) for name in list(names)})
        for name, parameter in trained.items():
            yield Group((name,), parameter.list_data(), parameter.list_grad(), parameter)

    def _flattened(self, named: Mapping[str, Any]) -> Group:
        """Moves the parameters into one buffer per context; their arrays become views of it."""
        from trainer.mxnet import autograd, mx

        members = list(named.values())
        size, dtype = sum(int(np.prod(member.shape)) for member in members), members[0].dtype
        group = Group(tuple(named), [], [], members[0])
        views: dict[str, tuple[list[Array], list[Array]]] = {member.name: ([], []) for member in members}
        for context in self._contexts:
            weights, gradients = (mx.nd.zeros(size, ctx=context, dtype=dtype) for _ in range(2))
            start = 0
            for member in members:
                end = start + int(np.prod(member.shape))
                weight = weights[start:end].reshape(member.shape)
                member.data(context).copyto(weight)
                views[member.name][0].append(weight)
                views[member.name][1].append(gradients[start:end].reshape(member.shape))
                start = end
            group.weights.append(weights)
            group.gradients.append(gradients)
        for member in members:
            # Gluon has no public way to set a parameter's arrays. MXNet's version is fixed, and this is the only place
            # that writes a Parameter's private fields.
            member._data, member._grad = views[member.name]  # noqa: SLF001
            autograd.mark_variables(member._data, member._grad, member.grad_req)  # noqa: SLF001
        return group

    def named_gradients(self) -> Iterator[tuple[str, Array]]:
        """Each trained parameter by name, with its gradient on the first context."""
        for name, parameter in self.named.items():
            if parameter.grad_req != "null":
                yield name, parameter.grad(self._contexts[0])

    def copy(self) -> dict[str, NDArray[Any]]:
        """Every parameter by name, on the host. Waits for the device."""
        with waiting:
            return {name: parameter.data(self._contexts[0]).asnumpy() for name, parameter in self.named.items()}

    def assign(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Sets every parameter, on every context, to the values that `copy` returned."""
        for name, parameter in self.named.items():
            put(values[name], parameter.list_data())

    @property
    def measured(self) -> list[Any]:
        """Parameters that a forward pass in training writes, such as BatchNorm's running mean and variance."""
        return self._measured

    @property
    def measures(self) -> bool:
        """Whether a forward pass in training computes statistics over its rows, as BatchNorm does."""
        from trainer.mxnet import gluon

        return any(not isinstance(parameter, gluon.Constant) for parameter in self._measured)

    @property
    def moving(self) -> list[list[Array]]:
        """What training changes: the groups' weights and the running statistics, each a list over contexts."""
        return [group.weights for group in self.groups] + [parameter.list_data() for parameter in self._measured]

    def swap(self, values: Sequence[Array]) -> None:
        """Swaps `moving` with `values`, one array each on the first context. A second call undoes it."""
        for arrays, value in zip(self.moving, values, strict=True):
            held = arrays[0].copy()
            for array in arrays:
                value.copyto(array)
            held.copyto(value)

    def reduce(self, rows: Sequence[int]) -> None:
        """Sums the gradients into the first context, and averages the contexts' running statistics.

        `rows` is the number of rows of each context; one without rows holds an old gradient and is skipped.
        """
        for parameter in self._measured:
            for array in parameter.list_data():
                # BatchNorm's backward pass writes these arrays, but tells MXNet's scheduler that it only reads them, so
                # the next read would not wait. A write waits for earlier reads, even one that changes nothing.
                array.__imul__(1)
        if len(self._contexts) == 1:
            return
        for group in self.groups:
            total = group.gradients[0]
            for gradient, has_rows in zip(group.gradients[1:], rows[1:], strict=True):
                if has_rows:
                    total += gradient.as_in_context(total.context)
        for parameter in self._measured:
            self._average(parameter.list_data(), rows)

    def _average(self, arrays: Sequence[Array], rows: Sequence[int]) -> None:
        """Sets an array on all contexts to its mean over them, weighted by their rows."""
        mean, *others = arrays
        # Differences, so that equal values stay identical to the bit.
        changes = [
            (other.as_in_context(mean.context) - mean) * (count / sum(rows))
            for other, count in zip(others, rows[1:], strict=True)
            if count
        ]
        for change in changes:
            mean += change
        for other in others:
            mean.copyto(other)

    def update(self) -> None:
        """One optimizer step on the first context, from the reduced gradients; copies the weights to the others."""
        self.optimizer.rescale_grad = self.gradients.factor / self.gradients.rows
        for group, update in zip(self.groups, self._updates, strict=True):
            update()
            for weight in group.weights[1:]:
                group.weights[0].copyto(weight)


def _named(net: Any, loss: Any) -> dict[str, Any]:
    """The parameters of net and loss by their place, each once, in Gluon's order."""
    places: dict[int, str] = {}
    owned: list[Any] = []
    for prefix, block in (("", net), ("loss:", loss)):
        if hasattr(block, "collect_params"):
            for place, parameter in block._collect_params_with_prefix().items():  # noqa: SLF001  as save_parameters
                places.setdefault(id(parameter), prefix + place)
            for name, parameter in block.collect_params().items():
                # A parameter that is not an attribute of its block has no place, only Gluon's name.
                places.setdefault(id(parameter), prefix + name.removeprefix(block.prefix))
                owned.append(parameter)
    return {places[id(parameter)]: parameter for parameter in owned}


def put(value: NDArray[Any], arrays: Sequence[Array]) -> None:
    """Writes a value into the arrays of a parameter.

    It copies between NDArrays, because writing numpy values fails if oneDNN has changed the layout of a convolution's
    weights.
    """
    from trainer.mxnet import mx

    for array in arrays:
        if array.stype == "default":
            mx.nd.array(value, ctx=array.context, dtype=array.dtype).copyto(array)
        else:
            array[:] = value


def is_dense(parameter: Any) -> bool:
    """Whether neither the parameter nor its gradient is stored sparsely."""
    return bool(parameter._stype == parameter._grad_stype == "default")  # noqa: SLF001  there is no public way to ask
