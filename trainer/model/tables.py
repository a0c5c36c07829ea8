"""Tables into a model of two classes, and probabilities and classes out of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.cast import as_learned
from trainer.data.columns import rows_of_the_table
from trainer.data.schema import Schema
from trainer.data.stream import TableStream, open_stream
from trainer.errors import UsageError, did_you_mean, listed
from trainer.model.interface import Encoded, ModelInterface

if TYPE_CHECKING:
    import pyarrow as pa

PROBABILITY, CLASS = "probability", "class"


class BinaryTable(ModelInterface):
    """Rows of a table, encoded by the schema of the training rows; the probability of class 1 and the class come out.

    `weight_mean` is what the run divided the weights by.
    """

    def __init__(self, schema: Schema, *, weight_mean: float = 1.0) -> None:
        self.schema = schema
        self._weight_mean = weight_mean
        self._columns = [column.name for column in schema.columns]
        whole = all(_is_whole(label) for label in (schema.labels.negative, schema.labels.positive))
        kind = int if whole else str
        self._classes = [kind(schema.labels.negative), kind(schema.labels.positive)]

    @classmethod
    def info(cls, schema: Schema, *, weight_mean: float = 1.0) -> dict[str, Any]:
        """What `model.json` has to hold for `from_info`."""
        return {"table": schema.to_json(), "weight_mean": weight_mean}

    @classmethod
    def from_info(cls, info: Mapping[str, Any]) -> BinaryTable:
        """Back from `info`; raises UsageError for anything else."""
        mean = info.get("weight_mean")
        if not isinstance(mean, (int, float)) or isinstance(mean, bool) or not 0 < mean < float("inf"):
            raise UsageError(f"weight_mean is {mean!r}, not a number above 0")
        return cls(Schema.from_json(info.get("table")), weight_mean=float(mean))

    def open(self, source: str, *, keep: Sequence[str] | None, judged: bool) -> TableRows:
        """A CSV or Parquet file, or CSV on standard input; its columns in any order."""
        stream = open_stream(source)
        try:
            return TableRows(self, stream, keep=keep, judged=judged)
        except BaseException:
            stream.close()
            raise

    def encode(self, data: Any) -> Encoded:
        """Rows in memory: a pyarrow Table or RecordBatch, a data frame, a dict of columns, or an array (rows, columns).

        Columns may be in any order, and others are ignored; those of an array without names are taken to be the
        training columns in their order.
        """
        table, where = _as_table(data, self._columns), "the data"
        self.check(table.column_names, where)
        # Without the label, which need not be one that was learned.
        return self.encode_table(table.select(self._columns), where=where)

    def encode_table(
        self, table: pa.Table, *, where: str, before: int = 0, kept: Mapping[str, Any] | None = None
    ) -> Encoded:
        """A table, or the part of one that has `before` rows before it, which row numbers in messages count.

        Its labels and weights are encoded where it has them.
        """
        with rows_of_the_table(np.arange(before, before + table.num_rows)):
            rows = self.schema.encode(as_learned(table, self.schema), where=where)
        weights = None if rows.weights is None else (rows.weights / self._weight_mean).astype(np.float32)
        return Encoded(
            (rows.features,),
            table.num_rows,
            rows.labels,
            weights,
            kept=kept or {},
            missing=rows.missing,
            unseen=rows.unseen,
        )

    def check(self, names: Sequence[str], where: str) -> None:
        """Raises UsageError where a table with these columns lacks one of the training columns."""
        absent = [name for name in self._columns if name not in names]
        if absent:
            hints = {name: did_you_mean(name, names) for name in absent}
            hint = " ".join(dict.fromkeys(hint for hint in hints.values() if hint))
            raise UsageError(
                f"it lacks the columns {listed(absent)}", where=where, fix=f"It has: {listed(names)}. {hint}".strip()
            )

    def columns(self, predictions: NDArray[Any], threshold: float | None) -> dict[str, Any]:
        """`probability`, of class 1; `class`, as the training table has it, 1 where the probability is above."""
        import pyarrow as pa

        probability = predictions.reshape(-1)
        found: dict[str, Any] = {PROBABILITY: pa.array(probability)}
        if threshold is not None:
            # In float64, as the metrics compare; the threshold has more digits than a float32.
            above = probability.astype(np.float64) > threshold
            found[CLASS] = pa.array(self._classes).take(pa.array(above.astype(np.int8)))
        return found

    def card(self) -> Mapping[str, Any]:
        """The columns it wants, and what its probability is of."""
        labels = self.schema.labels
        return {
            "predicts": f"the probability that {self.schema.label} is {labels.positive!r} rather than "
            f"{labels.negative!r}",
            "columns": {column.name: column.kind for column in self.schema.columns},
            "features": self.schema.feature_names,
            "classes": [labels.negative, labels.positive],
            "label": self.schema.label,
        }

    def scaling(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Where every column is one of numbers, and is standardised."""
        known = self.schema.columns
        if not self.schema.standardize or any(column.kind != "numeric" for column in known):
            return None
        return np.array([column.mean for column in known]), np.array([column.deviation for column in known])


