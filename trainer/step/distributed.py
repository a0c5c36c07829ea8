"""Data-parallel training: each process computes its rows, and the gradients are summed before the update.

Every process holds the same weights and optimizer states and updates them with the same summed gradients, so they stay
identical to the bit. Only gradients are exchanged, and rank 0 can save a checkpoint without the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.device_time import waiting
from trainer.processes import Processes
from trainer.step.groups import Group, is_dense
from trainer.step.losses import TrainingLoss

if TYPE_CHECKING:
    from trainer.data.batches import Batch
    from trainer.mxnet import Array
    from trainer.step import Step
    from trainer.step.closed_form import Lean

SMALL = 8192
"""Up to this many gradient elements are sent as float64 together with everything else: one exchange per step. Between
two processes of one machine an exchange of that size takes some tens of microseconds, most of them fixed overhead."""


class SharedLoss(TrainingLoss):
    """The losses over the rows of all processes. They arrive with the gradients, as numbers on the host."""

    def __init__(self) -> None:
        super().__init__(())
        self._own: Sequence[Array] = ()

    def add(self, losses: Sequence[Array], rows: Sequence[int]) -> None:
        """Takes this process's losses of a batch; call `settle` next."""
        self._own = self._newest = losses

    def keep(
        self, kept: Sequence[Sequence[Array]], rows: Sequence[int], lean: Lean, losses: Callable[[], Sequence[Array]]
    ) -> None:
        """As `add`: the sum over all processes is needed in every step."""
        self.add(losses(), rows)

    def own(self) -> float:
        """The sum over this process's rows. Waits for the device."""
        total = sum(float(part.asnumpy().sum(dtype=np.float64)) for part in self._own)
        self._own = ()
        return total

    def settle(self, total: float, rows: int) -> None:
        """Takes the sum of a batch's losses over all processes, and its number of rows."""
        self._mean = total / rows
        self._total += total


class SharedStep:
    """Runs another step on this process's part of each batch, and sums over all processes."""

    finished: str | None = None

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
        self._layout = step.parameters.layout

    def forward_backward(self, batch: Batch) -> None:
        """Computes loss and gradients, summed over the rows of all contexts and processes. Waits for the device."""
        self.parameters.follow()
        if self._layout != self.parameters.layout:
            self._network = Network(self.parameters.groups, self.parameters.measured, self._processes)
            self._layout = self.parameters.layout
        rows = sum(shard.rows for shard in batch.shards)
        self._has_rows = rows > 0
        if rows:
            self._step.forward_backward(batch)
        else:
            self._loss.add((), ())
        with waiting:
            loss = self._loss.own() if rows else 0.0
            self.gradients.compute()
            total, all_rows = self._network.reduce(loss, rows)
            self._exchange(has_rows=rows > 0)
        self._loss.settle(total, all_rows)
        self.gradients.rows = all_rows
        self.gradients.factor = 1.0

    def _exchange(self, *, has_rows: bool) -> None:
        """Sums the gradients of tables. Only rows that some process has used are sent, with their numbers."""
        tables = self.parameters.tables.all
        if not tables:
            return
        own = [part if has_rows else None for table in tables for part in table.used()]
        parts = iter(self._processes.gather_rows(own))
        for table in tables:
            ids, gradients = next(parts), next(parts)
            assert ids is not None and gradients is not None  # noqa: S101, PT018  a batch has rows in some process
            table.join(ids, gradients)
        self.parameters.follow_tables()

    def update(self) -> None:
        self._step.update()

    def forward(self, batch: Batch) -> tuple[list[Array], list[Array]]:
        """Outputs and per-row losses of this process's rows, one array per context with rows."""
        return self._step.forward(batch)

    def outputs(self) -> list[Array]:
        """The outputs of the latest training batch for this process's rows, one array per context with rows."""
        return self._step.outputs() if self._has_rows else []


class Network:
    """Packs gradients, running statistics, rows and loss into as few buffers as possible, and sums them.

    Dense float32 gradients lie in one host buffer, which MXNet copies into directly. A short float64 buffer takes the
    rest: rows, loss, statistics times rows (so that equal ones stay identical to the bit), gradients of other types,
    and the float32 gradients if there are few.
    """

    def __init__(self, groups: Sequence[Group], measured: Sequence[Any], processes: Processes) -> None:
        from trainer.mxnet import mx

        self._processes = processes
        self._measured = measured
        dense = [group for group in groups if group.table is None]
        plain = [group for group in dense if _is_plain(group)]
        self._others = [group for group in dense if not _is_plain(group)]
        self._host = np.zeros(sum(group.weights[0].size for group in plain), np.float32)
        # A view, because from_numpy marks its argument as read-only.
        self._shared = mx.nd.from_numpy(self._host.view(), zero_copy=True) if self._host.size else None
        self._places = list(self._placed(plain))
        self._is_small = self._host.size <= SMALL
        rest = sum(parameter.data().size for parameter in measured)
        rest += sum(group.weights[0].size for group in self._others)
        self._wide = np.zeros(2 + rest + (self._host.size if self._is_small else 0), np.float64)

    def reduce(self, loss: float, rows: int) -> tuple[float, int]:
        """Sums gradients, statistics, loss and rows over all processes; returns the total loss and rows.

        A process without rows holds old gradients, and contributes zeros.
        """
        self._collect(loss, rows)
        self._processes.sum(self._wide)
        if not self._is_small:
            self._processes.sum_now(self._host)
        return self._distribute()

    def _placed(self, groups: Sequence[Group]) -> Iterator[tuple[Array, Array]]:
        """Each gradient on the first context, with its slice of the host buffer."""
        start = 0
        for group in groups:
            gradient = group.gradients[0]
            assert self._shared is not None  # noqa: S101  there are groups, so it has elements
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
    """Writes values into a gradient of any type; a sparse one stores the non-zero rows."""
    from trainer.mxnet import mx

    dense = mx.nd.array(values.reshape(gradient.shape), ctx=gradient.context, dtype=gradient.dtype)
    (dense if gradient.stype == "default" else dense.tostype(gradient.stype)).copyto(gradient)


__all__ = ["Network", "SharedLoss", "SharedStep"]
