"""Labels that are not quite sure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from trainer import Phase, Plugin, Run, UsageError

if TYPE_CHECKING:
    from trainer.data import Shard
    from trainer.mxnet import Array


@dataclass
class LabelSmoothing(Plugin):
    """Trains on labels that give a part of the certainty to all classes alike (Szegedy et al., 2016).

    One-hot labels (rows, classes) become `label × (1 − smoothing) + smoothing / classes`; labels 0 and 1 of two classes
    `label × (1 − smoothing) + smoothing / 2`. The training loss is that of the smoothed labels; evaluations see the
    labels as they are.
    """

    smoothing: Annotated[float, Field(gt=0, lt=1, description="The part that all classes get alike.")] = 0.1

    phase = Phase.TRANSFORM
    before = ("mixup", "cutmix")

    def on_batch_begin(self, run: Run) -> None:
        """Another batch with the same rows; the data's own stays as it is."""
        if run.batch is not None:
            run.batch = replace(run.batch, shards=tuple(self._smoothed(run, shard) for shard in run.batch.shards))

    def _smoothed(self, run: Run, shard: Shard) -> Shard:
        if not shard.rows:
            return shard
        classes = soft_classes(run, shard.label, self.name)
        return replace(shard, label=floating(shard.label) * (1 - self.smoothing) + self.smoothing / classes)


def floating(array: Array) -> Array:
    """The array, as float32 where it holds whole numbers: MXNet would make 0 of a part of them."""
    return array if np.dtype(array.dtype).kind == "f" else array.astype("float32")


def soft_classes(run: Run, label: Array, plugin: str) -> int:
    """Over how many classes the labels are spread, 2 for one column of 0 and 1.

    Raises UsageError for labels that hold no probabilities, such as class numbers.
    """
    if label.ndim == 2 and label.shape[1] > 1:
        return int(label.shape[1])
    # A task that decides by a threshold tells two classes apart by one probability.
    if run.threshold is not None:
        return 2
    raise UsageError(
        f"the labels of task {run.task.name!r} hold no probabilities that could be changed: {label.shape}",
        where=f"plugin {plugin!r}",
        fix="A task of several classes gives one-hot labels, (rows, classes), and SoftmaxCrossEntropyLoss("
        "sparse_label=False), as image-classification does.",
    )
