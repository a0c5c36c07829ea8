"""The schema of a table: learned from the training rows, applied to all others."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from trainer.data import columns
from trainer.data.columns import Column, Indices, as_float, check_flat, labels_of, rows_of_the_table, values_of
from trainer.data.labels import Labels
from trainer.errors import UsageError, did_you_mean, listed

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Rows:
    """Encoded rows on the host: features (n, d) and, if the table has them, labels and weights (n,), all float32."""

    features: NDArray[np.float32]
    labels: NDArray[np.float32] | None
    weights: NDArray[np.float32] | None
    unseen: Mapping[str, int]
    """How many values of each text column do not occur in the training rows."""
    missing: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """How many values of each column were missing."""


@dataclass(frozen=True)
class Schema:
    """The columns in order, and the label's classes. Converts to a JSON value and back."""

    columns: tuple[Column, ...]
    label: str
    labels: Labels
    weight: str | None = None
    standardize: bool = True

    @classmethod
    def learn(
        cls,
        table: pa.Table,
        *,
        label: str,
        positive_class: str | None = None,
        features: Sequence[str] = (),
        ignore: Sequence[str] = (),
        categorical: Sequence[str] = (),
        sample_weight: str | None = None,
        standardize: bool = True,
        where: str = "the table",
        rows: Indices | None = None,
    ) -> Schema:
        """Learns from the training rows only: the whole table, or its `rows` (n,), counted from 0.

        Raises UsageError for options and values that cannot be used; row numbers in messages are the table's, from 1.
        """
        known = table.column_names
        check_column(label, known, option="--label", where=where)
        for option, names in (("--features", features), ("--ignore", ignore), ("--categorical", categorical)):
            for name in names:
                check_column(name, known, option=option, where=where)
        if sample_weight is not None:
            check_column(sample_weight, known, option="--sample-weight", where=where)
        if sample_weight == label:
            raise UsageError("the label cannot also be the weight", where="--sample-weight")
        for taken, what in ((label, "label"), (sample_weight, "weight")):
            if taken in features:
                raise UsageError(f"{taken!r} is the {what} column", where="--features", fix="Remove it.")
        left_out = {*ignore, label, sample_weight}
        chosen = [name for name in dict.fromkeys(features or known) if name not in left_out]
        if not chosen:
            raise UsageError("no column is left to learn from", where=where, fix=f"Columns: {listed(known)}.")
        with rows_of_the_table(rows):
            learned = tuple(
                _learn_column(name, values_of(table, name, rows), categorical=name in categorical, where=where)
                for name in chosen
            )
            labels = Labels.learn(label, labels_of(table, label, rows, where=where), positive_class, where=where)
        return cls(learned, label, labels, sample_weight, standardize)

    @property
    def feature_names(self) -> list[str]:
        """The names of the net's inputs, `colour=red` for a category."""
        return [name for column in self.columns for name in column.feature_names]

    @property
    def text_names(self) -> list[str]:
        """The columns that `read_table` has to read verbatim, for its argument `text`.

        If the training file has `007` and `A1`, a file with only `007` would be read as the number 7, which is not one
        of the learned categories.
        """
        written = {column.name: column.categories for column in self.columns if column.kind == "text"}
        written[self.label] = (self.labels.negative, self.labels.positive)
        return [name for name, values in written.items() if not all(map(_reads_as_itself, values))]

    def encode(self, table: pa.Table, *, where: str, rows: Indices | None = None) -> Rows:
        """Encodes all rows of a table, or its `rows` (n,), counted from 0. Extra columns are ignored.

        The label and the weight may be absent. Memory: the result, and one column at a time. Raises UsageError for
        missing columns, text among numbers, infinite values, unknown labels and invalid weights; row numbers in
        messages are the table's, from 1.
        """
        absent = [column.name for column in self.columns if column.name not in table.column_names]
        if absent:
            raise UsageError(
                f"columns are missing: {listed(absent)}", where=where, fix=f"It has: {listed(table.column_names)}."
            )
        size = table.num_rows if rows is None else len(rows)
        features = np.zeros((size, sum(column.width for column in self.columns)), np.float32)
        unseen, missing = {}, {}
        start = 0
        with rows_of_the_table(rows):
            for column in self.columns:
                values = values_of(table, column.name, rows)
                target = features[:, start : start + column.width]
                start += column.width
                if column.kind == "text":
                    check_flat(column.name, values, where=where)
                    unknown, absent_values = _encode_text(column, values, target)
                else:
                    unknown, absent_values = 0, self._encode_number(column, values, target[:, 0], where)
                unseen.update({column.name: unknown} if unknown else {})
                missing.update({column.name: absent_values} if absent_values else {})
            labels = weights = None
            if self.label in table.column_names:
                labels = self.labels.encode(self.label, labels_of(table, self.label, rows, where=where), where=where)
            if self.weight is not None and self.weight in table.column_names:
                weights = _weights(self.weight, values_of(table, self.weight, rows), where=where)
        return Rows(features, labels, weights, unseen, missing)

    def _encode_number(self, column: Column, values: Any, target: NDArray[np.float32], where: str) -> int:
        numbers = columns.numbers_of(column.name, as_float(values), where=where)
        missing = np.isnan(numbers)
        numbers = np.where(missing, column.mean, numbers)
        if self.standardize and column.kind == "numeric":
            numbers = (numbers - column.mean) / column.deviation
        too_large = np.flatnonzero(np.abs(numbers) > LARGEST)
        if len(too_large):
            raise UsageError(
                f"column {column.name!r} is too large for a 32-bit number",
                row=int(too_large[0]) + 1,
                where=where,
                fix="Scale the column down, or correct the value.",
            )
        target[:] = numbers
        return int(missing.sum())

    def to_json(self) -> dict[str, Any]:
        """The schema as a JSON value."""
        return {"version": VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, value: Any) -> Schema:
        """The schema that `to_json` returned; raises UsageError for anything else."""
        if not isinstance(value, dict) or "version" not in value:
            raise UsageError("it is not a schema", where="schema")
        if value["version"] != VERSION:
            raise UsageError(
                f"its version is {value['version']!r}, not {VERSION}", where="schema", fix="Update gluon-trainer."
            )
        try:
            schema: Schema = TypeAdapter(cls).validate_python({key: value[key] for key in value if key != "version"})
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise UsageError(f"{place}: {first['msg']}", where="schema") from error
        for column in schema.columns:
            if not (math.isfinite(column.mean) and math.isfinite(column.deviation) and column.deviation > 0):
                raise UsageError(f"column {column.name!r} has no usable mean and deviation", where="schema")
            if len(set(column.categories)) < len(column.categories):
                raise UsageError(f"column {column.name!r} has a category twice", where="schema")
        if len({column.name for column in schema.columns}) < len(schema.columns) or not schema.columns:
            raise UsageError("its columns need unique names", where="schema")
        if schema.labels.negative == schema.labels.positive:
            raise UsageError("its two classes are the same", where="schema")
        return schema


