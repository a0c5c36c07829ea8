"""The recorded step: autograd, which works for every net."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trainer.step.losses import TrainingLoss, check_rows, column
from trainer.step.parameters import Parameters

if TYPE_CHECKING:
    from trainer.data.batches import Batch, Shard
    from trainer.mxnet import Array, Context


class RecordedStep:
    """Runs net and loss under autograd, with the same gradients, reduction and update as the compiled step."""

    kind = "recorded"
    finished: str | None = None

    def __init__(self, net: Any, loss: Any, parameters: Parameters, contexts: Sequence[Context], *, why: str) -> None:
        self.why = why
        self.draws_random_numbers = True
        self.draws_in_inference = False
        self._net = net
        self._loss = loss
        self._outputs: list[Array] = []
        self.parameters = parameters
        self.gradients = parameters.gradients
        self.loss = TrainingLoss(contexts)
        self.symbol = None

    def forward_backward(self, batch: Batch) -> None:
        losses: list[Array]
        self.parameters.follow()
        self._outputs, losses = self._train([shard for shard in batch.shards if shard.rows])
        rows = [shard.rows for shard in batch.shards]
        self.loss.add(losses, rows)
        self.parameters.reduce(rows)
        self.gradients.rows = batch.rows
        self.gradients.factor = 1.0

    def look_up(self, batch: Batch) -> Sequence[Shard]:
        """The batch's shards as `train` takes them."""
        return batch.shards

    def train(self, number: int, shard: Shard) -> tuple[Any, Array]:
        """Computes one shard's gradients on context `number`. Returns its outputs and losses."""
        (outputs,), (losses,) = self._train([shard])
        return outputs, losses

    def infer(self, number: int, shard: Shard) -> tuple[Any, Array]:
        """Outputs and losses of one shard on context `number`."""
        return self._run(shard)

    def update(self) -> None:
        self.parameters.update()

    def forward(self, batch: Batch) -> tuple[list[Array], list[Array]]:
        self.parameters.follow()
        computed = [self._run(shard) for shard in batch.shards if shard.rows]
        return [outputs for outputs, _ in computed], [losses for _, losses in computed]

    def outputs(self) -> list[Array]:
        return self._outputs

    def _train(self, shards: Sequence[Shard]) -> tuple[list[Any], list[Array]]:
        from trainer.mxnet import autograd

        with autograd.record():
            computed = [self._run(shard) for shard in shards]
        outputs, losses = ([pair[part] for pair in computed] for part in (0, 1))
        autograd.backward(losses)
        self._clear_stale()
        return outputs, losses

    def _clear_stale(self) -> None:
        """Zeroes the gradients of parameters that this batch did not use; they still hold an earlier batch's."""
        for parameter in self.parameters.trained:
            for weight, gradient in zip(parameter.list_data(), parameter.list_grad(), strict=True):
                if not weight._fresh_grad:  # noqa: SLF001  gluon.Trainer reads it too; there is no public way
                    gradient[:] = 0
                weight._fresh_grad = False  # noqa: SLF001

    def _run(self, shard: Shard) -> tuple[Any, Array]:
        outputs = self._net(*shard.inputs)
        listed = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        weights = [] if shard.weight is None else [column(shard.weight, listed[0].ndim)]
        losses = self._loss(outputs, shard.label, *weights)
        check_rows(losses, shard.rows)
        return listed[0] if len(listed) == 1 else listed, losses
