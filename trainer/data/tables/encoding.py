"""Encodes the rows of all splits into a sink, part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.blocks import BLOCK_ROWS
from trainer.data.tables.coded import Codes
from trainer.data.tables.first_error import Check, first_error
from trainer.data.tables.held import Held, Readable
from trainer.data.tables.kinds import IDS
from trainer.data.tables.parts import Part
from trainer.data.tables.schema import Rows, Schema, check_weights
from trainer.data.tables.sinks import InPlace, Layout, Sink
from trainer.data.tables.streamed import Streamed
from trainer.data.tables.targets import Classes
from trainer.data.tables.targets.classes import class_numbers
from trainer.data.tables.targets.number_labels import NumberLabels
from trainer.data.tables.targets.quantity import number_labels
from trainer.data.tables.targets.tally import Tally
from trainer.data.tables.threads import in_order
from trainer.data.tables.values import Indices
from trainer.errors import UsageError


@dataclass(frozen=True)
class Splitted:
    """The rows of a split: a table and which of its rows, None for all; their labels (n,) if they are known."""

    table: Readable
    where: str
    rows: Indices | None
    labels: NDArray[Any] | None
    located: Callable[[], AbstractContextManager[None]]

    def __len__(self) -> int:
        return self.table.rows if self.rows is None else len(self.rows)

    def part(self, whole: Part) -> tuple[Part, int]:
        """The rows of this split in a part of the table, and the number in the split of the first of them."""
        if self.rows is None:
            return whole, whole.first
        return whole.of_rows(self.rows), int(np.searchsorted(self.rows, whole.first))


@dataclass
class _Counts:
    """What is counted while a split is encoded."""

    tally: Tally
    missing: dict[str, int] = field(default_factory=dict)
    unseen: dict[str, int] = field(default_factory=dict)

    def merge(self, other: _Counts) -> None:
        self.tally.merge(other.tally)
        for mine, others in ((self.missing, other.missing), (self.unseen, other.unseen)):
            for name, count in others.items():
                mine[name] = mine.get(name, 0) + count


def encoded(
    schema: Schema, splits: Mapping[str, Splitted], layout: Layout, sink: Sink
) -> tuple[Mapping[str, Rows], Mapping[str, Tally]]:
    """Writes the rows of all splits, and returns what the sink makes of them, with what was counted."""
    for name, split in splits.items():
        sink.open(name, len(split), layout)
    counts = {name: _Counts(Tally(len(schema.target.names))) for name in splits}
    tables: dict[int, dict[str, Splitted]] = {}
    for name, split in splits.items():
        tables.setdefault(id(split.table), {})[name] = split
    try:
        for of_table in tables.values():
            _encode_table(schema, of_table, layout, sink, counts)
    except UsageError:
        # The error of the first split that has one, and in it that of its first column.
        for name, split in splits.items():
            _explain(schema, split)
            _check(schema, split, _tally(schema, split), name)
        raise
    for name, split in splits.items():
        _check(schema, split, counts[name].tally, name)
    rows = sink.close()
    order = [column.name for column in schema.columns]
    return (
        {
            name: replace(
                rows[name],
                missing={each: found.missing[each] for each in order if each in found.missing},
                unseen={each: found.unseen[each] for each in order if each in found.unseen},
            )
            for name, found in counts.items()
        },
        {name: found.tally for name, found in counts.items()},
    )


def _check(schema: Schema, split: Splitted, tally: Tally, name: str) -> None:
    """Raises UsageError for a split that cannot be learned from, or not be judged on."""
    with split.located():
        if schema.weight is not None:
            check_weights(schema.weight, tally.largest_weight, where=split.where)
        schema.target.check_rows(tally, name, where=split.where)


def _encode_table(
    schema: Schema, splits: Mapping[str, Splitted], layout: Layout, sink: Sink, counts: Mapping[str, _Counts]
) -> None:
    """Writes the rows of the splits that are in one table."""
    table = next(iter(splits.values())).table
    table.as_numbers([column.name for column in schema.columns if column.kind == "number"])
    needed = _needed(schema, table, splits)

    def work(whole: Part) -> dict[str, _Counts]:
        part = table.prepared(whole) if isinstance(table, Streamed) else whole
        shared = None if isinstance(sink, InPlace) else _encoded_once(schema, splits, part, layout)
        return {name: _encode_part(schema, split, name, part, layout, sink, shared) for name, split in splits.items()}

    if isinstance(table, Held):
        parts = [Part.of(table.table)] if isinstance(sink, InPlace) else _blocks(table.table)
        results: Iterable[dict[str, _Counts]] = map(work, parts)
    else:
        results = in_order(table.parts(needed, "rows"), work)
    for found in results:
        for name, each in found.items():
            counts[name].merge(each)


def _blocks(table: Any) -> Iterator[Part]:
    return (Part(table.slice(start, BLOCK_ROWS), start) for start in range(0, table.num_rows, BLOCK_ROWS))


def _needed(schema: Schema, table: Readable, splits: Mapping[str, Splitted]) -> list[str]:
    """The columns that are encoded, without the label if it is known. Raises UsageError if one is missing."""
    found = [column.name for column in schema.columns]
    if any(split.labels is None for split in splits.values()):
        found.append(schema.label)
    found += [] if schema.weight is None else [schema.weight]
    return [name for name in dict.fromkeys(found) if name in table.names]


def _encoded_once(
    schema: Schema, splits: Mapping[str, Splitted], whole: Part, layout: Layout
) -> NDArray[np.float32] | None:
    """The features (n, d) of all rows of a part that is shared out among splits; None if each is to be encoded alone.

    Whole columns are encoded faster than chosen rows of them. What is missing, unseen or wrong is counted by split.
    """
    if len(splits) < 2 or not layout.dense or layout.ids:
        return None
    if sum(len(split.part(whole)[0]) for split in splits.values()) != len(whole):
        return None
    features = np.empty((len(whole), layout.width), np.float32)
    try:
        missing, unseen = schema.encode_into(whole.table, features, None, where="")
    except UsageError:
        return None
    return None if missing or unseen else features


def _encode_part(  # noqa: PLR0917
    schema: Schema,
    split: Splitted,
    name: str,
    whole: Part,
    layout: Layout,
    sink: Sink,
    shared: NDArray[np.float32] | None,
) -> _Counts:
    part, first = split.part(whole)
    counts = _Counts(Tally(len(schema.target.names)))
    count = len(part)
    if not count:
        return counts
    if isinstance(sink, InPlace):
        rows = sink.place(name, first, count)
    else:
        rows = Rows(
            (np.empty if layout.dense else np.zeros)((count, layout.width), np.float32),
            np.empty(count, np.float32),
            np.empty(count, np.float32) if layout.weighted else None,
            {},
            ids=np.empty((count, layout.ids), np.int32) if layout.ids else None,
        )
    assert rows.labels is not None  # noqa: S101  every sink has them
    # Errors are found again by `_explain`, with their rows.
    if shared is not None and part.rows is not None:
        np.take(shared, part.rows, axis=0, out=rows.features, mode="clip")
    else:
        counts.missing, counts.unseen = schema.encode_into(
            part.table, rows.features, rows.ids, where=split.where, rows=part.rows
        )
    if split.labels is not None:
        rows.labels[:] = split.labels[first : first + count]
    elif schema.label in part.table.column_names:
        rows.labels[:] = schema.target.encode(schema.label, part.values(schema.label), where=split.where)
    else:
        raise UsageError(f"the label column {schema.label!r} is missing", where=split.where)
    weights = None
    if schema.weight is not None:
        if schema.weight not in part.table.column_names:
            raise UsageError(f"the weight column {schema.weight!r} is missing", where=split.where)
        weights = schema.weights(part.values(schema.weight), where=split.where)
        assert rows.weights is not None  # noqa: S101  the layout is weighted
        rows.weights[:] = weights
    counts.tally.add(rows.labels, rows.weights)
    if weights is not None:
        counts.tally.largest_weight = float(weights.max())
    if not isinstance(sink, InPlace):
        sink.write(name, first, rows)
    return counts


# ---- errors ----------------------------------------------------------------------------------------------------------


def _explain(schema: Schema, split: Splitted) -> None:
    """Raises the error of a split's rows, of the first column that has one, as if all rows had been seen at once."""
    checks = _checks(schema, split)
    names = [name for name, _ in checks if name in split.table.names]

    def parts() -> Iterator[Part]:
        found = (split.part(part)[0] for part in split.table.parts(list(dict.fromkeys(names)), "message"))
        return (part for part in found if len(part))

    worst = len(checks)
    for part in parts():
        for place, (name, check) in enumerate(checks[:worst]):
            if name in names and _fails(check, part.values(name)):
                worst = place
                break
    with split.located():
        for place, (name, check) in enumerate(checks):
            if name not in names:
                what = "label" if name == schema.label else "weight"
                raise UsageError(f"the {what} column {name!r} is missing", where=split.where)
            if place == worst and name == schema.label:
                _explain_labels(schema, split, parts())
            if place == worst:
                error = first_error(((part.values(name), part.number) for part in parts()), check)
                assert error is not None  # noqa: S101  it failed before
                raise error


