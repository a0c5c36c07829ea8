"""What is counted while a column is encoded."""

from __future__ import annotations

from typing import NamedTuple


class Counts(NamedTuple):
    """Values that were missing, and values that do not occur in the training rows."""

    missing: int
    unseen: int = 0
