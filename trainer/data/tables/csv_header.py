"""The first line of a CSV file: its delimiter and the names of the columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from trainer.errors import UsageError, first_line, listed

DELIMITERS = (",", ";", "\t", "|")
SAMPLE_ROWS = 20
"""The delimiter is judged by at most this many rows after the first line."""
SHOWN = {"\t": "tab"}


@dataclass(frozen=True)
class Header:
    """What the first line says."""

    delimiter: str
    names: tuple[str, ...]
    """As in the file, without white space around them; a column without a name has the empty one."""
    characters: int
    """How much of the text it takes, from the beginning of the file."""
    advice: str = ""
    """What to do if the user named a delimiter, and only another one makes columns of the rows."""


def read_header(text: str, *, usual: str, delimiter: str | None, where: str) -> Header | None:
    """The header at the beginning of a file; None if `text` has no row.

    Without a `delimiter` it is the `usual` one unless only another makes columns of the rows. Raises UsageError if the
    first line is not a row.
    """
    candidates = [usual, *(each for each in DELIMITERS if each != usual)] if delimiter is None else [delimiter]
    found = {each: _rows(text, each, where) for each in candidates}
    chosen = candidates[0]
    for candidate in candidates:
        if _make_columns(found[candidate][0]):
            chosen = candidate
            break
    else:
        # None fits all rows: the one that makes columns of the first line, so that messages name what is wrong.
        chosen = next((each for each in candidates if found[each][0] and len(found[each][0][0]) > 1), chosen)
    rows, characters = found[chosen]
    if not rows:
        return None
    advice = "" if delimiter is None or _make_columns(rows) else _advice(text, usual, delimiter)
    return Header(chosen, tuple(name.strip() for name in rows[0]), characters, advice)


def _advice(text: str, usual: str, given: str) -> str:
    """Which delimiter makes columns of the rows, in place of the given one; empty if none does."""
    for candidate in dict.fromkeys((usual, *DELIMITERS)):
        with suppress(UsageError):
            if candidate != given and _make_columns(_rows(text, candidate, "")[0]):
                sign = shown(candidate)
                return f"It looks as if its columns were separated by {sign}: use --delimiter {sign}, or leave it out."
    return ""


def _make_columns(rows: Sequence[Sequence[str]]) -> bool:
    """Whether all rows have the same number of values, more than one."""
    return bool(rows) and len(rows[0]) > 1 and len(set(map(len, rows))) == 1


def _rows(text: str, delimiter: str, where: str) -> tuple[list[list[str]], int]:
    """The first rows that are complete, and the characters up to the end of the first one."""
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=delimiter)
    rows: list[list[str]] = []
    end = 0
    try:
        for row in islice((row for row in reader if row), SAMPLE_ROWS + 1):
            rows.append(row)
            if len(rows) == 1:
                end = lines.tell()
    except csv.Error as error:
        if not rows:
            raise UsageError(f"its header cannot be read: {first_line(error)}", where=where) from error
    # The last row may go on beyond the text.
    return (rows[:-1] if len(rows) > 1 else rows), end


def named(names: Sequence[str]) -> tuple[list[str], list[int]]:
    """The names with one for each column that has none, by its place, and the places to leave out, from 0.

    The first column without a name is the index that pandas writes, which is left out.
    """
    made = [name or f"column_{number}" for number, name in enumerate(names, 1)]
    return made, [0] if len(names) > 1 and not names[0] else []


def check_unique(wanted: Sequence[str], names: Sequence[str], where: str) -> None:
    """Raises UsageError if a wanted name is that of several columns."""
    twice = sorted({name for name in wanted if list(names).count(name) > 1})
    if twice:
        raise UsageError(f"two columns are named {listed(twice)}", where=where, fix="Rename one of them.")


def shown(delimiter: str) -> str:
    """The delimiter as a message names it."""
    return SHOWN.get(delimiter, repr(delimiter))
