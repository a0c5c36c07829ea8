"""Binary classification with a one-output net: logistic regression, with any number of hidden layers."""

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


@dataclass
class LogisticRegression(TableOptions, Task):
    """Learns two classes from a table, or from the tutorial's generated data without --data.

    The net ends in one neuron whose output is a logit; the loss is the binary cross-entropy of its sigmoid. Without
    hidden layers (--hidden "") it is plain logistic regression.

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
        Literal["none", "balanced"], Field(description="Whether both classes have the same weight in the loss.")
    ] = "none"
    threshold: Annotated[float, Field(ge=0, le=1, description="A probability above it counts as class 1.")] = 0.5
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
    headline = ("train/loss", "validation/loss", "validation/accuracy", "validation/f1")
    evaluation_batch_size = 4096

    def check(self) -> None:
        """Refuses options of a table without one."""
        if self.data is not None:
            return
        for option in ("label", "positive_class", "features", "ignore", "categorical", "numeric", "delimiter",
                       "validation_data", "test_data",
                       "sample_weight"):  # fmt: skip
            if getattr(self, option):
                flag = f"--{option.replace('_', '-')}"
                raise UsageError("it needs a table", where=flag, fix=f"Add --data FILE, or leave {flag} out.")

    def splits(self, run: Run) -> Splits:
        """The table's splits, or generated ones; weights are scaled to a mean of 1 over the training rows."""
        if self.data is None:
            return self._generated(run.settings.seed)
        from trainer.data import describe, load_splits

        table = load_splits(self, seed=run.settings.seed)
        if not table.schema.target.is_binary:
            raise UsageError(
                f"the label column {self.label!r} has {len(table.schema.target.names)} classes",
                where=str(self.data),
                fix="Two classes are needed; --positive-class makes them of one class and all others.",
            )
        self._lines, self._notes = describe(table), table.notes
        self._schema = table.schema
        splits = self._weighted(table.train, table.validation, table.test)
        return Splits(*splits, split_version=table.split_version)

    def _weighted(self, train: Rows, *others: Rows | None) -> list[Arrays | None]:
        """The splits as arrays with the weights of the rows; for training, multiplied by those of their class.

        The class weights are those of scikit-learn's "balanced": rows / (2 × rows of the class); sums of weights take
        the place of numbers of rows if the rows have weights. They apply to the training loss only: metrics with them
        would describe data in which both classes are equally frequent. Dividing by the mean over the training rows
        keeps the meaning of the learning rate.
        """
        self._weight_mean = 1.0
        per_class = np.ones(2, np.float32)
        if self.class_weight == "balanced":
            counts = np.bincount(_labels(train).astype(int), weights=train.weights, minlength=2)
            per_class = (counts.sum() / (2.0 * counts)).astype(np.float32)
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
            # One column, as wide as the net's output, since the loss multiplies the two.
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
        self._schema = _generated_schema()
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
        if self.data is None:
            return 10
        if self.features:
            return len(self.features)
        from trainer.data import open_stream

        with closing(open_stream(str(self.data), delimiter=self.delimiter)) as table:
            # Without the ignored columns and the label.
            return max(1, len({*table.names} - {*self.ignore, self.label}))

    def net(self) -> Any:
        """Dense layers, each with activation and dropout, then one neuron."""
        from trainer.mxnet import gluon

        net = gluon.nn.HybridSequential()
        for units in self.hidden:
            net.add(gluon.nn.Dense(units, activation=self.activation))
            if self.dropout:
                net.add(gluon.nn.Dropout(self.dropout))
        net.add(gluon.nn.Dense(1))
        return net

    def loss(self) -> Any:
        """The binary cross-entropy of the sigmoid of the output."""
        from trainer.mxnet import gluon

        return gluon.loss.SigmoidBinaryCrossEntropyLoss()

    def metrics(self) -> Sequence[Metric]:
        """The usual metrics of two classes, over all rows of an evaluation."""
        from trainer.metrics import BinaryClassification

        return [BinaryClassification(self.threshold)]

    def predictions(self, outputs: Any) -> Any:
        """The probability of class 1, (rows,)."""
        return outputs.sigmoid().reshape(-1)

    def model_info(self) -> Mapping[str, Any]:
        """What was learned of the table; empty for a derived class with rows from elsewhere."""
        from trainer.model import BinaryTable

        schema = getattr(self, "_schema", None)
        return (
            {} if schema is None else BinaryTable.info(schema, weight_mean=self._weight_mean, delimiter=self.delimiter)
        )

    def model_interface(self, info: Mapping[str, Any]) -> ModelInterface:
        """Takes tables with the training columns; gives probability and class."""
        from trainer.model import BinaryTable

        return BinaryTable.from_info(info) if info else super().model_interface(info)

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
