"""The splits of a table: reads it, splits it by the seed, and encodes it with the schema of the training rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.data.fingerprint import Fingerprint, SplitRows, TableFingerprint
from trainer.data.stratified import SPLIT_VERSION
from trainer.data.tables.checksums import fingerprint_of
from trainer.data.tables.division import NAMES, check_split_options, divided, split_columns
from trainer.data.tables.frame import Frame
from trainer.data.tables.learn import Wanted, learn_schema, learn_target
from trainer.data.tables.once import release_unused, with_numbers
from trainer.data.tables.options import ClassOptions, TableOptions, category_options
from trainer.data.tables.reading import located, open_stream, whole
from trainer.data.tables.schema import Rows, Schema, check_present
from trainer.data.tables.sources import Given, short, where_of
from trainer.data.tables.targets import Target
from trainer.data.tables.targets.base import is_missing
from trainer.data.tables.values import Indices, column_of, rows_of_the_table
from trainer.errors import UsageError, listed

if TYPE_CHECKING:
    import pyarrow as pa

    from trainer.data.tables.stream import FileRows, TableStream


@dataclass(frozen=True)
class TableSplits:
    """The encoded splits, and the rows of `data` (from 0) in each; the rows are None for a split with its own file."""

    train: Rows
    validation: Rows | None
    test: Rows | None
    schema: Schema
    train_rows: Indices
    validation_rows: Indices | None
    test_rows: Indices | None
    split_version: int | None = None
    """How the rows were divided, for `trainer.Splits`; None if no rows of `data` were split off."""
    notes: Sequence[str] = ()
    """What the user should know about how the table was understood, a line each."""
    files: Mapping[str, Sequence[FileRows]] = field(default_factory=dict)
    """The files that were read, for `trainer.Splits`."""
    fingerprint: Fingerprint | None = None
    """What identifies the tables and the rows of each split, for `trainer.Splits`."""


def load_splits(options: TableOptions, *, seed: int) -> TableSplits:
    """Reads the table, splits it (classes in equal shares), learns the schema from the training rows, and encodes.

    Raises UsageError like `read_table` and `Schema`, and if there are too few rows to split or a split has only one
    class, on which a model cannot be evaluated.
    """
    where = where_of(options.data)
    with reading(options.data, options.delimiter) as stream:
        names, untyped, notes = list(stream.names), stream.untyped, list(stream.notes)
        if options.label is None:
            raise UsageError("no label column is given", where="--label", fix=f"Columns: {listed(names)}.")
        wanted = wanted_of(options)
        targets = [options.label, *([] if options.sample_weight is None else [options.sample_weight])]
        check_split_options(options, names, where=where)
        chosen = wanted.chosen(names, where=where, left_out=stream.left_out)
        # The columns that are ignored are not read: whatever is wrong with them does not matter.
        table = whole(stream, list(dict.fromkeys([*chosen, *targets, *split_columns(options).values()])))
    tables = {"data": fingerprint_of(table)}
    if untyped:
        apart = {*wanted.categorical, *split_columns(options).values()}
        for name in (name for name in chosen if name not in apart):
            # One by one, so that a column's text is given up before the next is read.
            table = with_numbers(table, name)
        release_unused()
    with located(stream):
        target, parts = divide(options, wanted, table, seed=seed, untyped=untyped, where=where, notes=notes)
        # What is left out was not read, or only for the splits.
        wanted = replace(wanted, features=tuple(chosen), ignore=())
        learned = learn_schema(table, wanted, untyped=untyped, where=where, rows=parts["train"], target=target)
    schema = learned.schema
    others = {"validation": options.validation_data, "test": options.test_data}
    files = {"data": stream.files}
    rows: dict[str, Rows | None] = {}
    used: dict[str, SplitRows] = {}
    for split, name in NAMES.items():
        given = others.get(split)
        if given:
            option = f"{split}-data"
            rows[split], files[option], more, tables[option], used[split] = _of_file(given, schema, options, split)
            notes += [f"{short(given, name)}: {note}" for note in more if note not in notes]
        elif split in parts:
            with located(stream):
                rows[split] = _encoded(schema, table, f"the {name} rows of {where}", split, parts[split])
            used[split] = SplitRows.of("data", parts[split])
        else:
            rows[split] = None
    train = rows["train"]
    assert train is not None  # noqa: S101
    return TableSplits(
        train,
        rows["validation"],
        rows["test"],
        schema,
        parts["train"],
        parts.get("validation"),
        parts.get("test"),
        SPLIT_VERSION if len(parts) > 1 else None,
        (*notes, *learned.notes),
        {option: found for option, found in files.items() if found},
        Fingerprint(tables, used),
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


@contextmanager
def reading(source: Given | Frame, delimiter: str | None) -> Iterator[TableStream]:
    """The table in files or in memory. If its delimiter seems to be another one than the given, errors say so."""
    with closing(open_stream(source, delimiter=delimiter)) as stream:
        try:
            yield stream
        except UsageError as error:
            if not stream.advice:
                raise
            fix = f"{error.fix} {stream.advice}".strip()
            raise UsageError(error.what, where=error.where, fix=fix, row=error.row) from error


def _labelled(table: pa.Table, label: str, notes: list[str]) -> Indices | None:
    """The rows that have a label, with a note on the others; None if all have one."""
    missing = is_missing(column_of(table, label))
    if not missing.any() or missing.all():
        return None
    notes.append(f"{missing.sum()} of {len(missing)} rows have no label in column {label} and are left out")
    return np.flatnonzero(~missing)


def _of_file(
    given: Given | Frame, schema: Schema, options: TableOptions, split: str
) -> tuple[Rows, Sequence[FileRows], Sequence[str], TableFingerprint, SplitRows]:
    """The rows of a validation or test table, of which the schema's columns are read, the files, notes, and data."""
    where = where_of(given, NAMES[split])
    with reading(given, options.delimiter) as stream:
        check_present(schema, stream.names, where=where)
        wanted = [*(column.name for column in schema.columns), schema.label]
        wanted += [] if schema.weight is None else [schema.weight]
        table = whole(stream, [name for name in wanted if name in stream.names])
        fingerprint, notes = fingerprint_of(table), list(stream.notes)
        if stream.untyped:
            for column in schema.columns:
                table = with_numbers(table, column.name) if column.kind == "number" else table
            release_unused()
        drops = options.drop_unlabelled and schema.label in table.column_names
        with located(stream):
            rows = _labelled(table, schema.label, notes) if drops else None
            name = f"{split}-data"
            used = SplitRows(name, table.num_rows) if rows is None else SplitRows.of(name, rows)
            encoded = _encoded(schema, table, where, split, rows)
        return encoded, stream.files, notes, fingerprint, used


