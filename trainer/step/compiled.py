"""The compiled step: one symbol for net and loss, bound to the parameters' own arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.calls import Call, Executor
from trainer.step.host import HostBound, bind, fits, plan_for
from trainer.step.lookups import resized
from trainer.step.losses import TrainingLoss, check_rows
from trainer.step.parameters import Parameters
from trainer.step.symbol import Graph, draws_in_inference, draws_random_numbers
from trainer.step.update import is_plain_sgd

if TYPE_CHECKING:
    from trainer.data.batches import Batch, Shard
    from trainer.mxnet import Array, Context
    from trainer.step.closed_form import Lean

KEPT_SHAPES = 16
"""Bound executors kept per context. Batches of one size need two (the last batch is shorter); the limit keeps data of
ever new shapes from filling the memory."""


FEW = 256
"""Up to this many outputs of a batch, output and label are kept as one array. MXNet joins arrays slowly (20 ns for an
element), but saves starting an operator."""


class Bound:
    """A symbol bound to input arrays of fixed shapes."""

    on_host = False

    __slots__ = ("_copies", "_losses", "_parts", "executor", "inputs", "kept", "lean", "outputs")

    def __init__(self, executor: Any, inputs: Sequence[Array], lean: Lean | None = None) -> None:
        self.executor = Executor(executor)
        self.outputs = self.executor.outputs
        self.inputs = inputs
        self.lean = lean
        """The symbol that is bound instead of the one with the losses."""
        self._parts = [] if lean is None else [self.outputs[1], *inputs[-1 - lean.weighted :]]
        """Output, label and weight, from which losses are computed."""
        self.kept = self._parts if len(self.outputs) < 3 else self.outputs[2:]
        """The same, as one array if the symbol gives it."""
        self._losses: Executor | None = None
        self._copies = [Call("_copyto", [held], held) for held in inputs]

    def load(self, shard: Shard) -> None:
        """Takes a batch."""
        for part, copy in zip(shard.arrays, self._copies, strict=True):
            copy.on(0, part)

    def run(self, shard: Shard) -> None:
        """Computes outputs and gradients of a batch; does not wait."""
        self.load(shard)
        self.executor.forward_backward()

    def losses(self) -> Array:
        """The losses of the newest batch, (rows,); does not wait."""
        if self.lean is None:
            return self.outputs[0]
        if self._losses is None:
            self._losses = Executor(self.lean.bind_losses(*self._parts))
        self._losses.forward()
        return self._losses.outputs[0]


class CompiledStep:
    """Forward and backward as one bound symbol per context; 4 to 6 times faster than autograd on small nets.

    Evaluation has its own executors over the same weights: an executor that is bound for training gives wrong values
    with is_train=False, and disturbs the training that follows.
    """

    kind = "compiled"
    finished: str | None = None
    why = ""

    def __init__(
        self, graph: Graph, parameters: Parameters, contexts: Sequence[Context], sample: Sequence[Array]
    ) -> None:
        self._graph = graph
        self._contexts = list(contexts)
        self._plan = plan_for(graph, parameters, contexts, sample)
        # Plain SGD on the host adds to the table, and needs no distinct numbers unless a plugin reads gradients.
        parameters.tables.are_found_ahead = self._plan is None or not is_plain_sgd(parameters.optimizer)
        self._bound: list[dict[object, Bound | HostBound]] = [{} for _ in contexts]
        self._by_numpy = False
        """Whether numpy computes the newest batch."""
        self._fitting: dict[object, bool] = {}
        self.newest: list[Bound | HostBound] = []
        """What computed the newest batch, on each context with rows."""
        self.inputs, self.devices = len(graph.inputs), len(self._contexts)
        self._layout = parameters.layout
        self.parameters = parameters
        self.gradients = parameters.gradients
        self.loss = TrainingLoss(contexts)
        self.symbol = graph.inference
        self.draws_random_numbers = draws_random_numbers(graph.training)
        self.draws_in_inference = draws_in_inference(graph.inference)

    def forward_backward(self, batch: Batch) -> None:
        self.parameters.follow()
        for guard in self.parameters.guards:
            guard.before_step()
        self.newest = []
        self._by_numpy = self._plan is not None and all(self._fits(shard) for shard in batch.shards if shard.rows)
        prepare = self.parameters.expect if self._by_numpy else self.parameters.look_up
        for number, shard in enumerate(prepare(batch.shards, batch.distinct)):
            if shard.rows:
                self.newest.append(self._train(number, shard))
        rows = [shard.rows for shard in batch.shards]
        lean = self.newest[0].lean
        if lean is None:
            self.loss.add([bound.outputs[0] for bound in self.newest], rows)
        else:
            self.loss.keep([bound.kept for bound in self.newest], rows, lean, self._losses)
        self.parameters.reduce(rows)
        self.gradients.rows = batch.rows
        self.gradients.factor = 1.0
        self.gradients.on_host = self.newest[0].on_host

    def look_up(self, batch: Batch) -> Sequence[Shard]:
        """The batch's shards as `train` takes them, for a batch of several parts."""
        self._by_numpy = False
        return self.parameters.look_up(batch.shards, batch.distinct)

    def train(self, number: int, shard: Shard) -> tuple[Any, Array]:
        """Computes one shard's gradients on context `number`. Returns outputs and losses, valid until the next call."""
        bound = self._train(number, shard)
        return self._outputs(bound), bound.losses()

    def infer(self, number: int, shard: Shard) -> tuple[Any, Array]:
        """Outputs and losses of one shard on context `number`, valid until the next call."""
        bound = self._executor(number, shard, train=False)
        assert isinstance(bound, Bound)  # noqa: S101  numpy computes training steps only
        bound.load(shard)
        bound.executor.forward()
        return self._outputs(bound), bound.outputs[0]

    def update(self) -> None:
        self.parameters.update()

    def forward(self, batch: Batch) -> tuple[list[Array], list[Array]]:
        """Outputs and per-row losses, one array per context with rows; the next call overwrites them."""
        self.parameters.follow()
        outputs, losses = [], []
        for number, shard in enumerate(batch.shards):
            if shard.rows:
                given, lost = self.infer(number, shard)
                outputs.append(given)
                losses.append(lost)
        return outputs, losses

    def outputs(self) -> list[Array]:
        return [self._outputs(bound) for bound in self.newest]

    def _losses(self) -> list[Array]:
        return [bound.losses() for bound in self.newest]

    def _outputs(self, bound: Bound | HostBound) -> Any:
        if bound.on_host:
            return bound.outputs[0]
        return bound.outputs[1] if self._graph.outputs == 1 else bound.outputs[1:]

    def _fits(self, shard: Shard) -> bool:
        """Whether numpy computes a shard of these shapes; asked once for each."""
        found = self._fitting.get(shard.shapes)
        if found is None:
            assert self._plan is not None  # noqa: S101  the caller has looked
            if len(self._fitting) >= KEPT_SHAPES:
                self._fitting.clear()
            found = self._fitting[shard.shapes] = fits(self._plan, shard)
        return found

    def _train(self, number: int, shard: Shard) -> Bound | HostBound:
        bound = self._executor(number, shard, train=True)
        bound.run(shard)
        return bound

    def _executor(self, number: int, shard: Shard, *, train: bool) -> Bound | HostBound:
        if self._layout != self.parameters.layout:
            self._bound = [{} for _ in self._contexts]
            self._layout = self.parameters.layout
        sizes = self.parameters.tables.sizes if train and not self._by_numpy else ()
        key = (train, train and self._by_numpy, shard.shapes, sizes)
        kept = self._bound[number]
        bound = kept.get(key)
        if bound is None:
            if len(kept) >= KEPT_SHAPES:
                del kept[next(iter(kept))]
            bound = kept[key] = self._bind(number, shard, train=train)
        return bound

    def _bind(self, number: int, shard: Shard, *, train: bool) -> Bound | HostBound:
        from trainer.mxnet import mx

        graph, context = self._graph, self._contexts[number]
        lean = graph.lean if train and self._is_float32(shard) else None
        if train and self._by_numpy and self._plan is not None and lean is not None:
            return bind(self._plan, shard, lean, self.parameters, number)
        symbol = graph.training if train else graph.inference
        if lean is not None:
            symbol = lean.joined if shard.rows * lean.columns <= FEW else lean.symbol
        named = dict(zip(graph.inputs, shard.inputs, strict=True)) | {graph.label: shard.label}
        if graph.weight is not None:
            named[graph.weight] = shard.weight
        inputs = {name: mx.nd.empty(part.shape, ctx=context, dtype=part.dtype) for name, part in named.items()}
        arrays, gradients = dict(inputs), {}
        if train:
            arrays |= {name: make(context) for name, make in graph.arguments.items()}
        for parameter in self.parameters.all:
            arrays[parameter.name] = parameter.data(context)
            gradient = self.parameters.gradient_of(parameter, number) if train else None
            if gradient is not None:
                gradients[parameter.name] = gradient
        tables = self.parameters.tables.named if train else {}
        if tables:
            symbol = resized(symbol, {name: table.size for name, table in tables.items()})
        for name, table in tables.items():
            arrays[name] = table.weights[number][: table.size]
            gradients[name] = table.gradients[number][: table.size]
        arguments = symbol.list_arguments()
        executor = symbol.bind(
            context,
            args={name: arrays[name] for name in arguments},
            args_grad={name: array for name, array in gradients.items() if name in arguments},
            grad_req={name: "write" if name in gradients else "null" for name in arguments},
            aux_states={name: arrays[name] for name in symbol.list_auxiliary_states()},
        )
        bound = Bound(executor, list(inputs.values()), lean)
        check_rows(bound.losses(), shard.rows)
        return bound

    def _is_float32(self, shard: Shard) -> bool:
        """Whether output and label can lie in one array, and MXNet's output operators take them."""
        parts = [shard.label, *([] if shard.weight is None else [shard.weight]), *self.parameters.all]
        return all(np.dtype(part.dtype) == np.float32 for part in parts)
