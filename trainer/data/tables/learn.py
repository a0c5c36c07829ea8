"""Decides what each column is: one function over the values of the training rows, whatever file they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from trainer.data.tables.first_error import first_error
from trainer.data.tables.id_tables import sized
from trainer.data.tables.kinds import Column
from trainer.data.tables.labels import LabelSurvey
from trainer.data.tables.parts import Part
from trainer.data.tables.schema import Schema
from trainer.data.tables.survey import ColumnSurvey, Found, WrongValue
from trainer.data.tables.targets import Target
from trainer.data.tables.values import Indices, column_of, plain_type, rows_of_the_table
from trainer.data.tables.wanted import Wanted

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class Learned:
    """The schema, and what the user should know about it, a line each."""

    schema: Schema
    notes: list[str] = field(default_factory=list)


Read: TypeAlias = Callable[[Sequence[str]], Iterable[Part]]
"""Reads some columns from the beginning of the table."""
Looked: TypeAlias = Callable[[Iterable[Part], "Callable[[Part], list[Found]]"], "Iterator[list[Found]]"]
"""Calls a function for each part, in their order; perhaps in threads, ahead of who takes what it found."""


def one_by_one(parts: Iterable[Part], look: Callable[[Part], list[Found]]) -> Iterator[list[Found]]:
    """Looks at a part when what it found is taken."""
    return map(look, parts)


def learn_columns(
    columns: Sequence[ColumnSurvey], read: Read, notes: list[str], looked: Looked = one_by_one
) -> tuple[Column, ...]:
    """Learns what the columns are, in one pass over the rows; a further one if a column turns out to be something else.

    Raises UsageError for the first column that is refused, which may cost a pass over it.
    """
    pending = list(columns)
    while pending:
        for found in looked(read([column.name for column in pending]), partial(_look, pending)):
            for column, each in zip(pending, found, strict=True):
                column.take(each)
        pending = [column for column in pending if column.again]
        for column in pending:
            column.restart()
    return tuple(_learned(column, read, notes) for column in columns)


def _look(columns: Sequence[ColumnSurvey], part: Part) -> list[Found]:
    return [column.look(part) for column in columns]


def _learned(column: ColumnSurvey, read: Read, notes: list[str]) -> Column:
    try:
        return column.learned(notes)
    except WrongValue as wrong:
        parts = ((part.values(column.name), part.number) for part in read([column.name]))
        error = first_error(parts, wrong.check)
        if error is None:
            raise AssertionError(f"no value of {column.name} is wrong") from wrong
        raise error from None


def learn_schema(
    table: pa.Table,
    wanted: Wanted,
    *,
    untyped: bool,
    where: str = "the table",
    rows: Indices | None = None,
    target: Target | None = None,
) -> Learned:
    """Learns from the training rows only: the whole table, or its `rows` (n,), counted from 0.

    `target` is what the label column is, if that is known; otherwise it is learned from the same rows. `untyped` says
    that the table was read as text, so that numbers among it are numbers. Raises UsageError for options and values that
    cannot be used; row numbers in messages are the table's, from 1.
    """
    chosen = wanted.chosen(table.column_names, where=where)
    notes: list[str] = []
    columns = tuple(
        learn_column(name, table, wanted, rows, untyped=untyped, where=where, notes=notes) for name in chosen
    )
    columns = sized_columns(columns, wanted, where=where)
    if target is None:
        values = column_of(table, wanted.label, rows)
        survey = LabelSurvey(wanted, values.type, untyped=untyped, where=where)
        with rows_of_the_table(rows):
            survey.add(values)
            if survey.again:
                survey.restart()
                survey.add(values)
            target = survey.target()
            target = target.fitted(wanted.label, survey.labels(target), where=where)
    return Learned(Schema(columns, wanted.label, target, wanted.sample_weight), notes)


def sized_columns(columns: Sequence[Column], wanted: Wanted, *, where: str) -> tuple[Column, ...]:
    """The columns with the number of weights of those that are ids."""
    return sized(columns, wanted.categories.units, is_linear=wanted.categories.is_linear, where=where)


def learn_column(
    name: str,
    table: pa.Table,
    wanted: Wanted,
    rows: Indices | None = None,
    *,
    untyped: bool,
    where: str,
    notes: list[str],
) -> Column:
    """Learns what a column is from its values in the training rows. Raises UsageError for those that are refused.

    The other arguments are those of `learn_schema`; `notes` are added to.
    """
    kind = plain_type(table.schema.field(name).type)
    survey = ColumnSurvey(name, kind, wanted, untyped=untyped, where=where)
    return learn_columns([survey], lambda _: [Part.of(table, rows)], notes)[0]