def _checks(schema: Schema, split: Splitted) -> list[tuple[str, Check]]:
    """What raises for each column, in the order in which they are encoded."""
    where = split.where
    checks: list[tuple[str, Check]] = [
        (column.name, partial(_check_column, column, where=where)) for column in schema.columns
    ]
    if split.labels is None:
        checks.append((schema.label, lambda values: _ignored(schema.target.encode(schema.label, values, where=where))))
    if schema.weight is not None:
        checks.append((schema.weight, lambda values: _ignored(schema.weights(values, where=where))))
    return checks


def _check_column(column: Any, values: Any, *, where: str) -> None:
    if isinstance(column, IDS):
        column.encode_ids(values, np.empty(len(values), np.int32), first=0, where=where)
    else:
        column.encode(values, np.zeros((len(values), column.width), np.float32), where=where)


def _ignored(_: object) -> None:
    pass


def _fails(check: Check, values: Any) -> bool:
    try:
        check(values)
    except UsageError:
        return True
    return False


def _tally(schema: Schema, split: Splitted) -> Tally:
    """What is counted of a split's labels and weights, without encoding it."""
    tally = Tally(len(schema.target.names))
    for whole in split.table.parts(_needed_for_tally(schema, split), "message"):
        part, first = split.part(whole)
        labels, weights = split.labels, None
        if labels is not None:
            labels = labels[first : first + len(part)]
        else:
            labels = schema.target.encode(schema.label, part.values(schema.label), where=split.where)
        if schema.weight is not None and len(part):
            weights = schema.weights(part.values(schema.weight), where=split.where)
            largest = float(weights.max())
            tally.add(labels, weights.astype(np.float32))
            tally.largest_weight = max(tally.largest_weight, largest)
        else:
            tally.add(labels, None)
    return tally


def _needed_for_tally(schema: Schema, split: Splitted) -> list[str]:
    names = [schema.label, *([] if schema.weight is None else [schema.weight])]
    return [name for name in names if name in split.table.names]


def _explain_labels(schema: Schema, split: Splitted, parts: Iterable[Part]) -> None:
    """Raises the error of the labels, which may count those that are missing."""
    name, where, rows = schema.label, split.where, list[Indices]()
    codes, numbers = Codes(), NumberLabels()
    before = 0
    for part in parts:
        values = part.values(name)
        if isinstance(schema.target, Classes):
            codes.add(values)
        else:
            numbers.add(name, values, before, where=where)
        rows.append(part.row_numbers)
        before += len(part)
    kind = split.table.kinds[name]
    try:
        if isinstance(schema.target, Classes):
            class_numbers(schema.target, name, codes.done(kind), where=where)
        else:
            number_labels(schema.target, name, numbers, where=where)
    except UsageError as error:
        if error.row is None:
            raise
        row = int(np.concatenate(rows)[error.row - 1]) + 1
        raise UsageError(error.what, where=error.where, fix=error.fix, row=row) from error
