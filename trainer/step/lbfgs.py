"""The step of `--solver lbfgs`: an iteration of L-BFGS in float64 over all training rows.

A batch is all rows, so an epoch is one iteration. `forward_backward` computes loss and gradients at the weights that
the iteration before has reached, and `update` makes the next iteration, which tries as many points as its line search
needs. The net's own weights are the rounded ones; evaluations and models use those.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import ChangeError, UsageError
from trainer.mxnet import gluon, mx
from trainer.step.compiled import CompiledStep
from trainer.step.groups import put
from trainer.step.iterations import Iterations
from trainer.step.losses import TrainingLoss
from trainer.step.objective import Objective
from trainer.step.parameters import Parameters
from trainer.step.symbol import CannotCompile, trace

if TYPE_CHECKING:
    from trainer.data.batches import Batch
    from trainer.mxnet import Array, Context

log = logging.getLogger("trainer")

NAME = "lbfgs"
WHERE = f"--solver {NAME}"
KINKED = (gluon.loss.L1Loss, gluon.loss.HingeLoss, gluon.loss.TripletLoss)
"""Gluon's losses whose gradient jumps where the optimum often is."""
FIRST_ORDER = "Leave --solver out, so that the optimizer trains it."


class Lbfgs(mx.optimizer.Optimizer):  # type: ignore[misc]
    """In the optimizer's place: keeps the start, the newest point in float64 and the weight decay for a checkpoint."""

    def __init__(self, wd: float = 0.0) -> None:
        super().__init__(learning_rate=1.0, wd=wd)
        self.iterations = 0

    def create_state(self, _index: int, weight: Array) -> tuple[Array, Array]:
        """Start and newest point."""
        start, newest = (mx.nd.zeros(weight.shape, ctx=weight.context, dtype="float64") for _ in range(2))
        return start, newest

    create_state_multi_precision = create_state

    def update(self, index: int, weight: Array, gradient: Array, state: Any) -> None:
        """Never called."""
        raise NotImplementedError("L-BFGS updates all weights at once")

    def set_learning_rate(self, lr: float) -> None:
        """Raises ChangeError: the line search chooses the length of a step."""
        raise ChangeError(
            f"the learning rate was set to {lr:g}, but {NAME} has none",
            where="run.learning_rate",
            fix=FIRST_ORDER,
        )


