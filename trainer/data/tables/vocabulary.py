"""The distinct values of a column of categories or classes, and how other spellings of them are found again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.moments import moment_key
from trainer.data.tables.values import (
    Precision,
    distinct,
    is_text,
    key_of,
    number_key,
    precision_of,
    reads_as_number,
    truth_key,
)

if TYPE_CHECKING:
    import pyarrow as pa

Form = Literal["written", "number", "half", "single", "truth", "moment"]
"""Which spellings of text are the same value: only equal ones, or all of a number, of true and false, of a time.

`half` and `single`: all numbers that are the same in that precision, since the column was learned from it.
"""
UNSEEN, MISSING = -1, -2


def form_of(texts: Iterable[str], precision: Precision | None = None) -> Form:
    """The form of the distinct values of a column, which may be half or single floats.

    Numbers that a spelling may tell apart, such as 007 and 1.10, are not `number`: they may be codes or versions.
    """
    if precision is not None:
        return precision
    texts = list(texts)
    if any(text.lower() in ("true", "false") for text in texts) and all(map(truth_key, texts)):
        return "truth"
    if texts and all(map(_is_only_a_number, texts)):
        return "number"
    return "moment" if texts and all(map(moment_key, texts)) else "written"


def _is_only_a_number(text: str) -> bool:
    if not reads_as_number(text):
        return False
    digits = text.lstrip("+-")
    leading = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
    _, point, fraction = digits.partition(".")
    trailing = point and fraction.endswith("0") and fraction.strip("0")
    return not leading and not trailing


def spelled(texts: Iterable[str], form: Form) -> list[str]:
    """The values behind distinct texts, each once: numbers and truth values in their shortest spelling."""
    if form in ("number", "half", "single", "truth"):
        keys = {(truth_key if form == "truth" else number_key)(text) or text for text in texts}
        return sorted(keys)
    shortest: dict[str, str] = {}
    for text in sorted(texts, key=lambda text: (len(text), text)):
        shortest.setdefault((moment_key(text) if form == "moment" else None) or text, text)
    return sorted(shortest.values())


def key_in(text: str, form: Form) -> str:
    """The text that all spellings of a value share in a form."""
    if form in ("number", "half", "single"):
        key = number_key(text, None if form == "number" else form)
        return key or (text.lower() if text.lower() in ("true", "false") else text)
    if form == "truth":
        return truth_key(text) or text
    return (moment_key(text) or text) if form == "moment" else text


class Vocabulary:
    """Finds the place of a value among known texts.

    Text has to be equal, or the same number, truth value or time if the form says so. A typed value, such as an
    integer of a Parquet file, is also found if exactly one of the known texts spells it: 7 is 007. So is a half or
    single float if exactly one of them reads as it in its precision: 0.1 is 0.0999755859375 in half.
    """

    def __init__(self, texts: Sequence[str], form: Form) -> None:
        self.texts = tuple(texts)
        self.form = form
        self._read: dict[Precision, dict[str, int]] = {}

    @cached_property
    def _known(self) -> dict[str, int]:
        known = {key_in(text, self.form): number for number, text in enumerate(self.texts)}
        if self.form in ("number", "half", "single") and set(self.texts) <= {"0", "1"}:
            known |= {word: known[digit] for word, digit in (("false", "0"), ("true", "1")) if digit in known}
        return known

    @cached_property
    def _typed(self) -> dict[str, int]:
        return _unique(key_of(text) or text for text in self.texts)

    def _read_in(self, precision: Precision) -> dict[str, int]:
        if precision not in self._read:
            self._read[precision] = _unique(number_key(text, precision) for text in self.texts)
        return self._read[precision]

    def place(self, text: str, *, typed: bool, precision: Precision | None = None) -> int:
        """The number of the known text that `text` spells, or -1; `precision` is that of a half or single float."""
        found = self._known.get(key_in(text, self.form))
        if found is None and typed:
            found = self._typed.get(key_of(text) or text)
        if found is None and precision is not None:
            found = self._read_in(precision).get(text)
        return UNSEEN if found is None else found

    def places(self, values: pa.ChunkedArray) -> NDArray[np.int64]:
        """The place of each value (n,): -1 if it is not known, -2 if it is missing."""
        numbers, texts = distinct(values)
        typed, precision = not is_text(values), precision_of(values.type)
        table = [MISSING if text is None else self.place(text, typed=typed, precision=precision) for text in texts]
        return np.array(table, np.int64)[numbers] if len(numbers) else numbers


def _unique(keys: Iterable[str | None]) -> dict[str, int]:
    """The place of each key that occurs once."""
    places: dict[str, list[int]] = {}
    for number, key in enumerate(keys):
        if key is not None:
            places.setdefault(key, []).append(number)
    return {key: numbers[0] for key, numbers in places.items() if len(numbers) == 1}


def first_unseen(values: pa.ChunkedArray, places: NDArray[np.int64]) -> tuple[int, str | None] | None:
    """The row, from 0, and the text of the first value that has no place; None if all have one or are missing."""
    unseen = np.flatnonzero(places == UNSEEN)
    if not len(unseen):
        return None
    row = int(unseen[0])
    numbers, texts = distinct(values.slice(row, 1))
    return row, texts[int(numbers[0])]
