"""Ten classes of handwritten digits: a task that brings rows, net, loss and metrics, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from trainer import Arrays, Defaults, Run, Splits, Task

CLASSES = 10


@dataclass
class Digits(Task):
    """Tells scikit-learn's 1,797 images of digits (8 × 8 pixels) apart, by a net with one hidden layer."""

    hidden: Annotated[int, Field(ge=1, description="Neurons of the hidden layer.")] = 64
    held_out: Annotated[
        float, Field(gt=0, lt=0.5, description="The part of the rows for validation, and for test.")
    ] = 0.2

    defaults = Defaults(
        epochs=20,
        batch_size=32,
        optimizer="adam",
        learning_rate=0.003,
        plugins=("progress", "metrics-log", "early-stopping", "checkpoint", "tensorboard"),
    )
    headline = ("train/loss", "validation/loss", "validation/accuracy")
    api = "2.0"

    def splits(self, run: Run) -> Splits:
        """Shuffled by the run's seed; pixels are 0 to 16, and become 0 to 1."""
        from sklearn.datasets import load_digits

        data = load_digits()
        order = np.random.default_rng(run.settings.seed).permutation(len(data.target))
        features, labels = (data.data[order] / 16).astype(np.float32), data.target[order].astype(np.float32)
        size = round(self.held_out * len(order))
        parts = [slice(2 * size, None), slice(0, size), slice(size, 2 * size)]
        return Splits(*(Arrays(features[part], labels[part]) for part in parts))

    def net(self) -> Any:
        """A logit for each class."""
        from trainer.mxnet import gluon

        net = gluon.nn.HybridSequential()
        net.add(gluon.nn.Dense(self.hidden, activation="relu"), gluon.nn.Dense(CLASSES))
        return net

    def loss(self) -> Any:
        """For labels 0 to 9."""
        from trainer.mxnet import gluon

        return gluon.loss.SoftmaxCrossEntropyLoss()

    def metrics(self) -> list[Any]:
        """The highest logit, or one of the three highest, is right: counted over all rows."""
        from trainer.metrics import MulticlassClassification

        return [MulticlassClassification(top_k=(1, 3))]

    def predictions(self, outputs: Any) -> Any:
        """Probabilities, (rows, 10)."""
        return outputs.softmax()
