"""What a table will be: its schema, the rows of its splits, its size; all that is known before it is encoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.fingerprint import Fingerprint, SplitRows
from trainer.data.slices import SlicesBySplit
from trainer.data.split_names import NAMES
from trainer.data.stratified import SPLIT_VERSION
from trainer.data.tables.division import Deciding, check_split_options, divided, split_columns
from trainer.data.tables.encoding import Splitted, encoded
from trainer.data.tables.frame import Frame
from trainer.data.tables.held import Held, Readable, Watch
from trainer.data.tables.labels import LabelSurvey
from trainer.data.tables.learn import Read, learn_columns, one_by_one, sized_columns
from trainer.data.tables.needs import bytes_needed
from trainer.data.tables.options import ClassOptions, TableOptions, category_options
from trainer.data.tables.parts import Part
from trainer.data.tables.reading import advised, reading
from trainer.data.tables.schema import Rows, Schema, check_present
from trainer.data.tables.sinks import Layout, MemorySink, Sink
from trainer.data.tables.sliced import SlicedRows, SliceSurvey, check_slice_columns, slices_of
from trainer.data.tables.sources import Given, short, where_of
from trainer.data.tables.stream import FileRows, TableStream
from trainer.data.tables.streamed import Streamed
from trainer.data.tables.survey import ColumnSurvey
from trainer.data.tables.targets import Target
from trainer.data.tables.targets.base import is_missing
from trainer.data.tables.targets.tally import Tally
from trainer.data.tables.threads import in_order
from trainer.data.tables.values import Indices, rows_of_the_table
from trainer.data.tables.wanted import Wanted
from trainer.errors import UsageError, listed

LISTS, LEAST_LIST = 4, 1 << 20
"""The list of a column's distinct values may take this part of the memory, and so many bytes at any rate."""

EMPTY = np.zeros(0, bool)


@dataclass(frozen=True)
class TableSplits:
    """The encoded splits, and the rows of `data` (from 0) in each.

    The row numbers are None for a split with its own file, and if the encoded rows come from a cache.
    """

    train: Rows
    validation: Rows | None
    test: Rows | None
    schema: Schema
    train_rows: Indices | None = None
    validation_rows: Indices | None = None
    test_rows: Indices | None = None
    split_version: int | None = None
    """How the rows were divided, for `trainer.Splits`; None if no rows of `data` were split off."""
    notes: Sequence[str] = ()
    """What the user should know about how the table was understood, a line each."""
    files: Mapping[str, Sequence[FileRows]] = field(default_factory=dict)
    """The files that were read, for `trainer.Splits`."""
    fingerprint: Fingerprint | None = None
    """What identifies the tables and the rows of each split, for `trainer.Splits`."""
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    """What the labels of each split are like."""
    calibration: Rows | None = field(default=None, kw_only=True)
    calibration_rows: Indices | None = field(default=None, kw_only=True)
    slices: SlicesBySplit = field(default_factory=dict, kw_only=True)
    """The evaluated rows by the values of `TableOptions.slice`, by split and column, for `trainer.Splits`."""


@dataclass(frozen=True)
class Plan:
    """A table that is understood and divided. `encode` reads it once more, for the rows of all splits."""

    schema: Schema
    splits: Mapping[str, Splitted]
    """The splits in their order: the table that each is in, and which of its rows."""
    parts: Mapping[str, Indices]
    """The rows of `data` in each split that has no file of its own."""
    notes: Sequence[str]
    files: Mapping[str, Sequence[FileRows]]
    fingerprint: Fingerprint
    slices: SlicesBySplit

    @property
    def layout(self) -> Layout:
        """What a row consists of."""
        schema = self.schema
        return Layout(schema.width, len(schema.id_names), schema.weight is not None, schema.is_dense)

    @property
    def sizes(self) -> Mapping[str, int]:
        """The rows of each split."""
        return {name: len(split) for name, split in self.splits.items()}

    @property
    def bytes(self) -> int:
        """The memory of all encoded rows."""
        return sum(self.sizes.values()) * self.layout.row_bytes

    def encode(self, sink: Sink | None = None) -> TableSplits:
        """Encodes all rows into a sink; into memory without one.

        Raises UsageError like `Schema.encode`, and for a split that cannot be learned from or be judged on. A sink that
        was opened is then not closed.
        """
        rows, tallies = encoded(self.schema, self.splits, self.layout, sink or MemorySink())
        parts = self.parts
        return TableSplits(
            rows["train"],
            rows.get("validation"),
            rows.get("test"),
            self.schema,
            parts["train"],
            parts.get("validation"),
            parts.get("test"),
            SPLIT_VERSION if len(parts) > 1 else None,
            self.notes,
            self.files,
            self.fingerprint,
            tallies,
            calibration=rows.get("calibration"),
            calibration_rows=parts.get("calibration"),
            slices=self.slices,
        )


