"""What `trainer data show` prints: a table of columns, then what looks wrong and what would be refused."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from trainer.cli.table import aligned
from trainer.data.split_names import NAMES
from trainer.errors import listed
from trainer.terminal import safe

if TYPE_CHECKING:
    from trainer.data.tables.overview import ColumnView, Overview

HEAD = ("column", "kind", "missing", "distinct", "values", "net inputs")
NUMBERS = (2, 3)
"""Columns of numbers, to the right."""
LONGEST_VALUE = 24
VALUES_SHOWN = 3
INPUTS_SHOWN = 3


def described(overview: Overview) -> Iterator[str]:
    """The lines: rows and label, a table of the columns, then the columns to look at."""
    rows = overview.rows
    parts = ", ".join(f"{count} {NAMES[split]}" for split, count in rows.items())
    yield f"{overview.where}: {parts if overview.label else rows['train']} rows, {len(overview.columns)} columns"
    yield overview.label or "no --label is given: nothing is split, and all rows count as training rows"
    yield ""
    cells = [_cells(column, rows["train"]) for column in overview.columns]
    yield from _boxed(cells) if sys.stdout.isatty() else aligned([HEAD, *cells])
    learned = [column for column in overview.columns if column.inputs or column.id_rows is not None]
    yield ""
    ids = f" and {overview.ids} id{'' if overview.ids == 1 else 's'}" if overview.ids else ""
    yield f"{len(learned)} columns → {overview.inputs} inputs{ids}"
    looks = [(column.name, look) for column in overview.columns for look in column.looks]
    for title, found in (
        ("looks wrong", [f"{name}: {look}" for name, look in looks]),
        ("a run would end with", [f"error: {column.error}" for column in overview.columns if column.error]),
        ("notes", overview.notes),
    ):
        if found:
            yield ""
            yield f"{title}:"
            yield from (f"  {each}" for each in found)


def _cells(column: ColumnView, rows: int) -> list[str]:
    missing = column.missing.get("train")
    share = f" ({missing / rows:.1%})" if missing else ""
    return [
        column.name,
        column.kind,
        "" if missing is None else f"{missing}{share}",
        "" if column.distinct is None else str(column.distinct),
        _values(column, rows),
        f"id, one of {column.id_rows:,} rows" if column.id_rows is not None else _inputs(column.inputs),
    ]


def _values(column: ColumnView, rows: int) -> str:
    if column.minimum is not None:
        return f"{column.minimum} … {column.maximum}, mean {column.mean}"
    shown = [f"{_cut(value)} {count / rows:.0%}" for value, count in column.commonest[:VALUES_SHOWN]]
    more = (column.distinct or 0) - len(shown)
    return ", ".join([*shown, *([f"{more} more"] if more > 0 and shown else [])])


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


def _inputs(names: Sequence[str]) -> str:
    return f"{len(names)}: {listed(map(_cut, names), limit=INPUTS_SHOWN)}" if names else ""


def _boxed(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The rows as a table of the terminal's width, with long cells on several lines."""
    import io

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(HEAD):
        justify: Literal["left", "right"] = "right" if number in NUMBERS else "left"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=number in (1, *NUMBERS))
    for row in rows:
        table.add_row(*(Text(safe(cell, keep="")) for cell in row))
    target = io.StringIO()
    # As plain text: colours would be control characters, which are escaped.
    Console(file=target, width=shutil.get_terminal_size().columns, color_system=None).print(table)
    yield from (line.rstrip() for line in target.getvalue().splitlines() if line.strip())
