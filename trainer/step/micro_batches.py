"""Computes a batch in micro-batches: parts that do not depend on the number of devices.

The devices take turns. Each part is computed separately, by the same kernels on arrays of the same shapes, and the
gradients are summed in the order of the parts. So one, two and four devices give identical bits, even for nets that
compute statistics over their rows, such as BatchNorm. A device needs memory for one part at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trainer.errors import UsageError
from trainer.step.losses import TrainingLoss
from trainer.step.parameters import Parameters

if TYPE_CHECKING:
    from trainer.data.batches import Batch
    from trainer.mxnet import Array, Context
    from trainer.step.compiled import CompiledStep
    from trainer.step.recorded import RecordedStep


def parts_on(contexts: Sequence[Context], micro_batches: int, processes: int) -> list[Context]:
    """The contexts of this process's parts of a batch, in order. Raises UsageError if they are not evenly divisible."""
    if micro_batches % (len(contexts) * processes):
        devices = f"{len(contexts)} devices" + (f" in each of {processes} processes" if processes > 1 else "")
        raise UsageError(
            f"{micro_batches} micro-batches cannot be divided evenly among {devices}",
            where="--micro-batches",
            fix=f"Use a multiple of {len(contexts) * processes}.",
        )
    return [contexts[number % len(contexts)] for number in range(micro_batches // processes)]


class MicroBatchStep:
    """Runs another step once per part of a batch."""

    finished: str | None = None

    def __init__(
        self, step: CompiledStep | RecordedStep, contexts: Sequence[Context], parts: Sequence[Context]
    ) -> None:
        self._step = step
        self._on = [number % len(contexts) for number in range(len(parts))]
        self.kind, self.why, self.symbol = step.kind, step.why, step.symbol
        self.draws_random_numbers, self.draws_in_inference = step.draws_random_numbers, step.draws_in_inference
        self.parameters, self.gradients = step.parameters, step.gradients
        self.loss = TrainingLoss(parts)
        self._outputs: list[Any] = []
        self._sums = _Sums(step.parameters)

    def forward_backward(self, batch: Batch) -> None:
        self._step.parameters.follow()
        rows = [shard.rows for shard in batch.shards]
        self._outputs = []
        losses: list[Array] = []
        self._sums.begin()
        for number, shard in zip(self._on, self._step.look_up(batch), strict=True):
            if shard.rows:
                outputs, lost = self._step.train(number, shard)
                self._outputs.append(_kept(outputs))
                losses.append(lost.copy())
                self._sums.add(number, shard.rows / sum(rows))
        self._sums.finish()
        self.loss.add(losses, rows)
        self.gradients.rows = batch.rows
        self.gradients.factor = 1.0

    def update(self) -> None:
        self._step.update()

    def forward(self, batch: Batch) -> tuple[list[Array], list[Array]]:
        """Outputs and per-row losses, one array per part with rows."""
        self._step.parameters.follow()
        outputs, losses = [], []
        for number, shard in zip(self._on, batch.shards, strict=True):
            if shard.rows:
                given, lost = self._step.infer(number, shard)
                outputs.append(_kept(given))
                losses.append(lost.copy())
        return outputs, losses

    def outputs(self) -> list[Array]:
        """The outputs of the latest training batch, one array per part with rows."""
        return self._outputs


def _kept(outputs: Any) -> Any:
    """A copy: the next part on the same device overwrites the step's outputs."""
    return [output.copy() for output in outputs] if isinstance(outputs, (list, tuple)) else outputs.copy()


class _Sums:
    """Combines a batch's parts: gradients summed on the first context, statistics averaged by rows."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._gradients: list[Array] = []
        self._measured: list[_Measured] = [_Measured(each.list_data()) for each in parameters.measured]
        self._is_first = True

    def begin(self) -> None:
        """Before the first part."""
        self._is_first = True
        for measured in self._measured:
            measured.begin()

    def add(self, number: int, share: float) -> None:
        """Adds the part that context `number` has computed, with `share` of the batch's rows."""
        gradients = [group.gradients[number] for group in self._parameters.groups]
        if [each.shape for each in self._gradients] != [each.shape for each in gradients]:
            self._gradients = [group.gradients[0].copy() for group in self._parameters.groups]
        for place, (total, gradient) in enumerate(zip(self._gradients, gradients, strict=True)):
            if self._is_first:
                gradient.copyto(total)
            else:
                self._gradients[place] += gradient.as_in_context(total.context)
        for measured in self._measured:
            measured.add(number, share)
        self._is_first = False

    def finish(self) -> None:
        """After the last part: writes the sums to the first context's arrays."""
        for group, total in zip(self._parameters.groups, self._gradients, strict=True):
            total.copyto(group.gradients[0])
        self._parameters.clear_frozen()
        for measured in self._measured:
            measured.finish()


class _Measured:
    """Running means or variances. Every part starts from the same values, and the changes are averaged."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        self._arrays = arrays
        self._before = arrays[0].copy()
        self._change = arrays[0].zeros_like()

    def begin(self) -> None:
        self._arrays[0].copyto(self._before)
        self._change[:] = 0

    def add(self, number: int, share: float) -> None:
        array, before = self._arrays[number], self._before
        # BatchNorm's backward pass writes it, but tells MXNet's scheduler that it only reads it, so the next read would
        # not wait. A write waits for earlier reads, even one that changes nothing.
        array *= 1
        self._change += (array.as_in_context(before.context) - before) * share
        before.copyto(array)

    def finish(self) -> None:
        self._before += self._change
        for array in self._arrays:
            self._before.copyto(array)