class TableRows:
    """The rows of a table stream, encoded a part at a time."""

    def __init__(
        self, interface: BinaryTable, stream: TableStream, *, keep: Sequence[str] | None, judged: bool
    ) -> None:
        self._interface, self._stream = interface, stream
        schema, names = interface.schema, stream.names
        self.where, self.total = stream.where, stream.total
        self._keep = list(names) if keep is None else list(dict.fromkeys(keep))
        for name in self._keep:
            if name not in names:
                hint = did_you_mean(name, names) or f"It has: {listed(names)}."
                raise UsageError(f"there is no column {name!r} to keep", where=self.where, fix=hint)
            if name in (PROBABILITY, CLASS):
                raise UsageError(
                    f"the column {name!r} cannot be kept: the output has one of its own",
                    where=self.where,
                    fix="Rename it, or name the columns to keep with --keep.",
                )
        interface.check(names, self.where)
        if judged:
            for column, what in ((schema.label, "label"), (schema.weight, "weight")):
                if column is not None and column not in names:
                    hint = did_you_mean(column, names) or f"It has: {listed(names)}."
                    raise UsageError(f"it lacks the {what} column {column!r}", where=self.where, fix=hint)
        judging = [name for name in (schema.label, schema.weight) if name is not None] if judged else []
        self._wanted = [*(column.name for column in schema.columns), *judging]
        self.ignored = [name for name in names if name not in {*self._wanted, *self._keep}]

    @property
    def done(self) -> int:
        """How much of the file was read."""
        return self._stream.done

    def __iter__(self) -> Iterator[Encoded]:
        """The rows; those of a message are counted from the beginning of the table."""
        before = 0
        for part in self._stream.parts(list(dict.fromkeys([*self._wanted, *self._keep]))):
            kept = {name: part.column(name) for name in self._keep}
            yield self._interface.encode_table(part.select(self._wanted), where=self.where, before=before, kept=kept)
            before += part.num_rows

    def close(self) -> None:
        """Closes the file."""
        self._stream.close()


def _is_whole(text: str) -> bool:
    try:
        return str(int(text)) == text and abs(int(text)) < 2**63
    except ValueError:
        return False


def _as_table(data: Any, columns: Sequence[str]) -> pa.Table:
    """What a caller has in memory as a table. Raises UsageError for what is none."""
    import pyarrow as pa

    try:
        if isinstance(data, pa.Table):
            return data
        if isinstance(data, pa.RecordBatch):
            return pa.Table.from_batches([data])
        if isinstance(data, Mapping):
            return pa.table({str(name): _as_column(values) for name, values in data.items()})
        if isinstance(data, np.ndarray) and data.dtype.names:
            return pa.table({name: _as_column(data[name]) for name in data.dtype.names})
        if hasattr(data, "asnumpy"):
            data = data.asnumpy()
        if not isinstance(data, (np.ndarray, list, tuple)) and hasattr(data, "columns"):
            return pa.table({str(name): _as_column(data[name]) for name in data.columns})
        if not isinstance(data, (np.ndarray, list, tuple)):
            raise TypeError(f"a {type(data).__name__} is no table")
        return _of_array(np.asarray(data), columns)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UsageError(
            f"it cannot be taken for a table: {next(iter(str(error).splitlines()), type(error).__name__)}",
            where="the data",
            fix="Give a pyarrow Table, a data frame, a dict of columns, or an array (rows, columns).",
        ) from error


def _of_array(array: NDArray[Any], columns: Sequence[str]) -> pa.Table:
    """An array of the training columns in their order; NaN is missing."""
    import pyarrow as pa

    if array.ndim != 2 or array.shape[1] != len(columns):
        raise UsageError(
            f"an array of shape {array.shape} has not the {len(columns)} columns of the training table",
            where="the data",
            fix=f"Its columns have to be: {listed(columns)}.",
        )
    # By column in memory once: each is then taken over without a copy.
    array = np.asfortranarray(array)
    return pa.table({name: _as_column(array[:, number]) for number, name in enumerate(columns)})


def _as_column(values: Any) -> Any:
    """A column of a dict, an array or a data frame as Arrow has it."""
    import pyarrow as pa

    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    if hasattr(values, "asnumpy"):
        values = values.asnumpy()
    elif hasattr(values, "to_arrow"):
        return values.to_arrow()
    elif hasattr(values, "to_numpy"):
        values = values.to_numpy()
    return pa.array(values, from_pandas=True)
