"""The schema of a table: learned from the training rows, applied to all others."""

from __future__ import annotations

import dataclasses
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from trainer.config.text import as_part
from trainer.data.tables.chosen import are_ascending
from trainer.data.tables.id_tables import IdTable, check_sizes, id_tables
from trainer.data.tables.kinds import IDS, Column, Embedded
from trainer.data.tables.kinds.base import Counts
from trainer.data.tables.targets import Target
from trainer.data.tables.values import (
    Indices,
    cleaned,
    column_of,
    is_text,
    numbers_of,
    reads_as_numbers,
    rows_of_the_table,
)
from trainer.data.tables.vocabulary_file import from_table, to_table
from trainer.errors import UsageError, did_you_mean, listed

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 4
BLOCK_BYTES = 16 << 20
"""A number of each column in the rows of a block."""
ROWS_IN_CACHE = 512
"""The rows that are copied from columns to rows at a time."""
FEWEST_ROWS, MOST_ROWS = 1 << 13, 1 << 17
"""The rows of a block. In smaller blocks the calls cost more than the arithmetic."""


@dataclass(frozen=True)
class Rows:
    """Encoded rows on the host: features (n, d) and, if the table has them, labels and weights (n,), all float32.

    Labels are class numbers, or the numbers to predict. `ids` (n, k), int32, are the numbers of rows in tables of
    weights (`Schema.id_tables`); None if no column is one. There may be ids only, and no features (d = 0).
    """

    features: NDArray[np.float32]
    labels: NDArray[np.float32] | None
    weights: NDArray[np.float32] | None
    unseen: Mapping[str, int]
    """How many values of each text column do not occur in the training rows, or in fewer than `--min-count`."""
    missing: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """How many values of each column were missing."""
    ids: NDArray[np.int32] | None = None
    prefetch: Callable[[int, int], None] | None = None
    """Asks the system to read rows ahead, if the arrays are views of a mapped file; None if they are in memory."""

    @property
    def inputs(self) -> tuple[NDArray[Any], ...]:
        """The inputs of the net: the features and the ids, without those of which there are none."""
        if self.ids is None:
            return (self.features,)
        return (self.features, self.ids) if self.features.shape[1] else (self.ids,)

    def part(self, rows: slice) -> Rows:
        """Views of some rows, without counts."""
        labels, weights, ids = self.labels, self.weights, self.ids
        return Rows(
            self.features[rows],
            None if labels is None else labels[rows],
            None if weights is None else weights[rows],
            {},
            ids=None if ids is None else ids[rows],
        )


