"""Which columns are ids, and which rows of which table of weights they are numbers of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from trainer.data.tables.embedding import Units
from trainer.data.tables.kinds import IDS, Column, Embedded, Hashed
from trainer.errors import UsageError, listed

MOST_ELEMENTS = 2**31 - 1
"""Elements of one array: MXNet's packages count them in 32 bits."""


@dataclass(frozen=True)
class IdTable:
    """A table of weights: `rows` of `units` each. The columns of the ids from `begin` to `end` (exclusive) use it."""

    columns: tuple[Embedded | Hashed, ...]
    offsets: tuple[int, ...]
    """The first row of each column."""
    rows: int
    units: int
    """0 in a linear model, where they are as many as the net has outputs."""
    begin: int

    @property
    def end(self) -> int:
        """The number of the id column after the last one."""
        return self.begin + len(self.columns)

    @property
    def shared_rows(self) -> list[int]:
        """The rows that rare and unseen values of a column share."""
        pairs = zip(self.columns, self.offsets, strict=True)
        return [offset + row for column, offset in pairs for row in column.shared_rows]


def id_tables(columns: Sequence[Column]) -> tuple[IdTable, ...]:
    """The tables in the order of their first column: one for all hashed columns, and one for each number of units."""
    groups: dict[tuple[str, int], list[Embedded | Hashed]] = {}
    for column in columns:
        if isinstance(column, IDS):
            groups.setdefault((column.kind, column.units), []).append(column)
    tables: list[IdTable] = []
    begin = 0
    for (kind, units), group in groups.items():
        if kind == "hashed":
            offsets, rows = [0] * len(group), max(column.rows for column in group)
        else:
            *offsets, rows = accumulate((column.rows for column in group), initial=0)
        tables.append(IdTable(tuple(group), tuple(offsets), rows, units, begin))
        begin += len(group)
    return tuple(tables)


def check_sizes(tables: Sequence[IdTable], where: str) -> None:
    """Raises UsageError for a table with more weights than an array can hold."""
    for table in tables:
        if table.rows * max(1, table.units) > MOST_ELEMENTS:
            hashed = table.columns[0].kind == "hashed"
            raise UsageError(
                f"the categories of {listed([column.name for column in table.columns], 4)} have {table.rows:,} rows of "
                f"{max(1, table.units)} weights, more than an array can hold",
                where=where,
                fix="Lower --hash-bits or --embedding."
                if hashed
                else "Lower --embedding, raise --min-count, or use --hash-bits.",
            )


def sized(columns: Sequence[Column], units: Units, *, is_linear: bool, where: str) -> tuple[Column, ...]:
    """The columns with the units of those that are ids; a hashed one counts with its share of the rows.

    Raises UsageError if --embedding names a column that is not an id, and for too large tables.
    """
    for name in units.named:
        column = next((each for each in columns if each.name == name), None)
        if column is None or not isinstance(column, IDS):
            what = "is not one to learn from" if column is None else f"is taken as a {column.kind}"
            raise UsageError(
                f"column {name!r} {what}, and has no embedding",
                where="--embedding",
                fix="Leave it out." if column is None else f"Add --categorical {name}, or leave it out of --embedding.",
            )
    hashed = sum(isinstance(column, Hashed) for column in columns)
    found: list[Column] = []
    for column in columns:
        if is_linear or not isinstance(column, IDS):
            found.append(column)
            continue
        categories = column.count if isinstance(column, Embedded) else column.rows / hashed
        found.append(replace(column, units=units.of(column.name, categories)))
    check_sizes(id_tables(found), where)
    return tuple(found)
