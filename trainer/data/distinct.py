"""The distinct row numbers in a batch, and the place of each number among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[Any]


@dataclass(frozen=True)
class Distinct:
    """Row numbers, each once, and the places of all that were looked through."""

    ids: NDArray[np.intp]
    """The distinct numbers (n,), in the order of their last occurrences."""
    places: Sequence[NDArray[np.int32]]
    """For each array that was looked through, the places among `ids`, in its shape."""
    seen: Sequence[Ids]
    """Copies of these arrays, (their size,)."""

    def is_of(self, parts: Sequence[Ids]) -> bool:
        """Whether the arrays still hold what was looked through; they may have been changed since."""
        return len(parts) == len(self.seen) and all(
            np.array_equal(part.reshape(-1), seen) for part, seen in zip(parts, self.seen, strict=True)
        )


class Finder:
    """Finds the distinct numbers among those below a limit; takes 4 bytes for each possible number.

    Twice as fast as pyarrow's `dictionary_encode`, and three times as fast as sorting. May be called from any thread.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._last: NDArray[np.int32] | None = None
        """For each number the place of its last occurrence."""
        self._lock = Lock()

    def distinct(self, parts: Sequence[Ids]) -> Distinct:
        """The distinct numbers of several arrays. Raises IndexError for one that is not from 0 to the limit."""
        whole = np.concatenate([part.reshape(-1) for part in parts]) if len(parts) > 1 else parts[0].reshape(-1).copy()
        if len(whole) and not 0 <= whole.min() <= whole.max() < self._limit:
            raise IndexError(int(whole[(whole < 0) | (whole >= self._limit)][0]))
        order, flat = np.arange(len(whole), dtype=np.int32), np.empty(len(whole), np.int32)
        with self._lock:
            if self._last is None:
                self._last = np.zeros(self._limit, np.int32)
            index = whole.astype(np.intp)
            self._last[index] = order
            np.take(self._last, index, out=flat, mode="clip")
        is_last = flat == order
        ids = index[np.flatnonzero(is_last)]
        flat = np.take(np.cumsum(is_last, dtype=np.int32) - 1, flat, mode="clip")
        places, seen, start = [], [], 0
        for part in parts:
            end = start + part.size
            places.append(flat[start:end].reshape(part.shape))
            seen.append(whole[start:end])
            start = end
        return Distinct(ids, places, seen)
