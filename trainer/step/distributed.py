"""A step that several processes compute together: each its rows, and one sum over the network before the update.

Every process holds the same weights and optimizer states, moves them by the same summed gradients, and so keeps holding
the same bits: nothing but gradients travels, and rank 0 can save a checkpoint without asking anybody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.device_time import waiting
from trainer.processes import Processes
from trainer.step.losses import TrainingLoss
from trainer.step.parameters import Group, is_dense

if TYPE_CHECKING:
    from trainer.data.batches import Batch
    from trainer.mxnet import Array
    from trainer.step import Step

SMALL = 8192
"""Gradients of at most so many elements travel as float64, with everything else: one exchange a step. On two processes
of one machine an exchange of that size takes some tens of microseconds, of which most are there for any size."""


class SharedLoss(TrainingLoss):
    """The losses over the rows of all processes. They come with the gradients, so they are numbers already."""

    def __init__(self) -> None:
        super().__init__(())
        self._own: Sequence[Array] = ()

    def add(self, losses: Sequence[Array], rows: Sequence[int]) -> None:
        """Takes this process's losses of a batch; `settle` has to follow."""
        self._own = losses

    def own(self) -> float:
        """The sum over this process's rows. Waits for the device."""
        total = sum(float(part.asnumpy().sum(dtype=np.float64)) for part in self._own)
        self._own = ()
        return total

    def settle(self, total: float, rows: int) -> None:
        """The sum of a batch's losses over all processes, and how many rows it has."""
        self._mean = total / rows
        self._total += total


class SharedStep:
    """One of the other steps, for this process's part of each batch, and the sum over all processes."""

    def __init__(self, step: Step, processes: Processes) -> None:
        self._step = step
        self._processes = processes
        self._has_rows = True
        self.kind, self.why, self.symbol = step.kind, step.why, step.symbol
        self.draws_random_numbers, self.draws_in_inference = step.draws_random_numbers, step.draws_in_inference
        self.parameters, self.gradients = step.parameters, step.gradients
        self._loss = SharedLoss()
        step.loss = self._loss
        self.loss: TrainingLoss = self._loss
        self._network = Network(step.parameters.groups, step.parameters.measured, processes)

    def forward_backward(self, batch: Batch) -> None:
        """Loss and gradients of a batch, summed over the rows of all contexts and processes. Waits for the device."""
        rows = sum(shard.rows for shard in batch.shards)
        self._has_rows = rows > 0
        if rows:
            self._step.forward_backward(batch)
        with waiting:
            loss = self._loss.own() if rows else 0.0
            total, all_rows = self._network.reduce(loss, rows)
        self._loss.settle(total, all_rows)
        self.gradients.rows = all_rows
        self.gradients.factor = 1.0

    def update(self) -> None:
        """Moves the weights by the gradients of the newest batch."""
        self._step.update()

    def forward(self, batch: Batch) -> tuple[list[Array], list[Array]]:
        """Outputs and per-row losses of this process's rows, one array a context that has some."""
        return self._step.forward(batch)

    def outputs(self) -> list[Array]:
        """The outputs of the newest training batch for this process's rows, one array a context."""
        return self._step.outputs() if self._has_rows else []


class Network:
    """Gradients, what was measured, rows and loss: packed into as few buffers as possible, and summed.

    Dense float32 gradients lie in one host buffer, which MXNet copies into without a detour. What else there is goes
    into a short float64 one: rows, loss, measured statistics times rows (so that what is equal everywhere stays as it
    is to the last bit), gradients of other types; and the float32 ones, where there are few.
    """

    def __init__(self, groups: Sequence[Group], measured: Sequence[Any], processes: Processes) -> None:
        from trainer.mxnet import mx

        self._processes = processes
        self._measured = measured
        plain = [group for group in groups if _is_plain(group)]
        self._others = [group for group in groups if not _is_plain(group)]
        self._host = np.zeros(sum(group.weights[0].size for group in plain), np.float32)
        # A view, since from_numpy marks what it is given as read-only.
        self._shared = mx.nd.from_numpy(self._host.view(), zero_copy=True) if self._host.size else None
        self._places = list(self._placed(plain))
        self._is_small = self._host.size <= SMALL
        rest = sum(parameter.data().size for parameter in measured)
        rest += sum(group.weights[0].size for group in self._others)
        self._wide = np.zeros(2 + rest + (self._host.size if self._is_small else 0), np.float64)

    def reduce(self, loss: float, rows: int) -> tuple[float, int]:
        """Sums this process's gradients, statistics, loss and rows with the others'; gives loss and rows of all.

        A process without rows holds old gradients, and adds nothing.
        """
        self._collect(loss, rows)
        self._processes.sum(self._wide)
        if not self._is_small:
            self._processes.sum_now(self._host)
        return self._distribute()

    def _placed(self, groups: Sequence[Group]) -> Iterator[tuple[Array, Array]]:
        """Each gradient on the first context, with its part of the host's buffer."""
        start = 0
        for group in groups:
            gradient = group.gradients[0]
            assert self._shared is not None  # noqa: S101  it has the size of what is placed in it
            yield gradient, self._shared[start : start + gradient.size].reshape(gradient.shape)
            start += gradient.size

    def _collect(self, loss: float, rows: int) -> None:
        wide = self._wide
        wide[0], wide[1] = rows, loss
        if not rows:
            wide[:] = 0
            if self._shared is not None:
                self._shared[:] = 0
                self._shared.wait_to_read()
            return
        for gradient, place in self._places:
            gradient.copyto(place)
        start = 2
        for parameter in self._measured:
            value = parameter.list_data()[0].asnumpy().ravel()
            wide[start : start + value.size] = value.astype(np.float64) * rows
            start += value.size
        for group in self._others:
            value = group.gradients[0].asnumpy().ravel()
            wide[start : start + value.size] = value
            start += value.size
        if self._shared is not None:
            self._shared.wait_to_read()
        if self._is_small:
            wide[start:] = self._host

    def _distribute(self) -> tuple[float, int]:
        wide = self._wide
        rows, start = wide[0], 2
        for parameter in self._measured:
            arrays = parameter.list_data()
            value = wide[start : start + arrays[0].size] / rows
            start += value.size
            for array in arrays:
                array[:] = value.astype(array.dtype).reshape(array.shape)
        for group in self._others:
            size = group.weights[0].size
            _put(wide[start : start + size], group.gradients[0])
            start += size
        if self._is_small:
            self._host[:] = wide[start:]
        for gradient, place in self._places:
            place.copyto(gradient)
        return float(wide[1]), round(rows)


def _is_plain(group: Group) -> bool:
    return is_dense(group.first) and group.gradients[0].dtype == np.float32


def _put(values: NDArray[Any], gradient: Array) -> None:
    """Writes values into a gradient of any type; a sparse one keeps the rows that are not zero."""
    from trainer.mxnet import mx

    dense = mx.nd.array(values.reshape(gradient.shape), ctx=gradient.context, dtype=gradient.dtype)
    (dense if gradient.stype == "default" else dense.tostype(gradient.stype)).copyto(gradient)


__all__ = ["Network", "SharedLoss", "SharedStep"]
