"""What several kinds of columns share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from trainer.errors import UsageError


class Counts(NamedTuple):
    """What is counted while a column is encoded: missing values, and values that training does not have."""

    missing: int
    unseen: int = 0


@dataclass(frozen=True)
class OneInput:
    """A column that is one input of the net, under its own name."""

    name: str

    @property
    def width(self) -> int:
        """The number of net inputs."""
        return 1

    @property
    def feature_names(self) -> list[str]:
        """The name of the input."""
        return [self.name]


def all_missing(name: str, where: str) -> UsageError:
    """The error for a column without any value."""
    return UsageError(f"column {name!r} is all missing", where=where, fix=f"Add --ignore {name}.")