def _encoded(schema: Schema, table: pa.Table, where: str, split: str, indices: Indices | None = None) -> Rows:
    rows = schema.encode(table, where=where, rows=indices)
    if rows.labels is None:
        raise UsageError(f"the label column {schema.label!r} is missing", where=where)
    if schema.weight is not None and rows.weights is None:
        raise UsageError(f"the weight column {schema.weight!r} is missing", where=where)
    schema.target.check_rows(rows.labels, rows.weights, split, where=where)
    return rows


def divide(
    options: TableOptions,
    wanted: Wanted,
    table: pa.Table,
    *,
    seed: int,
    untyped: bool,
    where: str,
    notes: list[str],
) -> tuple[Target, dict[str, Indices]]:
    """What the label column is, and the rows of each split, in the file's order, without those that are left out.

    Classes come from the whole file: the stratified split needs them, and nothing is estimated from them. The mean and
    the deviation of a number come from the training rows. `notes` are added to.
    """
    kept = _labelled(table, wanted.label, notes) if options.drop_unlabelled else None
    target = learn_target(table, wanted, untyped=untyped, where=where, rows=kept)
    with rows_of_the_table(kept):
        labels = target.encode(wanted.label, column_of(table, wanted.label, kept), where=where)
    parts = divided(options, seed, target, labels, table, kept, untyped=untyped, where=where, notes=notes)
    target = target.fitted(wanted.label, labels[parts["train"]], where=where)
    return target, parts if kept is None else {split: kept[part] for split, part in parts.items()}


def describe(splits: TableSplits) -> list[str]:
    """What was read and how it was interpreted, in a few lines for the user, without the notes."""
    schema = splits.schema
    parts = {name: getattr(splits, split) for split, name in NAMES.items()}
    present: dict[str, Rows] = {name: rows for name, rows in parts.items() if rows is not None}
    kinds = [column.kind for column in schema.columns]
    counted = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    lines = [
        "rows: " + ", ".join(f"{len(rows.features)} {name}{_summary(schema, rows)}" for name, rows in present.items()),
        f"columns: {counted} → {_inputs(schema)}",
        schema.target.describe(schema.label),
    ]
    for what, counts in (
        ("missing values", _total(present, "missing")),
        (f"categories {schema.unseen_means}", _total(present, "unseen")),
    ):
        if counts:
            lines.append(f"{what}: " + listed((f"{name} {count}" for name, count in counts.items()), limit=8))
    return lines


def _inputs(schema: Schema) -> str:
    """The inputs of the net: `7 inputs, 3 ids (41,233 rows × 16 weights)`."""
    names = schema.feature_names
    parts = [f"{len(names)} input{'' if len(names) == 1 else 's'}"] if names or not schema.id_tables else []
    for table in schema.id_tables:
        count = len(table.columns)
        weights = f" × {table.units} weights" if table.units else " of weights"
        parts.append(f"{count} id{'' if count == 1 else 's'} ({table.rows:,} rows{weights})")
    return ", ".join(parts)


def _summary(schema: Schema, rows: Rows) -> str:
    return f" ({schema.target.summary(rows.labels)})" if rows.labels is not None else ""


def _total(parts: Mapping[str, Rows], attribute: str) -> dict[str, int]:
    total: dict[str, int] = {}
    for rows in parts.values():
        counts: Mapping[str, Any] = getattr(rows, attribute)
        for name, count in counts.items():
            total[name] = total.get(name, 0) + count
    return total
