"""What tasks on tables share: nets of dense layers, the splits of a table as arrays, and the model of a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainer import Arrays, EmbeddedCategories, Run, Splits, Task, UsageError
from trainer.data import TableOptions
from trainer_plugins.table_starts import Start
from trainer_plugins.table_updates import Updates, check_without_ids, inputs_of, is_lazy, notes_on_hidden_layers

if TYPE_CHECKING:
    from trainer import ModelInterface
    from trainer.data import Rows, Schema

Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(gt=0)]
COLUMNS = 10
"""Columns of generated data."""
STARTING_ROWS = 1 << 20
"""The most training rows that the start is computed from: more would not change it noticeably."""
HARMLESS = ("validation_split", "test_split", "calibration_split", "standardize")
"""Options of a table that have a default."""


@dataclass
class DenseTables(TableOptions, Task):
    """A task that learns from a table, or from generated rows without --data, with a net of dense layers."""

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
    updates: Annotated[
        Updates,
        Field(
            description="Which weights of columns beyond --one-hot-limit a step updates: lazy: those that its batch "
            "uses; dense: all; auto: lazy unless weight decay or momentum is set."
        ),
    ] = "auto"
    start: Annotated[
        Start,
        Field(
            description="How the last layer starts. zero: weights of 0, and the bias at the best constant prediction "
            "for the training rows, such as their log odds; random: drawn from the seed; auto: zero for a table "
            "without hidden layers."
        ),
    ] = "auto"
    train_rows: Annotated[Positive, Field(description="Rows of generated training data.")] = 1000
    validation_rows: Annotated[Positive, Field(description="Rows of generated validation data.")] = 100

    network: Callable[..., Any] | None = None
    """A function that gives the net in place of the dense layers; its parameter `outputs` says how many it needs."""

    evaluation_batch_size = 4096

    def check(self) -> None:
        """Refuses options of a table without one, and options that contradict each other."""
        if self.network is not None and self.start == "zero":
            raise UsageError("the net is your own, and starts as it does", where="--start", fix="Leave it out.")
        if self.data:
            self.check_categories()
            return
        defaults = {field.name: field.default for field in fields(TableOptions)} | {"positive_class": None}
        for option, default in defaults.items():
            if option not in HARMLESS and getattr(self, option, default) != default:
                flag = f"--{option.replace('_', '-')}"
                raise UsageError("it needs a table", where=flag, fix=f"Add --data FILE, or leave {flag} out.")

    # ---- data --------------------------------------------------------------------------------------------------------

    def splits(self, run: Run) -> Splits:
        """The table's splits, or generated ones; weights are scaled to a mean of 1 over the training rows."""
        self._notes = notes_on_hidden_layers(run) if self.hidden and self.network is None else []
        if not self.data:
            generated = self._weighted(*self.generated(run.settings.seed))
            self._choose_start(generated[0])
            return Splits(*generated, reweighted=self._reweighted)
        from trainer.data import describe, load_splits

        self._is_lazy = is_lazy(self.updates, run)
        memory = run.settings.memory_bytes(run.processes.local_size)
        table = load_splits(self, seed=run.settings.seed, memory=memory, processes=run.processes)
        self._lines, self._notes = describe(table), [*table.notes, *self._notes]
        self.adopt(table.schema)
        *splits, calibration = self._weighted(table.train, table.validation, table.test, table.calibration)
        self._choose_start(splits[0])
        version, files = table.split_version, table.files
        return Splits(
            *splits,
            calibration=calibration,
            slices=table.slices,
            split_version=version,
            files=files,
            fingerprint=table.fingerprint,
            reweighted=self._reweighted,
        )

    def generated(self, seed: int) -> Sequence[Rows]:
        """Training and validation rows without a table, drawn from a seed; calls `adopt` and sets `_lines`."""
        raise NotImplementedError

    def adopt(self, schema: Schema) -> None:
        """Takes over what was learned of the table. Raises UsageError if options do not fit it."""
        self._schema = schema

    def row_weights(self, train: Rows) -> NDArray[np.float32] | None:
        """What the weights of the training rows, (rows,), are multiplied with in the loss; None for nothing."""
        return None

    def _weighted(self, train: Rows, *others: Rows | None) -> list[Arrays | None]:
        """The splits as arrays with the weights of the rows; for training, multiplied by `row_weights`.

        Dividing by the mean over the training rows keeps the meaning of the learning rate.
        """
        self._weight_mean = 1.0
        further = self.row_weights(train)
        self._reweighted = further is not None
        if further is None and train.weights is None:
            return [None if rows is None else arrays_of(rows) for rows in (train, *others)]
        arrays: list[Arrays | None] = []
        if train.weights is not None:
            self._weight_mean = float(train.weights.mean(dtype=np.float64))
        for rows in (train, *others):
            if rows is None:
                arrays.append(None)
                continue
            weights = np.ones(len(labels_of(rows)), np.float32) if rows.weights is None else rows.weights
            mean = self._weight_mean
            if rows is train and further is not None:
                weights = weights * further
                mean = float(weights.mean(dtype=np.float64))
            # One column, like the loss of a row, since the loss multiplies the two.
            arrays.append(arrays_of(rows, (weights / mean).astype(np.float32).reshape(-1, 1)))
        return arrays

    # ---- the net -----------------------------------------------------------------------------------------------------

    def outputs(self) -> int:
        """The neurons of the last layer."""
        return 1

    def constant_outputs(self, labels: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The outputs (outputs,) with the least loss over the training rows if they are the same for all rows."""
        raise NotImplementedError

    def _choose_start(self, train: Arrays | None) -> None:
        """Sets the start of the last layer's bias; None if it is drawn like everything else."""
        self._start: NDArray[np.float64] | None = None
        by_default = bool(self.data) and not self.hidden
        if train is not None and (self.start == "zero" or (self.start == "auto" and by_default)):
            # Rows at equal distances, so that a table that is sorted by its label gives the same.
            every = -(-len(train) // STARTING_ROWS)
            labels, weights = train.labels[::every], None if train.weights is None else train.weights[::every]
            weights = np.ones(len(labels)) if weights is None else weights.reshape(-1).astype(np.float64)
            self._start = self.constant_outputs(labels, weights)

    def net(self) -> Any:
        """Dense layers, each with activation and dropout, then one of the outputs; or the caller's own net.

        Before them, or beside the only one, are the weights of columns of many categories.
        """
        tables = () if self.schema is None else self.schema.id_tables
        if self.network is not None:
            from trainer_plugins.own_net import own_net

            check_without_ids(tables)
            return own_net(self.network, outputs=self.outputs(), features=len(self.feature_names()))
        from trainer.mxnet import gluon

        if tables and not self.hidden:
            return self._with_ids(None)
        net = gluon.nn.HybridSequential()
        for units in self.hidden:
            net.add(gluon.nn.Dense(units, activation=self.activation))
            if self.dropout:
                net.add(gluon.nn.Dropout(self.dropout))
        net.add(gluon.nn.Dense(self.outputs(), **self._last_layer()))
        return self._with_ids(net) if tables else net

    def _last_layer(self) -> dict[str, Any]:
        """The initializers of the last layer; empty for those of all others."""
        from trainer.mxnet import mx

        start = getattr(self, "_start", None)
        if start is None:
            return {}
        return {"weight_initializer": "zeros", "bias_initializer": mx.init.Constant(start.astype(np.float32))}

    def _with_ids(self, body: Any | None) -> Any:
        from trainer_plugins.table_net import TableNet

        assert self.schema is not None  # noqa: S101  it has the ids
        return TableNet(
            self.schema.id_tables,
            body,
            outputs=self.outputs(),
            has_numbers=bool(self.schema.feature_names),
            is_lazy=getattr(self, "_is_lazy", False),
            last_layer=self._last_layer(),
        )

    def is_linear(self) -> bool:
        """Whether there are no hidden layers."""
        return not self.hidden

    def work(self, batch_size: int) -> float:
        """The multiplications of the dense layers. Each column of a table counts once, however it is encoded."""
        widths = [self._columns(), *self.hidden, 1]
        return float(batch_size * sum(before * after for before, after in pairwise(widths)))

    def work_layers(self) -> int:
        """The dense layers."""
        return len(self.hidden) + 1

    def _columns(self) -> int:
        if not self.data:
            return COLUMNS
        if self.features:
            return len(self.features)
        from trainer.data import open_stream

        with closing(open_stream(self.data, delimiter=self.delimiter)) as table:
            # Without the ignored columns and the label.
            return max(1, len({*table.names} - {*self.ignore, self.label}))

    # ---- the model ---------------------------------------------------------------------------------------------------

    def quantiles_predicted(self) -> Sequence[float]:
        """The quantiles that the model predicts; empty for anything else."""
        return ()

    def model_info(self) -> Mapping[str, Any]:
        """What was learned of the table; empty for a derived class with rows from elsewhere."""
        from trainer.model import TableModel

        schema = self.schema
        if schema is None:
            return {}
        return TableModel.info(
            schema,
            weight_mean=self._weight_mean,
            delimiter=self.delimiter,
            drop_unlabelled=self.drop_unlabelled,
            quantiles=self.quantiles_predicted(),
            class_weights=None if (weights := self.class_weights()) is None else weights.tolist(),
        )

    def model_interface(self, info: Mapping[str, Any]) -> ModelInterface:
        """Takes tables with the training columns; gives the columns of the predictions."""
        from trainer.model import TableModel

        if not info:
            return super().model_interface(info)
        interface = TableModel.from_info(info)
        self.adopt(interface.schema)
        return interface

    # ---- what is known of the table ----------------------------------------------------------------------------------

    @property
    def schema(self) -> Schema | None:
        """What was learned of the table; None before `splits`."""
        return getattr(self, "_schema", None)

    def feature_names(self) -> Sequence[str]:
        """The table's encoded columns, one per category of a text column."""
        return () if self.schema is None else self.schema.feature_names

    def feature_columns(self) -> Sequence[str]:
        """The column of each feature."""
        columns = () if self.schema is None else self.schema.columns
        return [column.name for column in columns for _ in column.feature_names]

    def embeddings(self, most: int) -> Sequence[EmbeddedCategories]:
        """The columns of many categories, unless they are hashed or the net is linear."""
        from trainer_plugins.table_net import embedding_name

        if self.schema is None or self.is_linear():
            return ()
        return [
            EmbeddedCategories(column.name, f"{embedding_name(number)}.weight", first, column.most_frequent(most))
            for number, table in enumerate(self.schema.id_tables)
            for column, first in zip(table.columns, table.offsets, strict=True)
            if column.kind == "embedded"
        ]

    def class_names(self) -> Sequence[str]:
        """The labels of the table; empty for a number."""
        return () if self.schema is None else self.schema.target.names

    def describe(self) -> Sequence[str]:
        """What was read, and how the labels were understood."""
        return self._lines

    def notes(self) -> Sequence[str]:
        """What the table's reader had to decide."""
        return getattr(self, "_notes", ())


def arrays_of(rows: Rows, weights: NDArray[np.float32] | None = None) -> Arrays:
    """Rows as the engine takes them, in memory or mapped."""
    from trainer.data import MappedArrays

    if rows.prefetch is None:
        return Arrays(inputs_of(rows), labels_of(rows), weights)
    return MappedArrays(inputs_of(rows), labels_of(rows), weights, prefetch=rows.prefetch)


def labels_of(rows: Rows) -> NDArray[np.float32]:
    """The labels of rows that were read with their label column."""
    assert rows.labels is not None  # noqa: S101  splits are read with their label column
    return rows.labels
