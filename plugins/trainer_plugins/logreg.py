"""Classification of tables: logistic regression of two or more classes, with any number of hidden layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainer import Defaults, UsageError
from trainer.data import ClassOptions
from trainer.decisions import without_class_weights
from trainer_plugins.dense_tables import COLUMNS, DenseTables, labels_of
from trainer_plugins.table_starts import log_odds
from trainer_plugins.weighted_classes import notes_on_class_weights, shifted

if TYPE_CHECKING:
    from trainer import ModelInterface
    from trainer.data import Rows, Schema
    from trainer.metrics import Metric

HALF = 0.5
"""The threshold that is used unless another is given."""


@dataclass
class LogisticRegression(ClassOptions, DenseTables):
    """Learns the classes of a table's label column, or those of the tutorial's generated data without --data.

    Two classes: the net ends in one neuron whose output is a logit, and the loss is the binary cross-entropy of its
    sigmoid. More classes: one output per class, and the loss is the cross-entropy of their softmax; with
    --positive-class that class stands against all others, as one of two. Without hidden layers (--hidden "") it is
    plain logistic regression, multinomial for more than two classes. On a table, it then starts at weights of zero
    and at the log odds of the training rows.

    A column of more than --one-hot-limit categories has a row of weights per category: an embedding before the hidden
    layers, or without them a weight per output. --hash-bits hashes categories instead of listing them.

    The generated data has rows of ten standard normal features, with label 1 if their sum is above 3.
    """

    class_weight: Annotated[
        Literal["none", "balanced"], Field(description="Whether all classes have the same weight in the loss.")
    ] = "none"
    keep_weighted_probabilities: Annotated[
        bool,
        Field(
            description="Whether probabilities stay those of the loss with class weights, which are too high for "
            "rare classes."
        ),
    ] = False
    threshold: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            description=f"For two classes: a probability above it is class 1; default: {HALF}, or with class weights "
            "what that becomes without them.",
        ),
    ] = None

    weigh: Callable[[Sequence[str]], NDArray[np.float64]] | None = None
    """A function that gives the weight of each class in the loss from their names, in place of `class_weight`."""

    for_numbers = "trainer run linreg"
    defaults = Defaults(
        epochs=10,
        batch_size=10,
        optimizer="sgd",
        learning_rate=0.1,
        seed=12345,
        plugins=("progress", "metrics-log", "threshold-tuner", "checkpoint", "tensorboard", "report"),
    )

    @property
    def headline(self) -> Sequence[str]:  # type: ignore[override]
        """The losses, the accuracy, and F1; for more than two classes, its mean over the classes.

        If the threshold is tuned, F1 is first the cross-fitted one, which tuning does not flatter.
        """
        losses = ("train/loss", "validation/loss")
        if self.outputs() > 1:
            return (*losses, "validation/accuracy", "validation/macro-f1")
        tuned = ["validation/cross-fitted-f1"] if "threshold-tuner" in self.defaults.plugins else []
        return (*losses, *tuned, "validation/accuracy", "validation/f1")

    def check(self) -> None:
        """Refuses options of a table without one."""
        if self.keep_weighted_probabilities and self.class_weight == "none" and self.weigh is None:
            raise UsageError(
                "the classes have no weights",
                where="--keep-weighted-probabilities",
                fix="Add --class-weight balanced, or leave it out.",
            )
        super().check()

    def adopt(self, schema: Schema) -> None:
        """Takes over what was learned of the table; two classes have a threshold. Raises UsageError if more have."""
        super().adopt(schema)
        if getattr(self, "_threshold_is_ours", False):
            self.threshold = None
        if not schema.target.is_binary and self.threshold is not None:
            raise UsageError(
                f"{schema.label} has {len(schema.target.names)} classes, and the most probable one is predicted",
                where="--threshold",
                fix="Leave it out, or add --positive-class NAME for one class against all others.",
            )
        self._with_threshold()

    def _with_threshold(self) -> None:
        if self.outputs() == 1 and (self.threshold is None or getattr(self, "_threshold_is_ours", False)):
            own = self.class_weights()
            self.threshold = HALF if own is None else float(without_class_weights(np.array(HALF), own))
            self._threshold_is_ours = True

    def outputs(self) -> int:
        """The neurons of the last layer: one for two classes."""
        classes = len(self.class_names())
        return classes if classes > 2 else 1

    def constant_outputs(self, labels: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The log odds of class 1, or the centred logarithms of the classes' shares."""
        return log_odds(labels, weights, outputs=self.outputs())

    def row_weights(self, train: Rows) -> NDArray[np.float32] | None:
        """The class weights of scikit-learn's "balanced": rows / (classes × rows of the class).

        Sums of weights take the place of numbers of rows if the rows have weights. They apply to the training loss
        only: metrics with them would describe data in which all classes are equally frequent.
        """
        # A derived class may have rows of two classes from elsewhere, without `adopt`.
        self._with_threshold()
        self._weights_in_loss: NDArray[np.float64] | None = None
        if self.class_weight == "none" and self.weigh is None:
            return None
        classes, numbers = max(2, self.outputs()), labels_of(train).astype(int)
        if self.weigh is not None:
            per_class = np.asarray(self.weigh(self.class_names()), np.float64)
        else:
            counts = np.bincount(numbers, weights=train.weights, minlength=classes)
            per_class = counts.sum() / (float(classes) * counts)
        self._weights_in_loss = per_class
        self._with_threshold()
        weights: NDArray[np.float32] = per_class.astype(np.float32)[numbers]
        return weights

    def class_weights(self) -> NDArray[np.float64] | None:
        """Those of the loss, unless the probabilities keep them."""
        return None if self.keep_weighted_probabilities else getattr(self, "_weights_in_loss", None)

    def notes(self) -> Sequence[str]:
        """What the table's reader had to decide, and what class weights do."""
        return [*super().notes(), *notes_on_class_weights(self)]

    def generated(self, seed: int) -> Sequence[Rows]:
        """The tutorial's data, drawn in its order: training rows, then validation rows, from one seed."""
        from trainer.data import Classes, Number, Rows, Schema
        from trainer.mxnet import mx

        mx.random.seed(seed)
        splits = []
        for rows in (self.train_rows, self.validation_rows):
            features = mx.nd.random.normal(0, 1, shape=(rows, COLUMNS), ctx=mx.cpu())
            labels = features.sum(axis=1) > 3
            splits.append(Rows(features.asnumpy(), labels.asnumpy(), None, {}))
        columns = tuple(Number(f"x{number}", standardize=False) for number in range(1, COLUMNS + 1))
        self.adopt(Schema(columns, "label", Classes(("0", "1"), "number")))
        self._lines = [
            f"{self.train_rows} training and {self.validation_rows} validation rows of ten standard normal features; "
            "label 1 if their sum is above 3"
        ]
        return splits

    def loss(self) -> Any:
        """The binary cross-entropy of the sigmoid of the output, or the cross-entropy of the softmax of several."""
        from trainer.mxnet import gluon

        if self.outputs() == 1:
            return gluon.loss.SigmoidBinaryCrossEntropyLoss()
        return gluon.loss.SoftmaxCrossEntropyLoss()

    def metrics(self) -> Sequence[Metric]:
        """The usual metrics of two classes or of several, over all rows of an evaluation."""
        from trainer.metrics import BinaryClassification, MulticlassClassification

        if self.outputs() == 1:
            return [BinaryClassification(HALF if self.threshold is None else self.threshold)]
        names, own = self.class_names(), self.class_weights()
        return [MulticlassClassification.of_classes(names, probabilities=True, class_weights=own)]

    def model_interface(self, info: Mapping[str, Any]) -> ModelInterface:
        """As of every table, with the class weights."""
        interface = super().model_interface(info)
        own = getattr(interface, "class_weights", None)
        if own is not None:
            self._weights_in_loss = np.array(own)
        return interface

    def predictions(self, outputs: Any) -> Any:
        """The probability of class 1, (rows,), or of each class, (rows, classes), without the class weights."""
        own = self.class_weights()
        if own is not None:
            outputs = shifted(outputs, np.log(own))
        # Not log_softmax and exp: with oneDNN their error is ten times as large.
        return outputs.sigmoid().reshape(-1) if self.outputs() == 1 else outputs.softmax(axis=-1)
