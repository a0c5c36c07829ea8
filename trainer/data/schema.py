"""Schema: what is learned of a table on its training rows, and applied to every other row ever after."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from trainer.data import columns
from trainer.data.columns import Column
from trainer.data.labels import Labels
from trainer.errors import UsageError, did_you_mean, listed

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1


@dataclass(frozen=True)
class Rows:
    """Encoded rows on the host: features (n, d) and, where the table has them, labels and weights (n,), all float32."""

    features: NDArray[np.float32]
    labels: NDArray[np.float32] | None
    weights: NDArray[np.float32] | None
    unseen: Mapping[str, int]
    """How many values of each text column the training rows do not have."""
    missing: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """How many values of each column were missing."""


@dataclass(frozen=True)
class Schema:
    """The columns in order, the labels and their meaning; a JSON value and back."""

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
    ) -> Schema:
        """From the training rows alone. Raises UsageError for everything that cannot be understood or learned from."""
        known = table.column_names
        check_column(label, known, option="--label", where=where)
        for option, names in (("--features", features), ("--ignore", ignore), ("--categorical", categorical)):
            for name in names:
                check_column(name, known, option=option, where=where)
        if sample_weight is not None:
            check_column(sample_weight, known, option="--sample-weight", where=where)
        chosen = [name for name in (features or known) if name not in ignore and name not in (label, sample_weight)]
        if not chosen:
            raise UsageError("no column is left to learn from", where=where)
        return cls(
            tuple(
                columns.learn(name, table.column(name), categorical=name in categorical, where=where) for name in chosen
            ),
            label,
            Labels.learn(label, table.column(label), positive_class, where=where),
            sample_weight,
            standardize,
        )

    @property
    def feature_names(self) -> list[str]:
        """The names of the net's inputs, `colour=red` for a category."""
        return [name for column in self.columns for name in column.feature_names]

    def encode(self, table: pa.Table, *, where: str) -> Rows:
        """Rows of any table with these columns; others are ignored, the label may be absent.

        Raises UsageError for missing columns, text among numbers, infinite values, unknown labels, unusable weights.
        """
        absent = [column.name for column in self.columns if column.name not in table.column_names]
        if absent:
            raise UsageError(
                f"it lacks the columns {listed(absent)}", where=where, fix=f"It has: {listed(table.column_names)}."
            )
        features = np.zeros((table.num_rows, len(self.feature_names)), np.float32)
        unseen, missing = {}, {}
        start = 0
        for column in self.columns:
            values = table.column(column.name)
            target = features[:, start : start + column.width]
            start += column.width
            if column.kind == "text":
                strange, gone = _encode_text(column, values, target)
            else:
                strange, gone = 0, self._encode_number(column, values, target[:, 0], where)
            unseen.update({column.name: strange} if strange else {})
            missing.update({column.name: gone} if gone else {})
        labels = None
        if self.label in table.column_names:
            labels = self.labels.encode(self.label, table.column(self.label), where=where)
        weights = None
        if self.weight is not None and self.weight in table.column_names:
            weights = _weights(self.weight, table.column(self.weight), where=where)
        return Rows(features, labels, weights, unseen, missing)

    def _encode_number(self, column: Column, values: Any, target: NDArray[np.float32], where: str) -> int:
        numbers = columns.numbers_of(column.name, values, where=where)
        gone = np.isnan(numbers)
        numbers = np.where(gone, column.mean, numbers)
        if self.standardize and column.kind == "numeric":
            numbers = (numbers - column.mean) / column.deviation
        target[:] = numbers
        return int(gone.sum())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"version": VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, value: Any) -> Schema:
        """Back from `to_json`; raises UsageError for anything else."""
        if not isinstance(value, dict) or "version" not in value:
            raise UsageError("it is not a schema", where="schema")
        if value["version"] != VERSION:
            raise UsageError(
                f"its version is {value['version']!r}, known is {VERSION}", where="schema", fix="Update gluon-trainer."
            )
        try:
            return TypeAdapter(cls).validate_python({key: part for key, part in value.items() if key != "version"})
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise UsageError(f"{place}: {first['msg']}", where="schema") from error


def check_column(name: str, known: Sequence[str], *, option: str, where: str) -> None:
    """Raises UsageError, with the columns that there are, for a name that is none of them."""
    if name not in known:
        hint = did_you_mean(name, known)
        raise UsageError(
            f"there is no column {name!r} for {option}", where=where, fix=f"Columns: {listed(known)}. {hint}".strip()
        )


def _encode_text(column: Column, values: Any, target: NDArray[np.float32]) -> tuple[int, int]:
    """Sets the ones; returns how many values were unseen and how many missing."""
    import pyarrow as pa
    from pyarrow import compute

    text = columns.as_text(values)
    place = compute.index_in(text, pa.array(column.categories, pa.string()))
    numbers = compute.fill_null(place, -1).to_numpy(zero_copy_only=False)
    gone = compute.is_null(text).to_numpy(zero_copy_only=False).astype(bool)
    rows = np.flatnonzero(numbers >= 0)
    target[rows, numbers[rows]] = 1.0
    if column.missing_category:
        target[gone, len(column.categories)] = 1.0
    return int(((numbers < 0) & ~gone).sum()), int(gone.sum())


def _weights(name: str, values: Any, *, where: str) -> NDArray[np.float32]:
    weights = columns.numbers_of(name, values, where=where)
    bad = np.flatnonzero(np.isnan(weights) | (weights < 0))
    if len(bad):
        row = int(bad[0])
        what = "missing" if np.isnan(weights[row]) else f"{weights[row]:g}"
        raise UsageError(
            f"the weight in column {name!r} is {what} at row {row + 1}", where=where, fix="Weights are ≥ 0."
        )
    if weights.sum() == 0:
        raise UsageError(f"the weights in column {name!r} are all 0", where=where)
    return weights.astype(np.float32)