@dataclass(frozen=True)
class Schema:
    """The columns in order, and what the label column is. Converts to a JSON value and back."""

    columns: tuple[Column, ...]
    label: str
    target: Target
    weight: str | None = None

    @property
    def feature_names(self) -> list[str]:
        """The names of the net's inputs that are numbers, `colour=red` for a category."""
        return [name for column in self.columns for name in column.feature_names]

    @cached_property
    def id_tables(self) -> tuple[IdTable, ...]:
        """The tables of weights that ids are row numbers of, in the order of the ids."""
        return id_tables(self.columns)

    @property
    def id_names(self) -> list[str]:
        """The columns of the ids, in their order."""
        return [column.name for table in self.id_tables for column in table.columns]

    @property
    def unseen_means(self) -> str:
        """Which values `Rows.unseen` counts, in words."""
        least = max((column.min_count for column in self.columns if isinstance(column, Embedded)), default=1)
        return f"that do not occur in the training rows{f', or in fewer than {least}' if least > 1 else ''}"

    def encode(self, table: pa.Table, *, where: str, rows: Indices | None = None) -> Rows:
        """Encodes all rows of a table, or its `rows` (n,), counted from 0. Extra columns are ignored.

        The label and the weight may be absent. Memory: the result, and one column at a time. Raises UsageError for
        missing columns, text among numbers, infinite values, unknown labels and invalid weights; row numbers in
        messages are the table's, from 1.
        """
        check_present(self, table.column_names, where=where)
        size = table.num_rows if rows is None else len(rows)
        features = (np.empty if self.is_dense else np.zeros)((size, self.width), np.float32)
        ids = np.empty((size, len(self.id_names)), np.int32) if self.id_tables else None
        with rows_of_the_table(rows):
            missing, unseen = self.encode_into(table, features, ids, where=where, rows=rows)
            labels = wide = None
            if self.label in table.column_names:
                labels = self.target.encode(self.label, column_of(table, self.label, rows), where=where)
            if self.weight is not None and self.weight in table.column_names:
                wide = self.weights(column_of(table, self.weight, rows), where=where)
                check_weights(self.weight, float(wide.max(initial=0)), where=where)
        weights = None if wide is None else wide.astype(np.float32)
        return Rows(features, labels, weights, unseen, missing, ids)

    def encode_into(
        self,
        table: pa.Table,
        features: NDArray[np.float32],
        ids: NDArray[np.int32] | None,
        *,
        where: str,
        rows: Indices | None = None,
    ) -> tuple[dict[str, int], dict[str, int]]:
        """Writes the inputs of all rows, or of some, to `features` (n, d) and `ids` (n, k).

        The features have to be 0 unless the schema `is_dense`. Returns how many values of which columns are missing
        and unseen. Raises UsageError like `encode`; row numbers are those among the chosen rows.
        """
        unseen: Counter[str] = Counter()
        missing: Counter[str] = Counter()
        try:
            for block, chosen, part in self._blocks(table, rows):
                target = features[part]
                by_column = np.zeros((self.width, len(target)), np.float32).T if self.is_dense else target
                own = None if ids is None else ids[part]
                for name, counts in self._encoded(block, chosen, by_column, own, where=where):
                    unseen[name] += counts.unseen
                    missing[name] += counts.missing
                for start in range(0, len(target) if self.is_dense else 0, ROWS_IN_CACHE):
                    target[start : start + ROWS_IN_CACHE] = by_column[start : start + ROWS_IN_CACHE]
        except UsageError:
            # The error of the first column that has one, whatever the blocks are, with the row in the whole.
            list(self._encoded(table, rows, features, ids, where=where))
            raise
        return dict(+missing), dict(+unseen)

    def weights(self, values: pa.ChunkedArray, *, where: str) -> NDArray[np.float64]:
        """The weights of rows. Raises UsageError for those that are not numbers ≥ 0."""
        assert self.weight is not None  # noqa: S101  asked for tables with weights only
        return _weights(self.weight, values, where=where)

    @property
    def width(self) -> int:
        """The number of features of a row."""
        return sum(column.width for column in self.columns)

    @property
    def is_dense(self) -> bool:
        """Whether most features of a row are not 0.

        Rows of many zeros are not touched in whole. Others are written over memory that is not zero yet, which comes
        from the system in large pages and costs less.
        """
        return self.width <= 2 * len(self.columns)

    def _encoded(
        self,
        table: pa.Table,
        rows: Indices | None,
        target: NDArray[np.float32],
        ids: NDArray[np.int32] | None,
        *,
        where: str,
    ) -> Iterator[tuple[str, Counts]]:
        """Writes the inputs of the rows to `target` (rows, d), which is zero, and to `ids` (rows, k).

        Yields the name and counts of each column.
        """
        start = 0
        places = {
            column.name: (each.begin + number, first)
            for each in self.id_tables
            for number, (column, first) in enumerate(zip(each.columns, each.offsets, strict=True))
        }
        for column in self.columns:
            if isinstance(column, IDS):
                assert ids is not None  # noqa: S101  it is one of them
                place, first = places[column.name]
                values = column_of(table, column.name, rows)
                yield column.name, column.encode_ids(values, ids[:, place], first=first, where=where)
                continue
            part = target[:, start : start + column.width]
            start += column.width
            yield column.name, column.encode(column_of(table, column.name, rows), part, where=where)

    def _blocks(self, table: pa.Table, rows: Indices | None) -> Iterator[tuple[pa.Table, Indices | None, slice]]:
        """Parts of a table, the rows chosen in each, and their places among all chosen ones."""
        size = min(max(BLOCK_BYTES // (4 * len(self.columns)), FEWEST_ROWS), MOST_ROWS)
        if table.num_rows <= size or not (rows is None or are_ascending(rows)):
            yield table, rows, slice(None)
            return
        for start in range(0, table.num_rows, size):
            block = table.slice(start, size)
            if rows is None:
                yield block, None, slice(start, start + size)
                continue
            first, last = np.searchsorted(rows, (start, start + size)).tolist()
            if last > first:
                yield block, rows[first:last] - start, slice(first, last)

    def to_json(self) -> dict[str, Any]:
        """The schema as a JSON value, without the texts of many categories (`vocabulary`)."""
        columns = [
            replace(column, categories=None) if isinstance(column, Embedded) else column for column in self.columns
        ]
        found = dataclasses.asdict(replace(self, columns=tuple(columns)))
        for column in found["columns"]:
            if column["kind"] == "embedded":
                del column["categories"]
        return {"version": VERSION, **found}

    def vocabulary(self) -> pa.Table | None:
        """The categories of the embedded columns, a row for each column; None if there is none."""
        return to_table({column.name: column.categories for column in self.columns if isinstance(column, Embedded)})

    @classmethod
    def from_json(cls, value: Any, vocabulary: pa.Table | None = None) -> Schema:
        """The schema that `to_json` returned, with its `vocabulary`; raises UsageError for anything else."""
        if not isinstance(value, dict) or "version" not in value:
            raise UsageError("it is not a schema", where="schema")
        if value["version"] != VERSION:
            older = isinstance(value["version"], int) and value["version"] < VERSION
            raise UsageError(
                f"its version is {value['version']!r}, not {VERSION}",
                where="schema",
                # Version 1 does not say which spellings of a category are the same, 2 knows two classes only, and 3
                # has no ids.
                fix="Train the model again." if older else "Update gluon-trainer.",
            )
        try:
            schema: Schema = _adapter().validate_python({key: value[key] for key in value if key != "version"})
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise UsageError(f"{place}: {first['msg']}", where="schema") from error
        texts = from_table(vocabulary)
        columns = (
            replace(column, categories=texts.get(column.name)) if isinstance(column, Embedded) else column
            for column in schema.columns
        )
        schema = replace(schema, columns=tuple(columns))
        for column in schema.columns:
            wrong = column.check()
            if wrong is not None:
                raise UsageError(wrong, where="schema")
        if len({column.name for column in schema.columns}) < len(schema.columns) or not schema.columns:
            raise UsageError("its columns need unique names", where="schema")
        wrong = schema.target.check()
        if wrong is not None:
            raise UsageError(wrong, where="schema")
        check_sizes(schema.id_tables, "schema")
        return schema


@cache
def _adapter() -> TypeAdapter[Schema]:
    """Pydantic's reader, which takes a while to make."""
    return TypeAdapter(Schema)


def check_present(schema: Schema, names: Sequence[str], *, where: str) -> None:
    """Raises UsageError if `names` lacks one of the columns to learn from."""
    absent = [column.name for column in schema.columns if column.name not in names]
    if absent:
        raise UsageError(f"columns are missing: {listed(absent)}", where=where, fix=f"It has: {listed(names)}.")


def check_column(name: str, known: Sequence[str], *, option: str, where: str, in_list: bool = False) -> None:
    """Raises UsageError listing the columns if `name` is not one of them.

    `in_list` says that the option lists names with commas between them.
    """
    if name not in known:
        hint = (quoting_hint(name, known, option) if in_list else "") or did_you_mean(name, known)
        raise UsageError(
            f"there is no column {name!r} for {option}", where=where, fix=f"Columns: {listed(known)}. {hint}".strip()
        )


def quoting_hint(name: str, known: Sequence[str], option: str) -> str:
    """How to write the column with a comma in its name of which `name` is a part; empty if there is none."""
    whole = next((each for each in known if "," in each and name in map(str.strip, each.split(","))), None)
    if whole is None:
        return ""
    quoted = shlex.quote(as_part(whole))
    return f"If you mean {whole!r}, put it in quotes, {option} {quoted}; if {option} is repeated, each is one name."


def _weights(name: str, values: pa.ChunkedArray, *, where: str) -> NDArray[np.float64]:
    if is_text(values):
        text = cleaned(values)
        invalid = np.flatnonzero(~reads_as_numbers(values) & ~text.is_null().to_numpy().astype(bool))
        if len(invalid):
            raise UsageError(
                f"the weight in column {name!r} is {text[int(invalid[0])].as_py()!r}",
                row=int(invalid[0]) + 1,
                where=where,
                fix="Weights are numbers ≥ 0.",
            )
    weights = numbers_of(name, values, where=where)
    bad = np.flatnonzero(np.isnan(weights) | (weights < 0))
    if len(bad):
        row = int(bad[0])
        what = "missing" if np.isnan(weights[row]) else f"{weights[row]:g}"
        raise UsageError(f"the weight in column {name!r} is {what}", row=row + 1, where=where, fix="Weights are ≥ 0.")
    return weights


def check_weights(name: str, largest: float, *, where: str) -> None:
    """Raises UsageError if the largest of all weights is 0."""
    if largest == 0:
        raise UsageError(f"the weights in column {name!r} are all 0", where=where)
