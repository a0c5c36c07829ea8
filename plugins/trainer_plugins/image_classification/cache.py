"""Decoded images that stay in memory, so that each file is read and decoded once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data import free_memory
from trainer.errors import UsageError

UNITS = {"MB": 10**6, "GB": 10**9}
SHARE = 4
"""`auto` takes at most one part in four of the free memory."""
MOST = 2 * 10**9
"""Bytes that `auto` takes at most."""
OVERHEAD = 200
"""Bytes of an image beside its pixels."""


def check_limit(text: str) -> int | None:
    """The bytes of `--cache-images`; None for `auto`. Raises UsageError."""
    if text in ("auto", "off"):
        return None if text == "auto" else 0
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(MB|GB)", text.strip(), re.IGNORECASE)
    if match is None:
        raise UsageError(
            f"{text!r} is not a size", where="--cache-images", fix="Use auto, off, or a size such as 500MB or 4GB."
        )
    return round(float(match[1]) * UNITS[match[2].upper()])


class Cache:
    """The images of all splits, up to a number of bytes. Those that do not fit are loaded in every epoch."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    @classmethod
    def of_option(cls, text: str, processes: int) -> Cache:
        """The cache for `--cache-images`; `processes` share the machine's memory. Raises UsageError."""
        limit = check_limit(text)
        return cls(min(MOST, free_memory() // SHARE // processes) if limit is None else limit)

    def takes(self, size: int) -> bool:
        """Whether an image of `size` bytes fits; reserves them if it does."""
        if size + OVERHEAD > self._left:
            return False
        self._left -= size + OVERHEAD
        return True


class KeptImages:
    """The images of one split that are in memory, by row."""

    def __init__(self, cache: Cache, rows: int) -> None:
        self._cache = cache
        self._images: list[NDArray[np.uint8] | None] = [None] * rows

    def missing(self, rows: NDArray[Any]) -> list[int]:
        """The rows that have to be loaded."""
        return [row for row in rows.tolist() if self._images[row] is None]

    def joined(
        self, rows: NDArray[Any], missing: Sequence[int], loaded: Sequence[NDArray[np.uint8]]
    ) -> list[NDArray[np.uint8]]:
        """The images of `rows`, of which `missing` were loaded; keeps those that fit."""
        new = dict(zip(missing, loaded, strict=True))
        found = []
        for row in rows.tolist():
            image = self._images[row]
            if image is None:
                image = new[row]
                if self._cache.takes(image.nbytes):
                    # A copy: what is cut out of a larger image would keep all of it in memory.
                    image = self._images[row] = image.copy()
            found.append(image)
        return found
