"""A quantity: the labels are numbers to predict, in the unit that they have in the table."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.blocks import spans
from trainer.data.tables.kinds.base import Moments
from trainer.data.tables.targets.number_labels import NumberLabels
from trainer.data.tables.targets.tally import Tally
from trainer.data.tables.values import infinite, is_number
from trainer.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

COARSEST = 0.01
"""The deviations of the labels that lie between two neighbouring 32-bit numbers, at most."""


@dataclass(frozen=True)
class Quantity:
    """The labels as they are, with the mean and the deviation of those of the training rows."""

    mean: float = 0.0
    deviation: float = 1.0
    non_negative: bool = False
    """Whether a negative label is refused, as for counts and rates."""
    kind: Literal["number"] = "number"

    @classmethod
    def learn(
        cls, name: str, values: pa.ChunkedArray, *, non_negative: bool, where: str, for_classes: str = ""
    ) -> Quantity:
        """A quantity whose mean and deviation are not known yet.

        `for_classes` is what learns text instead. Raises UsageError for a column of text, dates or anything else that
        is not numbers.
        """
        labels = NumberLabels.of(name, values, where=where)
        return learn_quantity(name, labels, non_negative=non_negative, where=where, for_classes=for_classes)

    @property
    def is_binary(self) -> bool:
        """False: there are no classes."""
        return False

    @property
    def names(self) -> tuple[str, ...]:
        """Empty: there are no classes."""
        return ()

    def fitted(self, name: str, labels: NDArray[np.float32], *, where: str) -> Quantity:
        """With the mean and the deviation of the training labels, (rows,).

        Raises UsageError for labels that are all equal, or that 32-bit numbers cannot tell apart.
        """
        low, high = float(labels.min()), float(labels.max())
        if low == high:
            raise UsageError(
                f"the label column {name!r} has one value in the {len(labels)} training rows: {low:.7g}",
                where=where,
                fix="Name another column with --label, or give more rows. If its numbers differ in later digits than "
                "the seventh, subtract a constant from them.",
            )
        moments = Moments()
        for block, start, stop in spans(0, len(labels)):
            moments.add(block, labels[start:stop].astype(np.float64))
        mean, deviation = moments.mean_and_deviation()
        step = float(np.spacing(np.float32(max(abs(low), abs(high)))))
        if not math.isfinite(deviation) or step > COARSEST * deviation:
            raise UsageError(
                f"the labels in column {name!r}, {low:.10g} to {high:.10g}, are too close together for 32-bit numbers",
                where=where,
                fix=f"Subtract a constant from them, such as {mean:.6g}.",
            )
        return replace(self, mean=mean, deviation=deviation)

    def encode(self, name: str, values: pa.ChunkedArray, *, where: str) -> NDArray[np.float32]:
        """The numbers as float32 (rows,). Raises UsageError for text, and for a label that is missing or refused."""
        return number_labels(self, name, NumberLabels.of(name, values, where=where), where=where)

    def strata(self, labels: NDArray[np.float32]) -> NDArray[np.uint8]:
        """One group: rows are divided at random."""
        return np.zeros(len(labels), np.uint8)

    def check_rows(self, tally: Tally, split: str, *, where: str) -> None:
        """Raises UsageError if a split has no rows."""
        if not tally.rows:
            raise UsageError(f"there are no rows for the {split} split", where=where)

    def too_few(
        self, labels: NDArray[np.float32], left: NDArray[np.float32], split: str, size: int, *, where: str
    ) -> UsageError:
        """The error for `size` of the rows that are `left` that cannot be split off."""
        return UsageError(
            f"{size} of {len(left)} rows cannot be split off for the {split} split: both sides need at least one",
            where=where,
            fix=f"Change --{split}-split (0 for none), or name a file with --{split}-data.",
        )

    def describe(self, name: str) -> str:
        """How the label column is understood, in a line."""
        kind = "a number ≥ 0" if self.non_negative else "a number"
        return f"{name}: {kind}, mean {self.mean:.5g} and deviation {self.deviation:.5g} in the training rows"

    def summary(self, tally: Tally) -> str:
        """What a split's labels are like, in a few words."""
        return f"{tally.low:.5g} to {tally.high:.5g}"

    def check(self) -> str | None:
        """What is wrong with values that were read from a file, or None."""
        usable = math.isfinite(self.mean) and math.isfinite(self.deviation) and self.deviation > 0
        return None if usable else "its target has no usable mean and deviation"


def learn_quantity(
    name: str, labels: NumberLabels, *, non_negative: bool, where: str, for_classes: str = ""
) -> Quantity:
    """`Quantity.learn` of labels that were read."""
    other = f" To tell its values apart as classes: {for_classes}." if for_classes else ""
    kind = labels.kind
    if 2 * labels.stray >= max(1, labels.present if labels.is_text else 1):
        row, text = labels.first_stray
        raise UsageError(
            f"the label column {name!r} holds text, such as {text!r}",
            where=where,
            row=row + 1,
            fix=f"Name a column of numbers with --label.{other}",
        )
    if not (labels.is_text or is_number(kind)):
        raise UsageError(
            f"the label column {name!r} holds {_named(kind)}, not numbers",
            where=where,
            fix=f"Name a column of numbers with --label, or convert it.{other}",
        )
    return Quantity(non_negative=non_negative)


def number_labels(target: Quantity, name: str, labels: NumberLabels, *, where: str) -> NDArray[np.float32]:
    """The numbers as float32 (rows,). Raises UsageError like `Quantity.encode`."""
    if labels.stray:
        row, text = labels.first_stray
        raise UsageError(
            f"the label in column {name!r} is {text!r}, not a number",
            row=row + 1,
            where=where,
            fix="Correct it; a label that is not known is empty, and --drop-unlabelled leaves its row out.",
        )
    if not (labels.is_text or is_number(labels.kind) or labels.is_null):
        raise UsageError(f"column {name!r} holds {labels.kind}, not numbers", where=where)
    if labels.first_infinite is not None:
        raise infinite(name, labels.first_infinite, where=where)
    if labels.missing and not labels.is_filtered:
        raise labels.missing_error(name, where=where)
    if target.non_negative and labels.first_negative is not None:
        row, number = labels.first_negative
        raise UsageError(
            f"the label in column {name!r} is {number:g}, and counts and rates are not negative",
            row=row + 1,
            where=where,
            fix="Correct it, or choose a loss that takes negative numbers, such as the squared error.",
        )
    if labels.first_too_large is not None:
        raise UsageError(
            f"the label in column {name!r} is too large for a 32-bit number",
            row=labels.first_too_large + 1,
            where=where,
            fix="Scale the column down, or correct the value.",
        )
    return labels.numbers


def _named(kind: object) -> str:
    """An Arrow type in words, if it is a common one."""
    import pyarrow as pa

    words = (
        (pa.types.is_boolean, "true and false"),
        (pa.types.is_date, "dates"),
        (pa.types.is_timestamp, "dates"),
        (pa.types.is_null, "nothing"),
    )
    return next((word for check, word in words if check(kind)), str(kind))