def planned(options: TableOptions, *, seed: int, memory: int | None = None, watch: Watch | None = None) -> Plan:
    """Reads the table as far as its schema and its splits need it.

    `memory` is how many bytes may be taken: files that would need more are read in passes, a few blocks at a time, and
    the others once. None: everything is held. `watch` is called with what is read for, how much was read, and how
    much there is. Raises UsageError like `load_splits`.
    """
    where = where_of(options.data)
    with reading(options.data, options.delimiter) as stream:
        names, notes = list(stream.names), list(stream.notes)
        if options.label is None:
            raise UsageError("no label column is given", where="--label", fix=f"Columns: {listed(names)}.")
        wanted = wanted_of(options)
        targets = [options.label, *([] if options.sample_weight is None else [options.sample_weight])]
        check_split_options(options, names, where=where)
        check_slice_columns(options, names, where=where)
        chosen = wanted.chosen(names, where=where, left_out=stream.left_out)
        # The columns that are ignored are not read: whatever is wrong with them does not matter.
        columns = list(dict.fromkeys([*chosen, *targets, *split_columns(options).values(), *options.slice]))
        opening = partial(_opened, delimiter=options.delimiter, memory=memory, watch=watch)
        table = opening(options.data, stream, where, columns)
    apart = {*wanted.categorical, *split_columns(options).values(), *options.slice}
    table.as_numbers([name for name in chosen if name not in apart])
    with table.located():
        sliced = SliceSurvey(options, table.kinds, untyped=table.untyped, where=where)
        target, labels, kept, parts = divide(options, wanted, table, seed=seed, notes=notes, sliced=sliced)
        columns_of_slices = sliced.columns()
        schema, more = learned(table, chosen, wanted, target, parts["train"], memory=memory)
    splits: dict[str, Splitted] = {}
    files = {"data": table.files}
    tables = {"data": table.fingerprint}
    used: dict[str, SplitRows] = {}
    slices: dict[str, SlicedRows] = {}
    others = options.own_tables()
    for split, name in NAMES.items():
        given = others.get(split)
        if given:
            option = f"{split}-data"
            own, found, sliced = _of_file(given, schema, options, split, opening)
            slices[split] = SlicedRows(sliced.columns(), own.rows)
            splits[split], files[option], tables[option] = own, own.table.files, own.table.fingerprint
            used[split] = SplitRows(option, len(own)) if own.rows is None else SplitRows.of(option, own.rows)
            notes += [f"{short(given, name)}: {note}" for note in found if note not in notes]
        elif split in parts:
            places = parts[split] if kept is None else np.searchsorted(kept, parts[split])
            own = Splitted(table, f"the {name} rows of {where}", parts[split], labels[places], table.located)
            splits[split], used[split] = own, SplitRows.of("data", parts[split])
            slices[split] = SlicedRows(columns_of_slices, parts[split])
    return Plan(
        schema,
        splits,
        parts,
        (*notes, *more),
        {option: found for option, found in files.items() if found},
        Fingerprint(tables, used),
        slices_of(slices),
    )


def wanted_of(options: TableOptions) -> Wanted:
    """What the options say about the columns."""
    return Wanted(
        label=options.label or "",
        positive_class=options.positive_class if isinstance(options, ClassOptions) else None,
        target=options.target_kind(),
        for_numbers=options.for_numbers,
        for_classes=options.for_classes,
        features=options.features,
        ignore=options.ignore,
        categorical=options.categorical,
        numeric=options.numeric,
        sample_weight=options.sample_weight,
        standardize=options.standardize,
        apart=tuple(name for option, name in split_columns(options).items() if option != "time"),
        categories=category_options(options),
    )


def _opened(
    source: Given | Frame,
    stream: TableStream,
    where: str,
    names: Sequence[str],
    *,
    delimiter: str | None,
    memory: int | None,
    watch: Watch | None,
) -> Readable:
    """Some columns of a table, held if they fit into the memory."""
    if memory is not None and not isinstance(source, Frame) and (bytes_needed(source) or 0) > memory:
        return Streamed(source, stream, where, names, delimiter=delimiter, watch=watch)
    return Held(stream, where, names, watch=watch)


