"""A split whose arrays are views of mapped files: of any size, read by the system as its rows are used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from trainer.data.arrays import Arrays
from trainer.data.fingerprint import TableFingerprint


@dataclass(frozen=True)
class MappedArrays(Arrays):
    """`Arrays` whose numpy arrays are views of mapped files; they may be read-only.

    Their values were checked when the files were written, and so was what identifies them: `Splits.fingerprint` has to
    say it. Features may be half floats; batches of them are float32.
    """

    prefetch: Callable[[int, int], None] | None = None
    """Asks the system to read rows from the first number to the second (exclusive), and does not wait for it."""

    is_mapped: ClassVar[bool] = True

    def fingerprint(self) -> TableFingerprint | None:
        return None


__all__ = ["MappedArrays"]
