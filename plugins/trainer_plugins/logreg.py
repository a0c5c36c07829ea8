"""Classification of tables: logistic regression of two or more classes, with any number of hidden layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainer import Arrays, Defaults, Run, Splits, Task, UsageError
from trainer.data import TableOptions

if TYPE_CHECKING:
    from trainer import ModelInterface
    from trainer.data import Rows, Schema
    from trainer.metrics import Metric

Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(gt=0)]
HALF = 0.5
"""The threshold that is used unless another is given."""


@dataclass
class LogisticRegression(TableOptions, Task):
    """Learns the classes of a table's label column, or those of the tutorial's generated data without --data.

    Two classes: the net ends in one neuron whose output is a logit, and the loss is the binary cross-entropy of its
    sigmoid. More classes: one output per class, and the loss is the cross-entropy of their softmax; with
    --positive-class that class stands against all others, as one of two. Without hidden layers (--hidden "") it is
    plain logistic regression, multinomial for more than two classes.

    The generated data has rows of ten standard normal features, with label 1 if their sum is above 3.
    """

    hidden: Annotated[tuple[Positive, ...], Field(description="Neurons per hidden layer; empty: no hidden layer.")] = (
        10,
        10,
        10,
    )
    activation: Annotated[
        Literal["relu", "sigmoid", "tanh", "softrelu", "softsign"],
        Field(description="The activation after each hidden layer."),
    ] = "relu"
    dropout: Annotated[Fraction, Field(description="The fraction of each hidden layer that training drops.")] = 0.0
    class_weight: Annotated[
        Literal["none", "balanced"], Field(description="Whether all classes have the same weight in the loss.")
    ] = "none"
    threshold: Annotated[
        float | None,
        Field(ge=0, le=1, description=f"For two classes: a probability above it is class 1; default: {HALF}."),
    ] = None
    train_rows: Annotated[Positive, Field(description="Rows of generated training data.")] = 1000
    validation_rows: Annotated[Positive, Field(description="Rows of generated validation data.")] = 100

    for_numbers = "trainer run linreg"
    defaults = Defaults(
        epochs=10,
        batch_size=10,
        optimizer="sgd",
        learning_rate=0.1,
        seed=12345,
        plugins=("progress", "metrics-log", "threshold-tuner", "checkpoint", "tensorboard", "report"),
    )
    evaluation_batch_size = 4096

    @property
    def headline(self) -> Sequence[str]:  # type: ignore[override]
        """The losses, the accuracy, and F1; for more than two classes, its mean over the classes."""
        f1 = "f1" if self._outputs() == 1 else "macro-f1"
        return ("train/loss", "validation/loss", "validation/accuracy", f"validation/{f1}")

    def check(self) -> None:
        """Refuses options of a table without one."""
        if self.data:
            return
        # A derived class may have rows of two classes from elsewhere.
        self._with_threshold()
        for option in ("label", "positive_class", "features", "ignore", "categorical", "numeric", "delimiter",
                       "validation_data", "test_data",
                       "sample_weight", "drop_unlabelled", "group", "time", "time_gap", "split"):  # fmt: skip
            if getattr(self, option):
                flag = f"--{option.replace('_', '-')}"
                raise UsageError("it needs a table", where=flag, fix=f"Add --data FILE, or leave {flag} out.")

    def splits(self, run: Run) -> Splits:
        """The table's splits, or generated ones; weights are scaled to a mean of 1 over the training rows."""
        if not self.data:
            return self._generated(run.settings.seed)
        from trainer.data import describe, load_splits

        table = load_splits(self, seed=run.settings.seed)
        self._lines, self._notes = describe(table), table.notes
        self._adopt(table.schema)
        splits = self._weighted(table.train, table.validation, table.test)
        version, files = table.split_version, table.files
        return Splits(*splits, split_version=version, files=files, fingerprint=table.fingerprint)

    def _adopt(self, schema: Schema) -> None:
        """Takes over what was learned of the table; two classes have a threshold. Raises UsageError if more have."""
        self._schema = schema
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
        if self._outputs() == 1 and self.threshold is None:
            self.threshold, self._threshold_is_ours = HALF, True

    def _outputs(self) -> int:
        """The neurons of the last layer: one for two classes."""
        classes = len(self.class_names())
        return classes if classes > 2 else 1

    def _weighted(self, train: Rows, *others: Rows | None) -> list[Arrays | None]:
        """The splits as arrays with the weights of the rows; for training, multiplied by those of their class.

        The class weights are those of scikit-learn's "balanced": rows / (classes × rows of the class); sums of weights
        take the place of numbers of rows if the rows have weights. They apply to the training loss only: metrics with
        them would describe data in which all classes are equally frequent. Dividing by the mean over the training rows
        keeps the meaning of the learning rate.
        """
        self._weight_mean = 1.0
        classes = max(2, self._outputs())
        per_class = np.ones(classes, np.float32)
        if self.class_weight == "balanced":
            counts = np.bincount(_labels(train).astype(int), weights=train.weights, minlength=classes)
            per_class = (counts.sum() / (float(classes) * counts)).astype(np.float32)
        if self.class_weight == "none" and train.weights is None:
            return [None if rows is None else Arrays(rows.features, _labels(rows)) for rows in (train, *others)]
        arrays: list[Arrays | None] = []
        if train.weights is not None:
            self._weight_mean = float(train.weights.mean(dtype=np.float64))
        for rows in (train, *others):
            if rows is None:
                arrays.append(None)
                continue
            weights = np.ones(len(_labels(rows)), np.float32) if rows.weights is None else rows.weights
            mean = self._weight_mean
            if rows is train:
                weights = weights * per_class[_labels(rows).astype(int)]
                mean = float(weights.mean(dtype=np.float64))
            # One column, like the loss of a row, since the loss multiplies the two.
            arrays.append(Arrays(rows.features, _labels(rows), (weights / mean).astype(np.float32).reshape(-1, 1)))
        return arrays

    def _generated(self, seed: int) -> Splits:
        """The tutorial's data, drawn in its order: training rows, then validation rows, from one seed."""
        from trainer.data import Rows
        from trainer.mxnet import mx

        mx.random.seed(seed)
        splits = []
        for rows in (self.train_rows, self.validation_rows):
            features = mx.nd.random.normal(0, 1, shape=(rows, 10), ctx=mx.cpu())
            labels = features.sum(axis=1) > 3
            splits.append(Rows(features.asnumpy(), labels.asnumpy(), None, {}))
        self._adopt(_generated_schema())
        self._lines = [
            f"{self.train_rows} training and {self.validation_rows} validation rows of ten standard normal features; "
            "label 1 if their sum is above 3"
        ]
        return Splits(*self._weighted(*splits))

    def work(self, batch_size: int) -> float:
        """The multiplications of the dense layers. Each column of a table counts once, however it is encoded."""
        widths = [self._columns(), *self.hidden, 1]
        return float(batch_size * sum(before * after for before, after in pairwise(widths)))

    def work_layers(self) -> int:
        """The dense layers."""
        return len(self.hidden) + 1

    def _columns(self) -> int:
        if not self.data:
            return 10
        if self.features:
            return len(self.features)
        from trainer.data import open_stream

        with closing(open_stream(self.data, delimiter=self.delimiter)) as table:
            # Without the ignored columns and the label.
            return max(1, len({*table.names} - {*self.ignore, self.label}))

    def net(self) -> Any:
        """Dense layers, each with activation and dropout, then one neuron; one per class if there are more than two."""
        from trainer.mxnet import gluon

        net = gluon.nn.HybridSequential()
        for units in self.hidden:
            net.add(gluon.nn.Dense(units, activation=self.activation))
            if self.dropout:
                net.add(gluon.nn.Dropout(self.dropout))
        net.add(gluon.nn.Dense(self._outputs()))
        return net

    def loss(self) -> Any:
        """The binary cross-entropy of the sigmoid of the output, or the cross-entropy of the softmax of several."""
        from trainer.mxnet import gluon

        if self._outputs() == 1:
            return gluon.loss.SigmoidBinaryCrossEntropyLoss()
        return gluon.loss.SoftmaxCrossEntropyLoss()

    def metrics(self) -> Sequence[Metric]:
        """The usual metrics of two classes or of several, over all rows of an evaluation."""
        from trainer.metrics import BinaryClassification, MulticlassClassification

        if self._outputs() == 1:
            return [BinaryClassification(HALF if self.threshold is None else self.threshold)]
        return [MulticlassClassification.of_classes(self.class_names(), probabilities=True)]

    def predictions(self, outputs: Any) -> Any:
        """The probability of class 1, (rows,), or of each class, (rows, classes)."""
        # Not log_softmax and exp: with oneDNN their error is ten times as large.
        return outputs.sigmoid().reshape(-1) if self._outputs() == 1 else outputs.softmax(axis=-1)

    def model_info(self) -> Mapping[str, Any]:
        """What was learned of the table; empty for a derived class with rows from elsewhere."""
        from trainer.model import TableModel

        schema = getattr(self, "_schema", None)
        if schema is None:
            return {}
        return TableModel.info(
            schema,
            weight_mean=self._weight_mean,
            delimiter=self.delimiter,
            drop_unlabelled=self.drop_unlabelled,
        )

    def model_interface(self, info: Mapping[str, Any]) -> ModelInterface:
        """Takes tables with the training columns; gives probabilities and class."""
        from trainer.model import TableModel

        if not info:
            return super().model_interface(info)
        interface = TableModel.from_info(info)
        self._adopt(interface.schema)
        return interface

    def feature_names(self) -> Sequence[str]:
        """The table's encoded columns, one per category of a text column."""
        schema = getattr(self, "_schema", None)
        return () if schema is None else schema.feature_names

    def feature_columns(self) -> Sequence[str]:
        """The column of each feature."""
        schema = getattr(self, "_schema", None)
        return () if schema is None else [column.name for column in schema.columns for _ in column.feature_names]

    def class_names(self) -> Sequence[str]:
        """The labels of the table."""
        schema = getattr(self, "_schema", None)
        return () if schema is None else schema.target.names

    def describe(self) -> Sequence[str]:
        """What was read, and how the labels were understood."""
        return self._lines

    def notes(self) -> Sequence[str]:
        """What the table's reader had to decide."""
        return getattr(self, "_notes", ())


def _generated_schema() -> Schema:
    """The schema of the generated data: columns `x1` to `x10`, not standardized, and a label of 0 and 1."""
    from trainer.data import Classes, Number, Schema

    columns = tuple(Number(f"x{number}", standardize=False) for number in range(1, 11))
    return Schema(columns, "label", Classes(("0", "1"), "number"))


def _labels(rows: Rows) -> NDArray[np.float32]:
    assert rows.labels is not None  # noqa: S101  splits are read with their label column
    return rows.labels