def divide(
    options: TableOptions,
    wanted: Wanted,
    table: Readable,
    *,
    seed: int,
    notes: list[str],
    sliced: SliceSurvey | None = None,
) -> tuple[Target, NDArray[Any], Indices | None, dict[str, Indices]]:
    """What the label column is, the labels of the rows that are kept, which those are, and the rows of each split.

    Rows without a label may be left out. Classes come from the whole file: the stratified split needs them, and nothing
    is estimated from them. The mean and the deviation of a number come from the training rows. `notes` are added to,
    and `sliced` gets all rows.
    """
    where, label, drops = table.where, wanted.label, options.drop_unlabelled
    survey = LabelSurvey(wanted, table.kinds[label], untyped=table.untyped, where=where, drop_unlabelled=drops)
    deciding = None
    for option, name in split_columns(options).items():
        deciding = Deciding(option, name, table.kinds[name], untyped=table.untyped, where=where)

    def of_kept(part: Part, name: str) -> Any:
        values = part.values(name)
        return values.filter(~is_missing(part.values(label))) if drops else values

    read = [label] if deciding is None else [label, deciding.name]
    for part in table.parts([*dict.fromkeys([*read, *(options.slice if sliced is not None else ())])], "labels"):
        survey.add(part.values(label))
        if deciding is not None:
            deciding.add(of_kept(part, deciding.name))
        if sliced is not None:
            sliced.add(part)
    if survey.again:
        survey.restart()
        for part in table.parts([label], "labels"):
            survey.add(part.values(label))
    kept = survey.kept
    if kept is not None:
        notes.append(f"{survey.missing} of {survey.rows} rows have no label in column {label} and are left out")
    target = survey.target()
    labels = survey.labels(target)

    def again() -> Iterable[Any]:
        assert deciding is not None  # noqa: S101  asked for its values only
        return (of_kept(part, deciding.name) for part in table.parts(read, "labels"))

    with rows_of_the_table(kept):
        parts = divided(options, seed, target, labels, deciding, again, where=where, notes=notes)
    target = target.fitted(label, labels[parts["train"]], where=where)
    return target, labels, kept, parts if kept is None else {split: kept[part] for split, part in parts.items()}


def learned(
    table: Readable, chosen: Sequence[str], wanted: Wanted, target: Target, rows: Indices, *, memory: int | None = None
) -> tuple[Schema, list[str]]:
    """The schema, learned from some rows of a table, and notes on it."""
    where, notes = table.where, list[str]()
    limit = None if memory is None or isinstance(table, Held) else max(memory // LISTS, LEAST_LIST)
    columns = [
        ColumnSurvey(name, table.kinds[name], wanted, untyped=table.untyped, where=where, limit=limit)
        for name in chosen
    ]
    # A table's fingerprint is made of all its columns, so the first pass reads those that nothing is learned from, too.
    unread = [name for name in table.names if name not in chosen]

    def parts_of(names: Sequence[str]) -> Iterator[Part]:
        also, unread[:] = list(unread), []
        found = (part.of_rows(rows) for part in table.parts([*names, *also], "schema"))
        return (part for part in found if len(part))

    read: Read = parts_of
    kinds = learn_columns(columns, read, notes, one_by_one if isinstance(table, Held) else in_order)
    return Schema(sized_columns(kinds, wanted, where=where), wanted.label, target, wanted.sample_weight), notes


def _of_file(
    given: Given | Frame, schema: Schema, options: TableOptions, split: str, opening: Any
) -> tuple[Splitted, list[str], SliceSurvey]:
    """A split that has a table of its own, of which the schema's columns are read, notes on it, and its slices."""
    where = where_of(given, NAMES[split])
    with reading(given, options.delimiter) as stream:
        check_present(schema, stream.names, where=where)
        wanted = [*(column.name for column in schema.columns), schema.label]
        wanted += [] if schema.weight is None else [schema.weight]
        check_slice_columns(options, stream.names, where=where)
        names = [name for name in dict.fromkeys([*wanted, *options.slice]) if name in stream.names]
        table: Readable = opening(given, stream, where, names)
        notes = list(stream.notes)
        looked_for = options.drop_unlabelled and schema.label in names
        # A streamed table is read for its fingerprint and its rows in any case.
        missing, sliced = [EMPTY], SliceSurvey(options, table.kinds, untyped=table.untyped, where=where)
        for part in table.parts(names, split):
            sliced.add(part)
            if looked_for:
                missing.append(is_missing(part.values(schema.label)))
    numbers = [column.name for column in schema.columns if column.kind == "number"]
    table.as_numbers([name for name in numbers if name not in options.slice])
    rows = None
    without = np.concatenate(missing)
    if without.any() and not without.all():
        notes.append(f"{without.sum()} of {len(without)} rows have no label in column {schema.label} and are left out")
        rows = np.flatnonzero(~without)

    @contextmanager
    def located() -> Iterator[None]:
        with advised(stream), table.located():
            yield

    return Splitted(table, where, rows, None, located), notes, sliced