class LbfgsStep:
    """Computes on one device with a net and a loss that can be traced."""

    kind = NAME
    why = ""
    draws_random_numbers = False
    draws_in_inference = False

    def __init__(
        self, net: Any, loss: Any, *, optimizer: Lbfgs, context: Context, sample: Sequence[Array], weighted: bool
    ) -> None:
        """Raises UsageError for a net or a loss whose optimum L-BFGS cannot find."""
        _check_loss(loss)
        try:
            self._graph = trace(net, loss, sample=sample, weighted=weighted)
        except CannotCompile as reason:
            raise UsageError(
                f"it needs a net and a loss that can be traced, but {reason}", where=WHERE, fix=FIRST_ORDER
            ) from reason
        self.parameters = Parameters(net, loss, optimizer=optimizer, contexts=[context], flat=False)
        self._inner = CompiledStep(self._graph, self.parameters, [context], sample)
        _check_net(self._inner)
        self._net_loss, self._optimizer = loss, optimizer
        self._trained = {name: each for name, each in self.parameters.named.items() if each.grad_req != "null"}
        self.gradients = self.parameters.gradients
        self.loss = TrainingLoss([context])
        self.symbol = self._inner.symbol
        self.finished: str | None = ""
        """Why there is nothing left to gain; empty before."""
        self._objective: Objective | None = None
        self._iterations: Iterations | None = None
        self._outputs: list[Array] = []
        self._held: list[NDArray[np.float32]] = []
        self._decay = float(optimizer.wd)

    def forward_backward(self, batch: Batch) -> None:
        """Loss and gradients of all rows; they were computed already if the iteration before ended at these weights."""
        self.parameters.follow()
        objective = self._begin(batch)
        self._check_weights()
        found = objective.at(self._newest())
        self.loss.add([mx.nd.array(found.losses)], [batch.rows])
        self._outputs = [mx.nd.array(each) for each in found.outputs]
        for array, values in zip(self.gradients.arrays, objective.split(found.of_losses).values(), strict=True):
            array[:] = values
        self._held = [array.asnumpy() for array in self.gradients.arrays]
        self.gradients.rows, self.gradients.factor = batch.rows, 1.0

    def update(self) -> None:
        """One iteration, unless there is nothing left to gain."""
        self._check_weights()
        self._check_gradients()
        if self._iterations is None:
            self._iterations = self._repeated()
        point = self._iterations.advance()
        if point is not None:
            self._optimizer.iterations += 1
            self._move_to(point)
        if self._iterations.ended is not None:
            assert self._objective is not None  # noqa: S101  made by forward_backward
            found, count = self._objective.at(self._newest()), self._optimizer.iterations
            largest = float(np.abs(found.gradient).max(initial=0.0))
            what = f"after {count} iterations, with no element of the gradient above {largest:.1e}"
            if not np.isfinite(found.value):
                self.finished = f"the loss is {found.value:g} after {count} iterations of {NAME}"
            elif self._iterations.has_converged:
                self.finished = f"{NAME} has converged {what}"
            else:
                self.finished = f"{NAME} finds no lower loss {what} ({self._iterations.ended.strip()})"
        self.parameters.after_update()

    def forward(self, batch: Batch) -> tuple[list[Array], list[Array]]:
        return self._inner.forward(batch)

    def outputs(self) -> list[Array]:
        return self._outputs if self._graph.outputs == 1 else [self._outputs]

    # ---- points ------------------------------------------------------------------------------------------------------

    def _begin(self, batch: Batch) -> Objective:
        if self._objective is None:
            (shard,) = batch.shards
            fixed = [each for each in self.parameters.all if each.grad_req == "null"]
            self._objective = Objective(
                self._graph,
                self._net_loss,
                shard,
                trained={each.name: each for each in self._trained.values()},
                decays=[self._decay * each.wd_mult for each in self._trained.values()],
                fixed={each.name: each for each in fixed},
            )
            if not self._optimizer.iterations:
                for states, (_, each) in zip(self._states(), self._trained.items(), strict=True):
                    for state in states:
                        state[:] = each.data().asnumpy().astype(np.float64)
        return self._objective

    def _states(self) -> list[tuple[Array, Array]]:
        """The optimizer's states in the order of the trained parameters."""
        places = {
            group.names[0]: state for group, state in zip(self.parameters.groups, self.parameters.states, strict=True)
        }
        return [places[name] for name in self._trained]

    def _newest(self) -> NDArray[np.float64]:
        return _joined([newest for _, newest in self._states()])

    def _repeated(self) -> Iterations:
        """The iterations so far, made again in a run that is resumed: they lead to the same bits.

        Should they not, as with other rows or on another machine, L-BFGS starts at the newest point.
        """
        assert self._objective is not None  # noqa: S101  made by forward_backward
        newest = self._newest()
        if self._optimizer.iterations:
            iterations = Iterations(_joined([start for start, _ in self._states()]), self._objective)
            for _ in range(self._optimizer.iterations):
                point = iterations.advance()
            if point is not None and np.array_equal(point, newest):
                return iterations
            log.warning(
                "the %d iterations before lead to other weights here than in the checkpoint, as with other rows or "
                "another processor; %s starts anew at those of the checkpoint",
                self._optimizer.iterations,
                NAME,
            )
        return Iterations(newest, self._objective)

    def _move_to(self, point: NDArray[np.float64]) -> None:
        assert self._objective is not None  # noqa: S101  made by forward_backward
        parts = self._objective.split(point).values()
        for (_, newest), parameter, values in zip(self._states(), self._trained.values(), parts, strict=True):
            newest[:] = values
            put(values.astype(np.float32), parameter.list_data())

    # ---- what plugins may have changed -------------------------------------------------------------------------------

    def _check_weights(self) -> None:
        changed = [
            name for name, each in self.parameters.named.items() if (each.grad_req != "null") != (name in self._trained)
        ]
        for (_, newest), (name, each) in zip(self._states(), self._trained.items(), strict=True):
            if not np.array_equal(each.data().asnumpy(), newest.asnumpy().astype(np.float32), equal_nan=True):
                changed.append(name)
        if changed or self._optimizer.wd != self._decay:
            what = f"{changed[0]} was changed" if changed else "the weight decay was changed"
            raise ChangeError(
                f"{what}, but {NAME} seeks the optimum of one function of all weights", where="the net", fix=FIRST_ORDER
            )

    def _check_gradients(self) -> None:
        same = all(
            np.array_equal(array.asnumpy(), held, equal_nan=True)
            for array, held in zip(self.gradients.arrays, self._held, strict=True)
        )
        if self.gradients.factor != 1 or not same:
            raise ChangeError(f"they were changed, but {NAME} computes its own", where="run.gradients", fix=FIRST_ORDER)


def _joined(arrays: Sequence[Array]) -> NDArray[np.float64]:
    return np.concatenate([array.asnumpy().reshape(-1) for array in arrays])


def _check_loss(loss: Any) -> None:
    if isinstance(loss, KINKED) or not getattr(loss, "is_smooth", True):
        raise UsageError(
            f"the gradient of {type(loss).__name__} jumps, so {NAME} stops short of its optimum",
            where=WHERE,
            fix="Use a smooth loss, such as Huber's with a small delta, or leave --solver out.",
        )


def _check_net(step: CompiledStep) -> None:
    parameters = step.parameters
    what = ""
    if step.draws_random_numbers:
        what = "the net draws random numbers when it trains, as dropout does, so its loss is not one function"
    elif parameters.measures:
        what = "the net computes statistics over its rows when it trains, as BatchNorm does"
    elif not parameters.groups:
        what = "the net has nothing to train"
    elif any(np.dtype(each.dtype) != np.float32 for each in parameters.all):
        what = "the net has parameters of another type than float32"
    elif any(each.lr_mult != 1 for each in parameters.trained):
        what = 'a parameter has an lr_mult, which only optimizers know; to freeze one, set its grad_req to "null"'
    if what:
        raise UsageError(what, where=WHERE, fix=FIRST_ORDER)
