"""Models of tables: rows of a table in; probabilities and classes, or numbers, out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.kinds import Number
from trainer.data.tables.kinds.number import LARGEST
from trainer.data.tables.schema import Schema, quoting_hint
from trainer.data.tables.targets import Classes
from trainer.data.tables.targets.base import is_missing
from trainer.data.tables.values import Indices, column_of, rows_of_the_table
from trainer.errors import UsageError, choose_from, did_you_mean, listed
from trainer.model.ids import Ids, ids_of
from trainer.model.interface import Encoded, ModelInterface, RowSource
from trainer.model.table_outputs import outputs_of

if TYPE_CHECKING:
    import pyarrow as pa

    from trainer.data.tables.sources import Given
    from trainer.data.tables.stream import TableStream

ROWS_IN_CACHE = 1024
"""Rows that are encoded at a time, so that their float64 stays in the processor's cache."""


class TableModel(ModelInterface):
    """Encodes table rows with the schema of the training rows; returns probabilities and the class, or numbers.

    Two classes: `probability` of class 1, and `class`; more: `probability/NAME` of each, and `class`. A number:
    `prediction`, or `prediction/Q` for each of the `quantiles`. `weight_mean` is the mean that the run divided its
    weights by, `delimiter` what its user gave for CSV files; `drop_unlabelled` leaves out rows without a label when the
    model is evaluated. `class_weights` are what `Task.class_weights` gives.
    """

    def __init__(
        self,
        schema: Schema,
        *,
        weight_mean: float = 1.0,
        delimiter: str | None = None,
        drop_unlabelled: bool = False,
        quantiles: Sequence[float] = (),
        class_weights: Sequence[float] | None = None,
    ) -> None:
        self.schema = schema
        self.outputs = outputs_of(schema, quantiles, class_weights)
        self.class_weights = class_weights
        self.drop_unlabelled = drop_unlabelled
        self._weight_mean = weight_mean
        self._delimiter = delimiter
        self._columns = [column.name for column in schema.columns]
        numbers = [column for column in schema.columns if isinstance(column, Number)]
        self._number_columns = numbers if len(numbers) == len(schema.columns) else None

    @classmethod
    def info(
        cls,
        schema: Schema,
        *,
        weight_mean: float = 1.0,
        delimiter: str | None = None,
        drop_unlabelled: bool = False,
        quantiles: Sequence[float] = (),
        class_weights: Sequence[float] | None = None,
    ) -> dict[str, Any]:
        """What `from_info` takes: JSON values, which `model.json` stores, and a table of many categories."""
        vocabulary = schema.vocabulary()
        return {
            "table": schema.to_json(),
            **({} if vocabulary is None else {"vocabulary": vocabulary}),
            "weight_mean": weight_mean,
            "delimiter": delimiter,
            "drop_unlabelled": drop_unlabelled,
            "quantiles": list(quantiles),
            **({} if class_weights is None else {"class_weights": list(class_weights)}),
        }

    @classmethod
    def from_info(cls, info: Mapping[str, Any]) -> TableModel:
        """The interface that `info` describes; raises UsageError for anything else."""
        mean = info.get("weight_mean")
        if not isinstance(mean, (int, float)) or isinstance(mean, bool) or not 0 < mean < float("inf"):
            raise UsageError(f"weight_mean is {mean!r}, not a number > 0")
        delimiter = info.get("delimiter")
        if delimiter is not None and (not isinstance(delimiter, str) or len(delimiter) != 1 or not delimiter.isascii()):
            raise UsageError(f"delimiter is {delimiter!r}, not an ASCII character")
        drops = info.get("drop_unlabelled", False)
        if not isinstance(drops, bool):
            raise UsageError(f"drop_unlabelled is {drops!r}, not true or false")
        quantiles = info.get("quantiles", [])
        if not isinstance(quantiles, list) or not _are_quantiles(quantiles):
            raise UsageError(f"quantiles is {quantiles!r}, not rising numbers between 0 and 1")
        schema = Schema.from_json(info.get("table"), info.get("vocabulary"))
        weights = info.get("class_weights")
        if weights is not None and not _are_class_weights(weights, schema):
            raise UsageError(f"class_weights is {weights!r}, not a number > 0 for each class")
        return cls(
            schema,
            weight_mean=float(mean),
            delimiter=delimiter,
            drop_unlabelled=drops,
            quantiles=quantiles,
            class_weights=weights,
        )

    def open(self, source: Given, *, keep: Sequence[str] | None, judged: bool) -> RowSource:
        """The rows of tables in files, or of CSV on standard input; columns may be in any order."""
        from trainer.data.tables.reading import open_stream

        stream = open_stream(source, usual=self._delimiter)
        try:
            return TableRows(self, stream, keep=keep, judged=judged)
        except BaseException:
            stream.close()
            raise

    def encode(self, data: Any) -> Encoded:
        """Rows in memory: a pyarrow Table or RecordBatch, a data frame, a dict of columns, or an array (rows, columns).

        Columns may be in any order, and extra ones are ignored. An array without column names must have the training
        columns in their order.
        """
        encoded = self._numbers(data)
        if encoded is not None:
            return encoded
        from trainer.data.tables.memory import as_table

        table, where = as_table(data, self._columns), "the data"
        self.check(table.column_names, where)
        # Without the label, whose values need not be known.
        return self.encode_table(table.select(self._columns), where=where)

    def _numbers(self, data: Any) -> Encoded | None:
        """An array of numbers for columns of numbers, encoded without a table; None for anything else.

        The inputs are those of `Number.encode`, in float64 until the last. None also if a value is refused: the way
        through a table says which.
        """
        columns = self._number_columns
        if columns is None or not isinstance(data, np.ndarray) or data.dtype not in (np.float32, np.float64):
            return None
        if data.ndim != 2 or data.shape[1] != len(columns):
            return None
        offsets = np.array([column.mean if column.standardize else 0.0 for column in columns])
        divisors = np.array([column.deviation if column.standardize else 1.0 for column in columns])
        # What `Number.encode` makes of a missing value.
        fills = np.array([0.0 if column.standardize else column.mean for column in columns])
        missing = np.zeros(len(columns), np.int64)
        features = np.empty(data.shape, np.float32)
        held = np.empty((min(len(data), ROWS_IN_CACHE), len(columns)))
        for start in range(0, len(data), ROWS_IN_CACHE):
            part = data[start : start + ROWS_IN_CACHE]
            numbers = held[: len(part)]
            with np.errstate(over="ignore", invalid="ignore"):
                np.subtract(part, offsets, out=numbers)
                numbers /= divisors
            if not _within_float32(numbers):
                absent = np.isnan(part)
                missing += absent.sum(axis=0)
                numbers[absent] = np.broadcast_to(fills, part.shape)[absent]
                if not _within_float32(numbers):
                    return None
            features[start : start + len(part)] = numbers
        counts = {column.name: int(count) for column, count in zip(columns, missing, strict=True) if count}
        return Encoded((features,), len(features), missing=counts)

    def encode_table(
        self, table: pa.Table, *, where: str, numbers: Indices | None = None, kept: Mapping[str, Any] | None = None
    ) -> Encoded:
        """Encodes a table, or a part of one; `numbers` are the rows' numbers in the whole, from 0, for messages.

        Labels and weights are encoded if the table has them.
        """
        with rows_of_the_table(numbers):
            rows = self.schema.encode(table, where=where)
        weights = None if rows.weights is None else (rows.weights / self._weight_mean).astype(np.float32)
        return Encoded(
            rows.inputs,
            table.num_rows,
            rows.labels,
            weights,
            kept=kept or {},
            missing=rows.missing,
            unseen=rows.unseen,
        )

    def check(self, names: Sequence[str], where: str) -> None:
        """Raises UsageError if `names` lacks one of the training columns."""
        absent = [name for name in self._columns if name not in names]
        if absent:
            hints = {name: did_you_mean(name, names) for name in absent}
            hint = " ".join(dict.fromkeys(hint for hint in hints.values() if hint))
            raise UsageError(
                f"columns are missing: {listed(absent)}", where=where, fix=f"It has: {listed(names)}. {hint}".strip()
            )

    def columns(self, predictions: NDArray[Any], threshold: float | None) -> dict[str, Any]:
        """Probabilities and `class`, as in the training table (1 above the threshold, or the likeliest); or numbers."""
        return self.outputs.columns(predictions, threshold)

    def card(self) -> Mapping[str, Any]:
        """The model's columns, and what its predictions refer to."""
        return {
            **self.outputs.card(),
            "columns": {column.name: column.kind for column in self.schema.columns},
            "features": self.schema.feature_names,
            **({"ids": self.schema.id_names} if self.schema.id_names else {}),
            "label": self.schema.label,
        }

    def scaling(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Means and deviations, if every column is numeric and standardised."""
        known = self.schema.columns
        numbers = [column for column in known if column.kind == "number" and column.standardize]
        if len(numbers) < len(known):
            return None
        return np.array([column.mean for column in numbers]), np.array([column.deviation for column in numbers])

    def ids(self) -> Ids | None:
        """The rows of weights of columns of many categories."""
        return ids_of(self.schema)


def _are_quantiles(found: Sequence[Any]) -> bool:
    numbers = all(isinstance(each, float) and 0 < each < 1 for each in found)
    return numbers and all(low < high for low, high in pairwise(found))


def _are_class_weights(found: Any, schema: Schema) -> bool:
    classes = len(schema.target.names) if isinstance(schema.target, Classes) else 0
    numbers = isinstance(found, list) and all(isinstance(each, float) and 0 < each < float("inf") for each in found)
    return numbers and len(found) == max(2, classes)


def _within_float32(numbers: NDArray[np.float64]) -> bool:
    # NaN is not within any bounds.
    return bool(numbers.min() >= -LARGEST and numbers.max() <= LARGEST)


class TableRows:
    """The rows of a table stream, encoded in parts."""

    def __init__(self, interface: TableModel, stream: TableStream, *, keep: Sequence[str] | None, judged: bool) -> None:
        self._interface, self._stream = interface, stream
        schema, names = interface.schema, stream.names
        self.where, self.total = stream.where, stream.total
        self.unseen_means = schema.unseen_means
        self._keep = list(names) if keep is None else list(dict.fromkeys(keep))
        for name in self._keep:
            if name not in names:
                hint = quoting_hint(name, names, "--keep") or choose_from(name, names)
                raise UsageError(f"there is no column {name!r} to keep", where=self.where, fix=hint)
            if name in interface.outputs.names:
                raise UsageError(
                    f"the column {name!r} cannot be kept: the output has a column of that name",
                    where=self.where,
                    fix="Rename it, or list the columns to keep with --keep.",
                )
        from trainer.data.tables.csv_header import check_unique

        interface.check(names, self.where)
        if judged:
            for column, what in ((schema.label, "label"), (schema.weight, "weight")):
                if column is not None and column not in names:
                    hint = choose_from(column, names)
                    raise UsageError(f"the {what} column {column!r} is missing", where=self.where, fix=hint)
        targets = [name for name in (schema.label, schema.weight) if name is not None] if judged else []
        self._wanted = [*(column.name for column in schema.columns), *targets]
        check_unique([*self._wanted, *self._keep], names, self.where)
        self.notes = list(stream.notes)
        self._drops = judged and interface.drop_unlabelled
        self.ignored = [name for name in names if name not in {*self._wanted, *self._keep}]

    @property
    def done(self) -> int:
        return self._stream.done

    def __iter__(self) -> Iterator[Encoded]:
        from trainer.data.tables.reading import located

        before = dropped = 0
        for part in self._stream.parts(list(dict.fromkeys([*self._wanted, *self._keep]))):
            numbers = np.arange(before, before + part.num_rows)
            before += part.num_rows
            if self._drops:
                labelled = ~is_missing(column_of(part, self._interface.schema.label))
                numbers = numbers[labelled]
                dropped += len(labelled) - len(numbers)
                part = part.take(np.flatnonzero(labelled))  # noqa: PLW2901
            if not len(numbers):
                continue
            kept = {name: part.column(name) for name in self._keep}
            table = part.select(self._wanted)
            with located(self._stream):
                encoded = self._interface.encode_table(table, where=self.where, numbers=numbers, kept=kept)
            yield encoded
        if dropped:
            self.notes.append(f"{dropped} of {before} rows have no label and are left out")
        if dropped == before > 0:
            raise UsageError("none of its rows has a label", where=self.where)

    def close(self) -> None:
        self._stream.close()
