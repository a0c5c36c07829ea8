"""The smallest real things to train: a few rows, a linear net, and settings for two short epochs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from trainer.config.settings import Settings
from trainer.data.arrays import Arrays
from trainer.run import Run
from trainer.task import Defaults, Splits, Task


def rows(number: int, columns: int = 3, seed: int = 0, weighted: bool = False) -> Arrays:
    """Standard normal features, (number, columns); label 1 where the first is positive. Weights are (number, 1)."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(number, columns)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(np.float32)
    weights = generator.uniform(0.5, 2, size=(number, 1)).astype(np.float32) if weighted else None
    return Arrays(features, labels, weights)


@dataclass
class TinyTask(Task):
    """Binary classification of a few rows with a linear net; a split of 0 rows is left out."""

    train_rows: Annotated[int, Field(ge=0, description="Rows to train on.")] = 4
    validation_rows: Annotated[int, Field(ge=0, description="Rows of the validation split.")] = 2
    test_rows: Annotated[int, Field(ge=0, description="Rows of the test split.")] = 0
    calibration_rows: Annotated[int, Field(ge=0, description="Rows of the calibration split.")] = 0
    weighted: Annotated[bool, Field(description="Whether the rows have weights.")] = False
    make_net: Callable[[], Any] | None = None
    make_loss: Callable[[], Any] | None = None

    name = "tiny"
    defaults = Defaults(epochs=2, batch_size=2, learning_rate=0.1, plugins=())

    def splits(self, run: Run) -> Splits:
        """Each split has its own seed."""
        sizes = (self.train_rows, self.validation_rows, self.test_rows, self.calibration_rows)
        parts = [rows(size, seed=n, weighted=self.weighted) if size else None for n, size in enumerate(sizes)]
        return Splits(*parts[:3], calibration=parts[3])

    def net(self) -> Any:
        """One neuron, unless another net was given."""
        from trainer.mxnet import gluon

        return self.make_net() if self.make_net else gluon.nn.Dense(1)

    def loss(self) -> Any:
        """The logistic loss on logits, unless another one was given."""
        from trainer.mxnet import gluon

        return self.make_loss() if self.make_loss else gluon.loss.SigmoidBinaryCrossEntropyLoss()

    def metrics(self) -> list[Any]:
        """All metrics of a binary classification."""
        from trainer.metrics.binary import BinaryClassification

        return [BinaryClassification()]

    def predictions(self, outputs: Any) -> Any:
        """The probability of class 1, (rows,)."""
        return outputs.sigmoid().reshape(-1)


@dataclass
class TinyWithThreshold(TinyTask):
    """The same, with a decision threshold that plugins can tune."""

    threshold: Annotated[float, Field(gt=0, lt=1, description="Rows above it are class 1.")] = 0.5

    name = "tiny-with-threshold"


@dataclass
class TinyImages(Task):
    """Noise images with one bright row, in three classes, with one-hot labels: (rows, 3, 6, 6) and (rows, 3)."""

    train_rows: Annotated[int, Field(ge=0, description="Images to train on.")] = 21
    validation_rows: Annotated[int, Field(ge=0, description="Images of the validation split.")] = 9

    name = "tiny-images"
    defaults = Defaults(epochs=2, batch_size=4, learning_rate=0.1, plugins=())

    def splits(self, run: Run) -> Splits:
        """Each split has its own seed."""
        return Splits(*[_images(size, seed) for seed, size in enumerate((self.train_rows, self.validation_rows))])

    def net(self) -> Any:
        """A linear layer."""
        from trainer.mxnet import gluon

        return gluon.nn.Dense(3)

    def loss(self) -> Any:
        """Softmax cross-entropy for one-hot labels."""
        from trainer.mxnet import gluon

        return gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=False)

    def metrics(self) -> list[Any]:
        """Accuracy, F1 and the rest of a classification into several classes."""
        from trainer.metrics.multiclass import MulticlassClassification

        return [MulticlassClassification(macro_f1=True, classes=self.class_names())]

    def predictions(self, outputs: Any) -> Any:
        """Probabilities, (rows, 3)."""
        return outputs.softmax()

    def class_names(self) -> list[str]:
        """Named by the place of the bright row."""
        return ["top", "middle", "bottom"]

    def pictures(self, inputs: Any) -> Any:
        """Pixels from 0 to 255."""
        return (inputs * 255).clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)


def _images(number: int, seed: int) -> Arrays | None:
    if not number:
        return None
    generator = np.random.default_rng(seed)
    pixels = generator.uniform(0, 0.5, size=(number, 3, 6, 6)).astype(np.float32)
    classes = np.arange(number) % 3
    pixels[np.arange(number), :, 2 * classes] = 1
    return Arrays(pixels, np.eye(3, dtype=np.float32)[classes])


def settings(**values: Any) -> Settings:
    """Two epochs of batches of two, with plain SGD; `values` are other settings, `optimizer` a dictionary."""
    optimizer = {"name": "sgd", "learning_rate": 0.1, **values.pop("optimizer", {})}
    return Settings.checked({"epochs": 2, "batch_size": 2, "seed": 7, "optimizer": optimizer, **values})
