"""The label column, read in pieces: what it is, and every row's label in few bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.blocks import BLOCK_ROWS
from trainer.data.tables.coded import Coded, Codes
from trainer.data.tables.targets import Quantity, Target
from trainer.data.tables.targets.classes import MOST_NUMBERS, Numbers, class_numbers, learn_classes
from trainer.data.tables.targets.number_labels import NumberLabels
from trainer.data.tables.targets.quantity import learn_quantity, number_labels
from trainer.data.tables.values import Indices, are_numbers, check_flat, is_number, rows_of_the_table
from trainer.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from trainer.data.tables.wanted import Wanted

MOST_CLASSES = 1 << 20
"""Of a column of numbers that is refused anyway, so many different ones are counted."""


class LabelSurvey:
    """The labels: classes as small numbers, or numbers to predict as float32.

    If either may be meant, they are classes until too many of them are different numbers. A column of text that is not
    numbers after all has to be surveyed once more from its beginning: `again` says so.
    """

    def __init__(self, wanted: Wanted, kind: Any, *, untyped: bool, where: str, drop_unlabelled: bool = False) -> None:
        self._wanted, self._kind, self._where, self._drops = wanted, kind, where, drop_unlabelled
        self._refusing: Numbers = "text" if untyped else "refused"
        if wanted.label in wanted.categorical:
            self._refusing = "classes"
        self.again = False
        self._may_be_numbers = wanted.target == "any" and wanted.positive_class is None and self._refusing != "classes"
        self._codes = Codes()
        self._numbers: NumberLabels | None = None
        if wanted.target in ("number", "non-negative number"):
            self._numbers = NumberLabels(without_missing=drop_unlabelled)
        self._coded: Coded | None = None
        self.rows = 0

    def restart(self) -> None:
        """Begins once more, with classes."""
        self._may_be_numbers = self.again = False
        self._codes, self._numbers, self.rows = Codes(), None, 0

    def add(self, values: pa.ChunkedArray) -> None:
        """Adds the values of the next rows, in plain types."""
        for start in range(0, len(values), BLOCK_ROWS):
            self._add(values.slice(start, BLOCK_ROWS))

    def _add(self, values: pa.ChunkedArray) -> None:
        first, self.rows = self.rows, self.rows + len(values)
        if self.again or self._is_hopeless:
            return
        if self._numbers is not None:
            self._numbers.add(self._wanted.label, values, first, where=self._where)
            self.again = self._may_be_numbers and self._numbers.stray > 0
            return
        if not self._is_flat:
            return
        self._codes.add(values)
        if self._may_be_numbers:
            self._may_be_numbers = is_number(self._kind) or (self._refusing == "text" and are_numbers(values))
            if self._may_be_numbers and len([text for text in self._codes.texts if text is not None]) >= MOST_NUMBERS:
                self._become_numbers()

    def _become_numbers(self) -> None:
        """Takes what were classes so far for numbers to predict."""
        self._numbers = NumberLabels(without_missing=self._drops)
        self._numbers.kind = self._kind
        table = np.array([np.nan if text is None else float(text) for text in self._codes.texts])
        first = 0
        for codes in self._codes.parts():
            self._numbers.add_numbers(table[codes], first)
            first += len(codes)
        self._codes = Codes()

    @property
    def _is_flat(self) -> bool:
        import pyarrow as pa

        try:
            check_flat(self._wanted.label, pa.chunked_array([], self._kind), where=self._where)
        except UsageError:
            return False
        return True

    @property
    def _is_hopeless(self) -> bool:
        """Whether there are more different numbers than are told apart as classes."""
        refused = self._refusing != "classes" and self._wanted.positive_class is None and is_number(self._kind)
        return refused and len(self._codes) > MOST_CLASSES

    # ---- what they are -----------------------------------------------------------------------------------------------

    def target(self) -> Target:
        """What the label column is. Raises UsageError for labels that the task cannot learn."""
        import pyarrow as pa

        wanted = self._wanted
        if self._numbers is None:
            check_flat(wanted.label, pa.chunked_array([], self._kind), where=self._where)
            with rows_of_the_table(self.kept):
                return learn_classes(
                    wanted.label,
                    self._kept_codes,
                    wanted.positive_class,
                    where=self._where,
                    numbers=self._refusing,
                    for_numbers=wanted.for_numbers,
                )
        return learn_quantity(
            wanted.label,
            self._numbers,
            non_negative=wanted.target == "non-negative number",
            where=self._where,
            for_classes=wanted.for_classes,
        )

    def labels(self, target: Target) -> NDArray[Any]:
        """The labels of the kept rows (n,): class numbers in as few bits as possible, or float32."""
        if isinstance(target, Quantity):
            assert self._numbers is not None  # noqa: S101  a quantity is learned from numbers
            return number_labels(target, self._wanted.label, self._numbers, where=self._where)
        with rows_of_the_table(self.kept):
            return class_numbers(target, self._wanted.label, self._kept_codes, where=self._where)

    @property
    def missing(self) -> int:
        """The rows without a label."""
        return self._numbers.missing if self._numbers is not None else int(self._whole.missing.sum())

    @property
    def kept(self) -> Indices | None:
        """The rows that have a label, if others are left out; None if all rows are kept."""
        if not self._drops or not 0 < self.missing < self.rows:
            return None
        return self._numbers.present_rows() if self._numbers is not None else np.flatnonzero(~self._whole.missing)

    @property
    def _whole(self) -> Coded:
        if self._coded is None or len(self._coded.codes) != self.rows:
            self._coded = self._codes.done(self._kind)
        return self._coded

    @property
    def _kept_codes(self) -> Coded:
        kept = self.kept
        if kept is None:
            return self._whole
        # Without the number of missing labels, which is not that of a class.
        whole = self._whole
        absent = whole.texts.index(None)
        codes = whole.codes[kept]
        codes -= (codes > absent).astype(codes.dtype)
        return Coded(codes, [text for text in whole.texts if text is not None], whole.kind)
