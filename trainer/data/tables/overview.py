"""What a run would make of a table: every column with its kind, its values, the net's inputs, and what looks wrong."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.split_names import NAMES
from trainer.data.tables.coded import Coded
from trainer.data.tables.division import check_split_options, split_columns
from trainer.data.tables.held import Held
from trainer.data.tables.kinds import IDS, IN_TIME, ORDERED, Column, Hashed
from trainer.data.tables.learn import learn_column
from trainer.data.tables.plan import divide, wanted_of
from trainer.data.tables.reading import located, reading, whole
from trainer.data.tables.schema import check_column
from trainer.data.tables.sliced import check_count, check_slice_columns
from trainer.data.tables.sources import short, where_of
from trainer.data.tables.suspicions import LabelClasses, Part, suspicions, suspicions_of_refused
from trainer.data.tables.values import Indices, cleaned, column_of, distinct, is_text, rows_of_the_table
from trainer.data.tables.wanted import Wanted
from trainer.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from trainer.data.tables.options import TableOptions
    from trainer.data.tables.stream import TableStream

COMMONEST = 5
"""How many of the commonest values are told."""


@dataclass
class ColumnView:
    """A column, as the training rows have it."""

    name: str
    kind: str
    """The kind of the column; `label`, `weight`, `group`, `time`, `split`, `slice`, `ignored`, or `refused` if a run
    would end with an error."""
    missing: Mapping[str, int] = field(default_factory=dict)
    """The missing values of each split."""
    distinct: int | None = None
    minimum: str | None = None
    maximum: str | None = None
    mean: str | None = None
    commonest: Sequence[tuple[str, int]] = ()
    """The commonest values and how often they occur, if the values have no order."""
    inputs: Sequence[str] = ()
    """The names of the net's inputs."""
    id_rows: int | None = None
    """For a column of many categories: the net gets the number of one of so many rows of weights."""
    looks: Sequence[str] = ()
    """What looks wrong, a sentence each."""
    error: str | None = None
    """Why a run would refuse the column, with the fix."""


@dataclass
class Overview:
    """A table as a run would see it."""

    where: str
    columns: Sequence[ColumnView]
    rows: Mapping[str, int]
    """The rows of each split; all are in `train` if no label is given."""
    label: str | None = None
    """How the label is understood."""
    notes: Sequence[str] = ()

    @property
    def inputs(self) -> int:
        """The number of the net's inputs."""
        return sum(len(column.inputs) for column in self.columns)

    @property
    def ids(self) -> int:
        """The number of columns of which the net gets ids."""
        return sum(column.id_rows is not None for column in self.columns)

    def to_json(self) -> dict[str, Any]:
        """A JSON value."""
        return {**dataclasses.asdict(self), "inputs": self.inputs, "ids": self.ids}


@dataclass
class _Split:
    """The rows of a split: of the table, or of a file of its own."""

    where: str
    table: pa.Table
    stream: TableStream
    rows: Indices | None
    labels: NDArray[np.float32] | None = None

    def values(self, name: str) -> pa.ChunkedArray:
        return column_of(self.table, name, self.rows)

    def __len__(self) -> int:
        return int(self.table.num_rows if self.rows is None else len(self.rows))


def look(options: TableOptions, *, seed: int) -> Overview:
    """Reads the table and describes every column. Without a label, all rows count as training rows.

    A column that a run would refuse is described with the error; what is wrong with the table as a whole, its label or
    the options raises UsageError, as in `load_splits`.
    """
    where = where_of(options.data)
    wanted = wanted_of(options)
    with reading(options.data, options.delimiter) as stream:
        names, untyped, notes = list(stream.names), stream.untyped, list(stream.notes)
        chosen = wanted.chosen(names, where=where, left_out=stream.left_out)
        targets = [name for name in (options.label, options.sample_weight) if name is not None]
        check_split_options(options, names, where=where)
        check_slice_columns(options, names, where=where)
        dividing = {name: option for option, name in split_columns(options).items()}
        table = Held(stream, where, list(dict.fromkeys([*chosen, *targets, *dividing, *options.slice])))
    with located(stream):
        told, splits = _splits(options, wanted, table, stream, seed=seed, notes=notes)
    splits |= dict(_files(options, [*chosen, *targets], notes))
    train = splits["train"]
    classes = None if train.labels is None else LabelClasses(train.labels)
    kinds = {options.sample_weight: "weight", options.label: "label"}
    views: list[ColumnView] = []
    for name in names:
        if name in chosen:
            view = _describe(name, splits, wanted, classes, untyped=untyped, notes=notes)
        elif name in targets:
            view = _target(name, kinds[name], train, splits)
        elif name in dividing:
            view = _target(name, dividing[name], train, splits)
        elif name in options.slice:
            view = _target(name, "slice", train, splits)
        else:
            view = ColumnView(name, "ignored")
        if name in options.slice and view.error is None:
            view.error = _refused(name, train, options, untyped=untyped)
        views.append(view)
    rows = {split: len(splits[split]) for split in NAMES if split in splits}
    return Overview(where, views, rows, told, notes)


