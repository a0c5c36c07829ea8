"""Notations that a program cannot be sure of, such as 1,234 and 31/01/2024: they are refused by name, with the fix."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.texts import Are, Texts
from trainer.data.tables.times import are_dates, are_times, matches
from trainer.data.tables.values import NUMBER
from trainer.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

FORMATTED = r"\(?[+-]?\s*[$€£¥]?\s*[+-]?(\d{1,3}([,.' ]\d{3})+([.,]\d+)?|\d+([.,]\d+)?)\s*([%$€£¥]|EUR|USD)?\)?"
"""Numbers with a currency, a percent sign, separators of thousands, a decimal comma, or an accountant's brackets."""
_CLOCK = r"\d{1,3}:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?[AaPp]\.?[Mm]\.?)?"
_ZONE = r"(?: ?(?:Z|UTC|GMT|[A-Z]{3,4}|[+-]\d\d:?\d\d))?"
_MONTH = r"(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DAY = r"(?:(?i:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,? )?"
_DAYS = "|".join([
    r"\d{1,2}/\d{1,2}/\d{2}",
    r"\d{1,2}[/.-]\d{1,2}[/.-]\d{4}",
    r"\d{4}[/.]\d{1,2}[/.]\d{1,2}",
    r"\d{4}-\d{1,2}-\d{1,2}",
    rf"{_DAY}\d{{1,2}}(?:st|nd|rd|th|\.)?[ -]{_MONTH},?[ -]\d{{2,4}}",
    rf"{_DAY}{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}}",
])  # fmt: skip
OTHER_DATES = (rf"^(?:{_DAYS})(?:,?[ T]{_CLOCK}{_ZONE})?$", r"^(?:19|20)\d\d-(?:0[1-9]|1[0-2])$",
               r"^\d{8}T\d{4,6}Z?$")  # fmt: skip
"""Dates in another order, with the names of months, without a day, or with another time than ISO 8601 has."""
OTHER_TIMES = rf"^{_CLOCK}$"
"""Times without a leading zero, with am and pm, or beyond a day."""


def are_plain_numbers(text: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which of the cleaned texts are numbers."""
    return matches(text, NUMBER)


def refused_notation(texts: Texts) -> Refused | None:
    """The notation that nearly all texts have and that is not read; None if there is none.

    Texts may be numbers, dates or times in it.
    """
    for each in REFUSED:
        mostly = bool(texts.present) and texts.are_mostly(each.are, each.plainly)
        if mostly and texts.taken(each.are, each.plainly) > texts.taken(each.plainly):
            return each
    return None


def refuse_notation(name: str, refused: Refused, text: pa.ChunkedArray, *, where: str) -> None:
    """Raises UsageError for the first of the cleaned texts that is in a notation that is not read."""
    rows = np.flatnonzero(refused.are(text) & ~refused.plainly(text))
    if len(rows):
        row = int(rows[0])
        raise UsageError(
            f"column {name!r} holds {refused.what}, such as {text[row].as_py()!r}",
            where=where,
            row=row + 1,
            fix=f"{refused.fix}, or add --categorical {name} or --ignore {name}.",
        )


def _are_other_dates(text: pa.ChunkedArray) -> NDArray[np.bool_]:
    return matches(text, *OTHER_DATES)


def _are_other_times(text: pa.ChunkedArray) -> NDArray[np.bool_]:
    return matches(text, OTHER_TIMES)


def _are_formatted(text: pa.ChunkedArray) -> NDArray[np.bool_]:
    return matches(text, f"^(?:{FORMATTED})$")


class Refused(NamedTuple):
    """A notation that is not read, what it is, and how to write it; `plainly` tells what is read beside it."""

    are: Are
    plainly: Are
    what: str
    fix: str


REFUSED = (
    Refused(_are_other_dates, are_dates, "dates that are not in ISO form",
            "Write them as 2024-01-31 or 2024-01-31T12:30"),
    Refused(_are_other_times, are_times, "times that are not in ISO form",
            "Write times of day as 08:30 and durations as PT8H30M"),
    Refused(_are_formatted, are_plain_numbers, "numbers with signs or separators",
            "Write them plainly, such as 1234.5"),
)  # fmt: skip
