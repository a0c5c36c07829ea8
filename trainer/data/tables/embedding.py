"""What the user says about columns of categories, and how many weights a category has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainer.errors import UsageError

ONE_HOT_LIMIT = 1000
MOST_UNITS = 1 << 14
"""Weights of one row of an embedding."""
MULTIPLE = 4
"""Automatic units are a multiple of it, so that columns of similar sizes share a table."""
AUTO = "auto"


@dataclass(frozen=True)
class Units:
    """What --embedding says: `auto`, a number for all columns, and numbers for some."""

    every: int | None = None
    """None: `automatic` decides."""
    by_column: Mapping[str, int] | None = None

    @classmethod
    def parse(cls, parts: Sequence[str]) -> Units:
        """Reads `auto`, `16` and `COLUMN:16`. Raises UsageError for anything else."""
        every: list[int | None] = []
        by_column: dict[str, int] = {}
        for part in parts:
            name, colon, number = part.strip().rpartition(":")
            if name in by_column:
                raise UsageError(f"{name!r} is there twice", where="--embedding", fix="Name each column once.")
            if number != AUTO and not (number.isdecimal() and 1 <= int(number) <= MOST_UNITS):
                raise UsageError(
                    f"{part!r} is not auto, a number of units or COLUMN:N",
                    where="--embedding",
                    fix=f"Use an integer from 1 to {MOST_UNITS}, such as --embedding 16,city:8.",
                )
            if not colon:
                every.append(None if number == AUTO else int(number))
            elif number != AUTO:
                by_column[name] = int(number)
        if len(every) > 1:
            raise UsageError("it has two values for all columns", where="--embedding", fix="Leave one of them out.")
        return cls(every[0] if every else None, by_column)

    @property
    def named(self) -> Mapping[str, int]:
        """The columns with a number of their own."""
        return self.by_column or {}

    def of(self, column: str, categories: float) -> int:
        """The units of a column with so many categories."""
        return self.named.get(column) or self.every or automatic(categories)


def automatic(categories: float) -> int:
    """The fourth root of the number of categories, rounded up to a multiple of 4.

    The fourth root is the rule of thumb of TensorFlow's authors ("Introducing TensorFlow Feature Columns", 2017).
    """
    return max(MULTIPLE, -int(-(round(categories**0.25, 6)) // MULTIPLE) * MULTIPLE)


@dataclass(frozen=True)
class CategoryOptions:
    """What the user says about columns of categories."""

    one_hot_limit: int = ONE_HOT_LIMIT
    """Up to so many different values a column is one-hot."""
    min_count: int = 1
    hash_bits: int | None = None
    embedding: Sequence[str] = ()
    is_linear: bool = False
    """Whether the net has no hidden layers: a category then has a weight for each output and no embedding."""

    @property
    def units(self) -> Units:
        """What `embedding` says. Raises UsageError."""
        return Units.parse(self.embedding)

    def check(self) -> None:
        """Refuses options that contradict each other."""
        units = self.units
        if self.embedding and self.is_linear:
            raise UsageError(
                "the net has no hidden layers, so a category has a weight for each output and no embedding",
                where="--embedding",
                fix="Leave it out, or add hidden layers with --hidden.",
            )
        if self.hash_bits is None:
            return
        for option, given, why in (
            ("--min-count", self.min_count > 1, "hashed categories are not counted"),
            ("--one-hot-limit", self.one_hot_limit != ONE_HOT_LIMIT, "--hash-bits hashes all columns of categories"),
            ("--embedding", bool(units.named), "hashed columns share one table, with the same units for all"),
        ):
            if given:
                fix = "Use --embedding N." if option == "--embedding" else f"Leave {option} or --hash-bits out."
                raise UsageError(why, where=option, fix=fix)