def _splits(
    options: TableOptions, wanted: Wanted, table: Held, stream: TableStream, *, seed: int, notes: list[str]
) -> tuple[str | None, dict[str, _Split]]:
    """How the label is understood, and the splits of the table's rows."""
    where = stream.where
    if options.label is None:
        return None, {"train": _Split(where, table.table, stream, None)}
    target, _, _, parts = divide(options, wanted, table, seed=seed, notes=notes)
    splits: dict[str, _Split] = {}
    for split, rows in parts.items():
        labels = target.encode(options.label, column_of(table.table, options.label, rows), where=where)
        splits[split] = _Split(where, table.table, stream, rows, labels)
    return target.describe(options.label), splits


def _files(options: TableOptions, wanted: Sequence[str], notes: list[str]) -> Iterator[tuple[str, _Split]]:
    """The splits that have a file of their own."""
    for split, given in options.own_tables().items():
        if not given:
            continue
        where = where_of(given, split)
        with reading(given, options.delimiter) as stream:
            for name in wanted:
                check_column(name, stream.names, option=f"--{split}-data", where=where)
            table = whole(stream, wanted)
            notes += [f"{short(given, split)}: {note}" for note in stream.notes if note not in notes]
        yield split, _Split(where, table, stream, None)


def _describe(
    name: str,
    splits: Mapping[str, _Split],
    wanted: Wanted,
    classes: LabelClasses | None,
    *,
    untyped: bool,
    notes: list[str],
) -> ColumnView:
    """A column to learn from."""
    train = splits["train"]
    view = ColumnView(name, "refused", {split: _missing(each.values(name)) for split, each in splits.items()})
    found: list[str] = []
    try:
        with located(train.stream):
            column = learn_column(
                name, train.table, wanted, train.rows, untyped=untyped, where=train.where, notes=found
            )
        parts = {split: _part(column, each) for split, each in splits.items()}
    except UsageError as error:
        view.error = str(error)
        view.distinct, view.commonest = _texts(train.values(name))
        view.looks = [*suspicions_of_refused(view.distinct, len(train) - view.missing["train"])]
        return view
    notes += found
    view.kind, view.inputs = column.kind, column.feature_names
    part = parts["train"]
    if isinstance(column, ORDERED):
        view.distinct = part.distinct
        ends = part.present.min(), part.present.max(), _mean(column, part.present)
        view.minimum, view.maximum, view.mean = (column.written(float(each)) for each in ends)
    elif isinstance(column, Hashed):
        view.distinct, view.commonest = _texts(train.values(name))
    else:
        counts = np.bincount(part.known)
        view.distinct = part.distinct
        order = np.argsort(-counts, kind="stable")[:COMMONEST]
        view.commonest = [(column.word(int(place)), int(counts[place])) for place in order if counts[place]]
    if isinstance(column, IDS):
        view.id_rows = column.rows
    view.looks = suspicions(column, parts, classes)
    return view


def _mean(column: Column, present: NDArray[np.float64]) -> float:
    """The mean, of times in whole seconds."""
    mean = float(present.mean())
    return round(mean) if isinstance(column, IN_TIME) else mean


def _part(column: Column, split: _Split) -> Part:
    """The values of a column in a split. Raises UsageError for those that cannot be encoded."""
    values = split.values(column.name)
    with located(split.stream), rows_of_the_table(split.rows):
        if isinstance(column, ORDERED):
            return Part(axis=column.axis(values, where=split.where))
        return Part(places=column.places(values, where=split.where))


def _target(name: str, kind: str, train: _Split, splits: Mapping[str, _Split]) -> ColumnView:
    """The label, the weight, or what decides on the splits, which a file of one split need not have."""
    count, commonest = _texts(train.values(name))
    within = {split: each for split, each in splits.items() if name in each.table.column_names}
    missing = {split: _missing(each.values(name)) for split, each in within.items()}
    return ColumnView(name, kind, missing, count, commonest=commonest)


def _refused(name: str, train: _Split, options: TableOptions, *, untyped: bool) -> str | None:
    """Why a run would refuse a column of `--slice`; None if it does not."""
    try:
        check_count(name, Coded.of(column_of(train.table, name)), options, untyped=untyped, where=train.where)
    except UsageError as error:
        return str(error)
    return None


def _missing(values: pa.ChunkedArray) -> int:
    from pyarrow import compute

    values = cleaned(values) if is_text(values) else values
    return int(compute.sum(compute.is_null(values, nan_is_null=True)).as_py() or 0)


def _texts(values: pa.ChunkedArray) -> tuple[int | None, Sequence[tuple[str, int]]]:
    """The number of distinct values and the commonest ones; None for a type that cannot be told as text."""
    import pyarrow as pa

    try:
        places, texts = distinct(values)
    except (pa.ArrowException, TypeError, ValueError):
        return None, ()
    counts: Counter[str] = Counter()
    for text, count in zip(texts, np.bincount(places, minlength=len(texts)), strict=True):
        if text is not None and count:
            counts[text] += int(count)
    return len(counts), counts.most_common(COMMONEST)
