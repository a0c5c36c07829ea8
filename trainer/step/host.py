"""Small nets on the CPU: a training step that numpy computes, on the memory of MXNet's arrays.

Starting an operator of MXNet wakes a thread and takes 5 to 50 µs, computing it for a small net 1 to 5 µs. A net of
dense layers whose loss has a closed form needs no operator at all (`numpy_net`). Results agree with MXNet's to
rounding.
MXNet's engine does not know of these computations, so `wait_for_all` lets it finish whatever plugins have queued.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from trainer.device_time import recorded
from trainer.host_memory import is_host, memory_of, wait_for_all
from trainer.step.groups import is_dense
from trainer.step.numpy_net import NumpyNet, Plan, plan_of, silent
from trainer.step.numpy_operators import Floats
from trainer.step.numpy_tables import Ids, Pend
from trainer.step.touched import index_type

if TYPE_CHECKING:
    from trainer.data.batches import Shard
    from trainer.mxnet import Array, Context
    from trainer.step.closed_form import Lean
    from trainer.step.parameters import Parameters
    from trainer.step.symbol import Graph

Named = Mapping[str, Floats]
MOST_MULTIPLICATIONS, MOST_OUTPUTS = 6_000_000, 40_000
"""Multiplications per forward pass, and outputs of all layers together, up to which numpy is faster than MXNet.

Measured with one thread, µs per step with numpy and with MXNet without and with oneDNN: 28-1 at batch 1024 68, 158 and
311; 28-64-64-1 at batch 128 214, 471 and 367, at 512 (66,000 outputs) 541, 1304 and 493; 784-100-10 at batch 64 (5
million multiplications) 621, 1026 and 1005.
"""


def plan_for(graph: Graph, parameters: Parameters, contexts: Sequence[Context], sample: Sequence[Array]) -> Plan | None:
    """The plan for a step that numpy can compute; None if it cannot.

    The net takes one array of rows and consists of dense layers and activations, the loss has a closed form, and all
    parameters are float32 on the CPU. It may also take row numbers of tables (`numpy_tables`).
    """
    lean, tables = graph.lean, parameters.tables.named
    if lean is None or not all(map(is_host, contexts)):
        return None
    if any(np.dtype(each.dtype) != np.float32 for each in parameters.all):
        return None
    if not all(is_dense(each) or each.name in tables for each in parameters.all):
        return None
    numbers = {lookup.input for lookups in graph.lookups.values() for lookup in lookups}
    inputs: dict[str, int | Ids] = {}
    for number, (name, part) in enumerate(zip(graph.inputs, sample, strict=True)):
        if len(part.shape) != 2:
            return None
        kind = np.dtype(part.dtype)
        is_ids, columns = number in numbers, part.shape[1]
        inputs[name] = Ids(f"input{number}", columns, kind, index_type(kind)) if is_ids else columns
    shapes = {each.name: each.shape for each in parameters.all if each.shape is not None}
    return plan_of(lean.output, inputs, shapes, tables)


def fits(plan: Plan, shard: Shard) -> bool:
    """Whether numpy is faster than MXNet for a shard, and need not convert its rows. Takes some 10 µs."""
    if shard.rows * plan.multiplications > MOST_MULTIPLICATIONS or shard.rows * plan.outputs > MOST_OUTPUTS:
        return False
    kinds = [plan.kind_of(number) for number in range(len(plan.inputs))]
    given = [(part.shape[1:], np.dtype(part.dtype)) for part in shard.inputs]
    others = [part for part in (shard.label, shard.weight) if part is not None]
    return kinds == given and all(np.dtype(part.dtype) == np.float32 for part in others)


class _OneThread:
    """Lets numpy's matrix products use one thread.

    A second one gains nothing for a small net, and spins while it waits for work. With one thread, results do not
    depend on the machine's cores.
    """

    def __init__(self) -> None:
        self._get: Callable[[], int] | None = None
        self._set: Callable[[int], None] | None = None
        self._is_known = False
        self._lock = Lock()
        self._users = 0
        self._before = 1

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            if self._users > 1:
                return  # another thread trains too
            if not self._is_known:
                self._is_known = True
                self._find()
            self._before = 1 if self._get is None else self._get()
            if self._before > 1 and self._set is not None:
                self._set(1)

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users and self._before > 1 and self._set is not None:
                self._set(self._before)

    def _find(self) -> None:
        """Looks for OpenBLAS among the libraries that numpy has loaded; other libraries keep their threads."""
        from threadpoolctl import ThreadpoolController

        libraries = ThreadpoolController().select(internal_api="openblas").lib_controllers
        own = next((each for each in libraries if "numpy" in each.filepath), None)
        if own is None:
            return
        for prefix, suffix in product(("", "scipy_"), ("", "64_", "_64")):
            names = [f"{prefix}openblas_{verb}_num_threads{suffix}" for verb in ("get", "set")]
            if all(hasattr(own.dynlib, name) for name in names):
                self._get, self._set = (getattr(own.dynlib, name) for name in names)
                return


one_thread = _OneThread()


class HostBound:
    """A net bound to arrays of fixed shapes, like `trainer.step.compiled.Bound`, whose training step numpy computes."""

    __slots__ = ("_net", "_output", "inputs", "kept", "lean", "outputs")

    on_host = True

    def __init__(
        self,
        plan: Plan,
        lean: Lean,
        output: Array,
        *,
        weights: Named,
        gradients: Named,
        tables: Mapping[str, Pend] | None = None,
    ) -> None:
        memory = memory_of(output)
        self.outputs = [output]
        self.lean = lean
        self._output = memory
        self._net = NumpyNet(
            plan,
            parameters=weights,
            gradients=gradients,
            output=memory,
            write_gradient=lean.on_host.write,
            scale=lean.on_host.factor,
            weighted=lean.weighted,
            tables=tables,
        )
        self.inputs: Sequence[Floats] = ()
        """The newest batch: inputs, label and weight."""
        self.kept: Sequence[Floats] = ()
        """Output, label and weight of the newest batch, from which losses are computed."""

    def run(self, shard: Shard) -> None:
        """Computes output and gradients. Waits until the device has finished what is queued."""
        self.inputs = shard.memory
        label, *weight = shard.memory[len(shard.inputs) :]
        run = self._net.run if recorded.calls is None else self._net.run_recorded
        wait_for_all()
        with one_thread, silent:
            if weight:
                run(*self.inputs[:-1], weight[0].reshape(-1, 1))
            else:
                run(*self.inputs)
        self.kept = (self._output, label, *weight)

    def losses(self) -> Array:
        """The losses of the newest batch, (rows,)."""
        from trainer.mxnet import mx

        output, label, *weight = self.kept
        with silent:
            losses = self.lean.losses(output[np.newaxis], label[np.newaxis])[0]
            if weight:
                losses = losses * weight[0].reshape(-1)
        return mx.nd.array(losses, ctx=self.outputs[0].context)


def bind(plan: Plan, shard: Shard, lean: Lean, parameters: Parameters, number: int) -> HostBound:
    """A net bound for a shard's shapes on context `number`."""
    from trainer.mxnet import mx

    tables = parameters.tables.named
    found = {each.name: parameters.gradient_of(each, number) for each in parameters.all if each.name not in tables}
    return HostBound(
        plan,
        lean,
        mx.nd.empty((shard.rows, lean.columns), ctx=shard.context),
        weights={each.name: memory_of(each.data(shard.context)) for each in parameters.all},
        gradients={name: memory_of(gradient) for name, gradient in found.items() if gradient is not None},
        tables={name: table.taker(number) for name, table in tables.items()},
    )
