"""Label smoothing: labels below full certainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from trainer import Phase, Plugin, Run, UsageError

if TYPE_CHECKING:
    from trainer.data import Shard
    from trainer.mxnet import Array

KEPT = 64
"""Prepared calls that are kept, each for one shape: the limit keeps data of ever new shapes from filling the memory."""


@dataclass
class LabelSmoothing(Plugin):
    """Trains on labels that spread a part of the certainty evenly over all classes (Szegedy et al., 2016).

    One-hot labels (rows, classes) become `label × (1 − smoothing) + smoothing / classes`; labels 0 and 1 of two classes
    `label × (1 − smoothing) + smoothing / 2`. The training loss is that of the smoothed labels; evaluations use the
    original ones.
    """

    smoothing: Annotated[float, Field(gt=0, lt=1, description="The part that is spread evenly over all classes.")] = 0.1

    phase = Phase.TRANSFORM
    logs = ()
    before = ("mixup", "cutmix")
    varying = ("_prepared",)

    def __post_init__(self) -> None:
        self._prepared: dict[tuple[Any, ...], tuple[Any, Any]] = {}

    def on_batch_begin(self, run: Run) -> None:
        """Replaces the batch by one with smoothed labels; the data stays unchanged."""
        from trainer.data import Batch

        batch = run.batch
        if batch is not None:
            shards = tuple(self._smoothed(run, number, shard) for number, shard in enumerate(batch.shards))
            run.batch = Batch(shards, batch.rows, batch.indices)

    def _smoothed(self, run: Run, number: int, shard: Shard) -> Shard:
        if not shard.rows:
            return shard
        label = floating(shard.label)
        if run.gradients.on_host and label is shard.label:
            return self._smoothed_on_host(run, number, shard)
        key = number, label.dtype, shard.shapes
        prepared = self._prepared.get(key)
        if prepared is None:
            if len(self._prepared) >= KEPT:
                self._prepared.clear()
            prepared = self._prepared[key] = self._prepare(run, label)
        copy, smooth = prepared
        copy.on(0, label)
        smooth.forward()
        return shard.having(shard.inputs, smooth.outputs[0], shard.weight)

    def _smoothed_on_host(self, run: Run, number: int, shard: Shard) -> Shard:
        """The same, to the bit, computed by numpy: the step of a small net takes no other time."""
        from trainer.calls import memory_of, wait_for_all

        key = "host", number, shard.shapes
        prepared = self._prepared.get(key)
        if prepared is None:
            if len(self._prepared) >= KEPT:
                self._prepared.clear()
            held = shard.label.copy()
            rest = np.float32(self.smoothing / soft_classes(run, shard.label, self.name))
            prepared = self._prepared[key] = held, (memory_of(held), np.float32(1 - self.smoothing), rest)
        held, (memory, part, rest) = prepared
        wait_for_all()
        columns = list(shard.memory)
        place = len(shard.inputs)
        np.multiply(columns[place], part, memory)
        np.add(memory, rest, memory)
        columns[place] = memory
        return shard.having(shard.inputs, held, shard.weight, memory=tuple(columns))

    def _prepare(self, run: Run, label: Array) -> tuple[Any, Any]:
        """A call that takes the labels, and a bound symbol that smooths them."""
        from trainer.calls import Call, Executor
        from trainer.mxnet import mx

        classes = soft_classes(run, label, self.name)
        held = label.copy()
        smoothed = mx.sym.var("label") * (1 - self.smoothing) + self.smoothing / classes
        bound = smoothed.bind(label.context, args={"label": held}, grad_req="null")
        return Call("_copyto", [held], held), Executor(bound)


def floating(array: Array) -> Array:
    """The array; as float32 if it holds integers, since MXNet would truncate fractions of them to 0."""
    return array if np.dtype(array.dtype).kind == "f" else array.astype("float32")


def soft_classes(run: Run, label: Array, plugin: str) -> int:
    """The number of classes of the labels; 2 for one column of 0 and 1.

    Raises UsageError for labels that are not probabilities, such as class numbers.
    """
    shape = label.shape
    if len(shape) == 2 and shape[1] > 1:
        return int(shape[1])
    # A task with a decision threshold predicts one probability for two classes.
    if run.threshold is not None:
        return 2
    raise UsageError(
        f"the labels of task {run.task.name!r} are not probabilities: {label.shape}",
        where=f"plugin {plugin!r}",
        fix="For several classes, give one-hot labels, (rows, classes), and SoftmaxCrossEntropyLoss("
        "sparse_label=False), as image-classification does, or leave the plugin out.",
    )