def check_column(name: str, known: Sequence[str], *, option: str, where: str) -> None:
    """Raises UsageError listing the columns if `name` is not one of them."""
    if name not in known:
        hint = did_you_mean(name, known)
        raise UsageError(
            f"there is no column {name!r} for {option}", where=where, fix=f"Columns: {listed(known)}. {hint}".strip()
        )


def _learn_column(name: str, values: pa.ChunkedArray, *, categorical: bool, where: str) -> Column:
    if categorical:
        check_flat(name, values, where=where)
        return columns.learn(name, values, categorical=True, where=where)
    with np.errstate(over="ignore", invalid="ignore"):
        column = columns.learn(name, as_float(values), categorical=False, where=where)
    if not (math.isfinite(column.mean) and math.isfinite(column.deviation)):
        raise UsageError(
            f"the numbers of column {name!r} are too large for a mean and a deviation",
            where=where,
            fix=f"Scale them down, or add --ignore {name}.",
        )
    return column


def _reads_as_itself(text: str) -> bool:
    """Whether text stays the same if it is parsed as a number or a boolean and written again."""
    try:
        return text in ("true", "false") or columns.plain(float(text)) == text
    except (ValueError, OverflowError):
        return False


def _encode_text(column: Column, values: Any, target: NDArray[np.float32]) -> tuple[int, int]:
    """One-hot encodes a text column into `target`; returns the number of unseen and of missing values."""
    import pyarrow as pa
    from pyarrow import compute

    text = columns.as_text(values)
    place = compute.index_in(text, pa.array(column.categories, pa.string()))
    numbers = compute.fill_null(place, -1).to_numpy(zero_copy_only=False)
    missing = compute.is_null(text).to_numpy(zero_copy_only=False).astype(bool)
    rows = np.flatnonzero(numbers >= 0)
    target[rows, numbers[rows]] = 1.0
    if column.missing_category:
        target[missing, len(column.categories)] = 1.0
    return int(((numbers < 0) & ~missing).sum()), int(missing.sum())


def _weights(name: str, values: Any, *, where: str) -> NDArray[np.float32]:
    import pyarrow as pa

    if pa.types.is_string(values.type):
        invalid = np.flatnonzero(~columns.readable(values) & ~values.is_null().to_numpy().astype(bool))
        if len(invalid):
            raise UsageError(
                f"the weight in column {name!r} is {values[int(invalid[0])].as_py()!r}",
                row=int(invalid[0]) + 1,
                where=where,
                fix="Weights are numbers ≥ 0.",
            )
    weights = columns.numbers_of(name, as_float(values), where=where)
    bad = np.flatnonzero(np.isnan(weights) | (weights < 0))
    if len(bad):
        row = int(bad[0])
        what = "missing" if np.isnan(weights[row]) else f"{weights[row]:g}"
        raise UsageError(f"the weight in column {name!r} is {what}", row=row + 1, where=where, fix="Weights are ≥ 0.")
    if weights.sum() == 0:
        raise UsageError(f"the weights in column {name!r} are all 0", where=where)
    return weights.astype(np.float32)
