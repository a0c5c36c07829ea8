"""Notations that a program cannot be sure of, such as 1,234 and 31/01/2024: they are refused by name, with the fix."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.times import are_dates, are_times, matches
from trainer.data.tables.values import FIRST_ROWS, NUMBER
from trainer.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

Are = Callable[["pa.ChunkedArray"], NDArray[np.bool_]]
"""Tells which texts are of a kind."""
MOSTLY = 0.9
"""If at least this share of the values of a text column is of one kind, other text in it counts as a mistake."""
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


class DistinctTexts:
    """The distinct texts of a column, cleaned and without the missing ones, and how often each occurs."""

    def __init__(self, text: pa.ChunkedArray) -> None:
        import pyarrow as pa

        self.text = text
        self.present = int(len(text) - text.null_count)
        counted = text.value_counts()
        self._values = pa.chunked_array([counted.field("values")])
        self._counts = counted.field("counts").to_numpy(zero_copy_only=False)

    def values(self) -> list[str]:
        """The distinct texts."""
        return [text for text in self._values.to_pylist() if text is not None]

    def __len__(self) -> int:
        return len(self._values)

    @property
    def counted(self) -> tuple[pa.Array, NDArray[np.int64]]:
        """The distinct texts and how often each occurs; one may be null."""
        return self._values.chunk(0), self._counts

    def are_mostly(self, *are: Are) -> bool:
        """Whether one of `are` takes almost all texts of the column.

        Each distinct text is looked at once at most: the look ends when too many others are found for that.
        """
        taken = looked = start = 0
        size = FIRST_ROWS
        while start < len(self):
            part, counts = self._values.slice(start, size), self._counts[start : start + size]
            found = np.zeros(len(part), bool)
            for each in are:
                found |= each(part)
            taken += int(counts[found].sum())
            looked += int(counts[~part.is_null().to_numpy().astype(bool)].sum())
            if self.present - (looked - taken) < MOSTLY * self.present:
                return False
            start, size = start + size, 2 * size
        return taken >= MOSTLY * self.present


def are_plain_numbers(text: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which of the cleaned texts are numbers."""
    return matches(text, NUMBER)


def refuse_notations(name: str, texts: DistinctTexts, *, where: str) -> None:
    """Raises UsageError if nearly all texts are numbers, dates or times in a notation that is not read."""
    for are, plainly, what, fix in _REFUSED:
        if not texts.present or not texts.are_mostly(are, plainly):
            continue
        rows = np.flatnonzero(are(texts.text) & ~plainly(texts.text))
        if len(rows):
            row = int(rows[0])
            raise UsageError(
                f"column {name!r} holds {what}, such as {texts.text[row].as_py()!r}",
                where=where,
                row=row + 1,
                fix=f"{fix}, or add --categorical {name} or --ignore {name}.",
            )


def _are_other_dates(text: pa.ChunkedArray) -> NDArray[np.bool_]:
    return matches(text, *OTHER_DATES)


def _are_other_times(text: pa.ChunkedArray) -> NDArray[np.bool_]:
    return matches(text, OTHER_TIMES)


def _are_formatted(text: pa.ChunkedArray) -> NDArray[np.bool_]:
    return matches(text, f"^(?:{FORMATTED})$")


_REFUSED: tuple[tuple[Are, Are, str, str], ...] = (
    (
        _are_other_dates,
        are_dates,
        "dates that are not in ISO form",
        "Write them as 2024-01-31 or 2024-01-31T12:30",
    ),
    (
        _are_other_times,
        are_times,
        "times that are not in ISO form",
        "Write times of day as 08:30 and durations as PT8H30M",
    ),
    (
        _are_formatted,
        are_plain_numbers,
        "numbers with signs or separators",
        "Write them plainly, such as 1234.5",
    ),
)
"""Which texts are refused beside which that are not, what they are, and how to write them."""
