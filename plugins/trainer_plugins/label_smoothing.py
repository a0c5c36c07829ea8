"""Label smoothing: labels below full certainty."""

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
    """Trains on labels that spread a part of the certainty evenly over all classes (Szegedy et al., 2016).

    One-hot labels (rows, classes) become `label × (1 − smoothing) + smoothing / classes`; labels 0 and 1 of two classes
    `label × (1 − smoothing) + smoothing / 2`. The training loss is that of the smoothed labels; evaluations use the
    original ones.
    """

    smoothing: Annotated[float, Field(gt=0, lt=1, description="The part that is spread evenly over all classes.")] = 0.1

    phase = Phase.TRANSFORM
    logs = ()
    before = ("mixup", "cutmix")

    def on_batch_begin(self, run: Run) -> None:
        """Replaces the batch by one with smoothed labels; the data stays unchanged."""
        if run.batch is not None:
            run.batch = replace(run.batch, shards=tuple(self._smoothed(run, shard) for shard in run.batch.shards))

    def _smoothed(self, run: Run, shard: Shard) -> Shard:
        if not shard.rows:
            return shard
        classes = soft_classes(run, shard.label, self.name)
        return replace(shard, label=floating(shard.label) * (1 - self.smoothing) + self.smoothing / classes)


def floating(array: Array) -> Array:
    """The array; as float32 if it holds integers, since MXNet would truncate fractions of them to 0."""
    return array if np.dtype(array.dtype).kind == "f" else array.astype("float32")


def soft_classes(run: Run, label: Array, plugin: str) -> int:
    """The number of classes of the labels; 2 for one column of 0 and 1.

    Raises UsageError for labels that are not probabilities, such as class numbers.
    """
    if label.ndim == 2 and label.shape[1] > 1:
        return int(label.shape[1])
    # A task with a decision threshold predicts one probability for two classes.
    if run.threshold is not None:
        return 2
    raise UsageError(
        f"the labels of task {run.task.name!r} are not probabilities: {label.shape}",
        where=f"plugin {plugin!r}",
        fix="For several classes, give one-hot labels, (rows, classes), and SoftmaxCrossEntropyLoss("
        "sparse_label=False), as image-classification does.",
    )
