"""The training loss over all rows as a function of all weights, with its gradient, in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.calls import Executor
from trainer.device_time import waiting
from trainer.mxnet import gluon, mx
from trainer.step.closed_form import closed_form
from trainer.step.losses import check_rows

if TYPE_CHECKING:
    from trainer.data.batches import Shard
    from trainer.mxnet import Array
    from trainer.step.symbol import Graph

Floats = NDArray[np.float64]
ELEMENTS = 1 << 26
"""Elements of all inputs (512 MiB) that are kept in float64; with more rows, parts take turns in the same arrays.

Copying 600,000 × 28 of them again takes three times as long as computing with them.
"""


@dataclass(frozen=True)
class Evaluated:
    """What was computed at one point."""

    point: Floats
    value: float
    """The objective: the mean loss on the net's scale, plus the decay."""
    gradient: Floats
    """Of the objective."""
    of_losses: Floats
    """The gradient of the sum of the losses, without the decay."""
    losses: NDArray[np.float32]
    """The loss of each row."""
    outputs: Sequence[NDArray[np.float32]]
    """The net's outputs for all rows."""


class Objective:
    """The mean loss plus half the sum of decay × weight², over the rows of one shard.

    The symbol is that of net and loss, bound to arrays of float64.
    """

    def __init__(
        self,
        graph: Graph,
        loss: Any,
        shard: Shard,
        *,
        trained: Mapping[str, Any],
        decays: Sequence[float],
        fixed: Mapping[str, Any],
    ) -> None:
        """`trained`, each with its decay, and `fixed` are the parameters by their name in the symbol."""
        context = shard.context
        self._graph, self._context, self._symbol = graph, context, _symbol(graph, loss)
        self._shapes = {name: tuple(parameter.shape) for name, parameter in trained.items()}
        self.size = sum(int(np.prod(shape)) for shape in self._shapes.values())
        self._weights = {name: self._double(parameter.data(context)) for name, parameter in trained.items()}
        self._gradients = {name: mx.nd.zeros_like(array) for name, array in self._weights.items()}
        self._fixed = {name: self._double(parameter.data(context)) for name, parameter in fixed.items()}
        # Of a loss in another unit than the one in which its gradient is.
        self._ratio = float(getattr(loss, "ratio", 1.0))
        self._decay = np.repeat(decays, [int(np.prod(shape)) for shape in self._shapes.values()])
        self._shard = shard
        width = sum(int(np.prod(part.shape[1:])) for part in shard.inputs)
        self._rows = max(1, min(shard.rows, ELEMENTS // max(1, width)))
        self._parts: dict[int, tuple[Executor, dict[str, Array]]] = {}
        self._is_loaded = False
        self.newest: Evaluated | None = None

    def at(self, point: Floats) -> Evaluated:
        """What is computed at a point; nothing is, if it is the newest one."""
        if self.newest is None or not np.array_equal(self.newest.point, point):
            self.newest = self._evaluate(point)
        return self.newest

    def __call__(self, point: Floats) -> tuple[float, Floats]:
        """The value and the gradient."""
        found = self.at(point)
        return found.value, found.gradient

    def split(self, point: Floats) -> dict[str, Floats]:
        """A point, or a gradient, by parameter."""
        ends = np.cumsum([int(np.prod(shape)) for shape in self._shapes.values()])
        parts = np.split(point, ends[:-1])
        return {name: part.reshape(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}

    def _evaluate(self, point: Floats) -> Evaluated:
        for name, values in self.split(point).items():
            self._weights[name][:] = values
        total, gradient = 0.0, np.zeros(self.size)
        losses, outputs = [], []
        for first in range(0, self._shard.rows, self._rows):
            executor = self._load(first, min(self._rows, self._shard.rows - first))
            executor.forward_backward()
            with waiting:
                rows, *given = (each.asnumpy() for each in executor.outputs[: 1 + self._graph.outputs])
                # One after another in the same order, so the sums are the same to the bit.
                gradient += np.concatenate([each.asnumpy().reshape(-1) for each in self._gradients.values()])
            total += float(rows.sum())
            losses.append(rows.astype(np.float32))
            outputs.append([each.astype(np.float32) for each in given])
        count = self._shard.rows
        with np.errstate(over="ignore", invalid="ignore"):  # a loss that is not finite is reported when it is logged
            value = total / (self._ratio * count) + float(self._decay @ np.square(point)) / 2
            of_mean = gradient / count + self._decay * point
        return Evaluated(
            point.copy(),
            value,
            of_mean,
            gradient,
            np.concatenate(losses),
            [np.concatenate(each) for each in zip(*outputs, strict=True)],
        )

    def _load(self, first: int, rows: int) -> Executor:
        """The executor for a part of the rows, with these rows in its arrays."""
        if rows not in self._parts:
            self._parts[rows] = self._bind(rows)
        executor, inputs = self._parts[rows]
        if not self._is_loaded:
            for array, part in zip(inputs.values(), self._shard.arrays, strict=True):
                array[:] = part[first : first + rows].astype(array.dtype)
            self._is_loaded = rows == self._shard.rows
        return executor

    def _bind(self, rows: int) -> tuple[Executor, dict[str, Array]]:
        graph = self._graph
        names = [*graph.inputs, graph.label, *([] if graph.weight is None else [graph.weight])]
        inputs = {
            name: mx.nd.zeros((rows, *part.shape[1:]), ctx=self._context, dtype=_doubled(part.dtype))
            for name, part in zip(names, self._shard.arrays, strict=True)
        }
        arrays = {**inputs, **self._weights, **self._fixed}
        arguments = self._symbol.list_arguments()
        executor = self._symbol.bind(
            self._context,
            args={name: arrays[name] for name in arguments},
            args_grad={name: array for name, array in self._gradients.items() if name in arguments},
            grad_req={name: "write" if name in self._gradients else "null" for name in arguments},
        )
        bound = Executor(executor)
        check_rows(bound.outputs[0], rows)
        return bound, inputs

    def _double(self, array: Array) -> Array:
        return array.astype(_doubled(array.dtype))


def _symbol(graph: Graph, loss: Any) -> Any:
    """Losses and outputs, with the gradient of the losses.

    Gluon's own derivative of the binary cross-entropy is wrong at outputs of exactly 0, where a net may start.
    """
    if type(loss) is not gluon.loss.SigmoidBinaryCrossEntropyLoss or graph.lean is None:
        return graph.training
    rows, output = graph.inference
    internals = graph.inference.get_internals()
    label = internals[graph.label]
    weight = None if graph.weight is None else internals[graph.weight].reshape((-1, 1))
    form = closed_form(loss, output, label, weight, graph.lean.columns, operators=False)
    if form is None:
        return graph.training
    return mx.sym.Group([mx.sym.BlockGrad(rows), mx.sym.BlockGrad(output), form.head])


def _doubled(dtype: Any) -> Any:
    """The type to compute with: integers, such as ids, stay what they are."""
    return np.float64 if np.dtype(dtype).kind == "f" else dtype
