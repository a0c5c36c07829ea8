"""The weights, their gradients, the reduction over contexts and the optimizer's update.

Parameters of one type and one pair of multipliers lie in one flat buffer a context: one reduction, one norm and one
optimizer call for all of them (15 µs for the eight parameters of a small net, where a call for each took 115 µs).
Optimizers that look at one parameter as a whole, such as LAMB's norms, and nets with convolutions keep an array a
parameter.
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
"""Optimizers whose update of an element depends on that element's history alone: for them many parameters can be
updated as one. Not Nadam: it counts its own schedule at every call. An optimizer that is not listed gets an array a
parameter, which is right for all."""


@dataclass(slots=True)
class Group:
    """Parameters that are reduced and updated as one array."""

    names: tuple[str, ...]
    """Their places in the net."""
    weights: list[Array]
    """One a context, all with the same values."""
    gradients: list[Array]
    """One a context."""
    first: Any
    """The first of its Gluon parameters: the optimizer reads the multipliers from it."""


@dataclass(slots=True)
class Gradients:
    """The gradients of a batch: summed over its rows and over the contexts, on the first context.

    The update divides by `rows`, so the gradient of the mean loss is `array / rows`. A plugin that changes gradients
    writes into `arrays`, or sets `factor`, which costs nothing: the optimizer multiplies by it anyway.
    """

    arrays: list[Array]
    rows: int = 0
    factor: float = 1.0

    def norm(self) -> float:
        """The global 2-norm of the mean loss's gradient, each parameter counted once. Waits for the device."""
        from trainer.mxnet import mx

        types = sorted({np.dtype(array.dtype).name for array in self.arrays})
        alike = [[array for array in self.arrays if np.dtype(array.dtype).name == name] for name in types]
        squares = [mx.nd.multi_sum_sq(*arrays, num_arrays=len(arrays)) for arrays in alike]
        with waiting:
            total = sum(float(square.asnumpy().sum(dtype=np.float64)) for square in squares)
        return float(np.sqrt(total)) * abs(self.factor) / max(self.rows, 1)


