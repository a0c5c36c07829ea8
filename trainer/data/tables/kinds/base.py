"""What several kinds of columns share."""

from __future__ import annotations

from typing import NamedTuple

from trainer.errors import UsageError


class Counts(NamedTuple):
    """What is counted while a column is encoded: missing values, and values that training does not have."""

    missing: int
    unseen: int = 0


def all_missing(name: str, where: str) -> UsageError:
    """The error for a column without any value."""
    return UsageError(f"column {name!r} is all missing", where=where, fix=f"Add --ignore {name}.")