class Parameters:
    """All that is trained of a net (and of a loss that has parameters), laid out for few calls.

    The optimizer runs on the first context; the others receive the new weights. So all contexts hold the same bits, and
    one set of optimizer states is all that a checkpoint has to hold.
    """

    def __init__(self, net: Any, loss: Any, *, optimizer: Any, contexts: Sequence[Context], flat: bool) -> None:
        self._contexts = list(contexts)
        self.optimizer = optimizer
        self.named = _named(net, loss)
        """Every Gluon parameter, those that are not trained included, by its place in the net (`0.weight`). Gluon's own
        names count up with every net that a process builds, so they would mean something else in the next one."""
        self.all = list(self.named.values())
        self.trained = [parameter for parameter in self.all if parameter.grad_req != "null"]
        self._measured = [parameter for parameter in self.all if not parameter._differentiable]  # noqa: SLF001
        """What a forward pass in training writes: BatchNorm's running mean and variance."""
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
            # How MXNet's optimizers say that they are made for other parameters.
            what = f"the parameter {group.names[0]} of shape {group.weights[0].shape}"
            raise UsageError(
                f"{type(self.optimizer).__name__.lower()} does not take {what}: {error}".rstrip(": "),
                where="--optimizer",
                fix="Choose another optimizer.",
            ) from error

    def _groups(self) -> Iterator[Group]:
        def like(parameter: Any) -> tuple[str, float, float]:
            return np.dtype(parameter.dtype).name, float(parameter.lr_mult), float(parameter.wd_mult)

        trained = {name: parameter for name, parameter in self.named.items() if parameter.grad_req != "null"}
        dense = [name for name, parameter in trained.items() if self.flat and is_dense(parameter)]
        alike = groupby(sorted(dense, key=lambda name: like(trained[name])), key=lambda name: like(trained[name]))
        for _, names in alike:
            yield self._flattened({name: trained.pop(name) for name in list(names)})
        for name, parameter in trained.items():
            yield Group((name,), parameter.list_data(), parameter.list_grad(), parameter)

    def _flattened(self, named: Mapping[str, Any]) -> Group:
        """Moves the parameters into one buffer a context; their arrays become views of it."""
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
            # Gluon has no public way to say where a parameter lives. MXNet is pinned and will not change; this is the
            # one place that reaches into a Parameter.
            member._data, member._grad = views[member.name]  # noqa: SLF001
            autograd.mark_variables(member._data, member._grad, member.grad_req)  # noqa: SLF001
        return group

    def copy(self) -> dict[str, NDArray[Any]]:
        """Every parameter by name, on the host. Waits for the device."""
        with waiting:
            return {name: parameter.data(self._contexts[0]).asnumpy() for name, parameter in self.named.items()}

    def assign(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Sets every parameter, on every context, to what `copy` gave."""
        for name, parameter in self.named.items():
            put(values[name], parameter.list_data())

    @property
    def measured(self) -> list[Any]:
        """What a forward pass in training measures over its rows."""
        return self._measured

    @property
    def measures(self) -> bool:
        """Whether a forward pass in training measures something over its rows, as BatchNorm does."""
        from trainer.mxnet import gluon

        return any(not isinstance(parameter, gluon.Constant) for parameter in self._measured)

    @property
    def moving(self) -> list[list[Array]]:
        """What training changes, in few arrays: the groups' weights and what is measured, each a list over contexts."""
        return [group.weights for group in self.groups] + [parameter.list_data() for parameter in self._measured]

    def swap(self, values: Sequence[Array]) -> None:
        """Exchanges `moving` with other values, one array for each on the first context. A second call undoes it."""
        for arrays, value in zip(self.moving, values, strict=True):
            held = arrays[0].copy()
            for array in arrays:
                value.copyto(array)
            held.copyto(value)

    def reduce(self, rows: Sequence[int]) -> None:
        """Sums the gradients into the first context, and averages what the contexts have measured, such as means.

        `rows` is how many each context had; one without rows holds an old gradient and is left out.
        """
        for parameter in self._measured:
            for array in parameter.list_data():
                # BatchNorm's backward pass writes these arrays, but tells MXNet's scheduler that it only reads them:
                # whoever reads them next would not wait for it. A write waits for reads, even one that changes nothing.
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
        """Gives all contexts the mean of an array over those that had rows, weighted by them."""
        mean, *others = arrays
        # Differences, so that what is equal everywhere stays as it is to the last bit.
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
        """One optimizer step by the reduced gradients, on the first context, and the new weights to the others."""
        self.optimizer.rescale_grad = self.gradients.factor / self.gradients.rows
        for group, update in zip(self.groups, self._updates, strict=True):
            update()
            for weight in group.weights[1:]:
                group.weights[0].copyto(weight)


def _named(net: Any, loss: Any) -> dict[str, Any]:
    """The parameters of net and loss by their place, each once, in the order in which Gluon lists them."""
    places: dict[int, str] = {}
    owned: list[Any] = []
    for prefix, block in (("", net), ("loss:", loss)):
        if hasattr(block, "collect_params"):
            for place, parameter in block._collect_params_with_prefix().items():  # noqa: SLF001  as save_parameters
                places.setdefault(id(parameter), prefix + place)
            for name, parameter in block.collect_params().items():
                # One that a block holds without an attribute of its own has no place, only Gluon's name.
                places.setdefault(id(parameter), prefix + name.removeprefix(block.prefix))
                owned.append(parameter)
    return {places[id(parameter)]: parameter for parameter in owned}


def put(value: NDArray[Any], arrays: Sequence[Array]) -> None:
    """Writes a value into the arrays of a parameter.

    By a copy between NDArrays, since writing numpy's values right into an array fails where oneDNN has laid out a
    convolution's weights in its own way.
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
