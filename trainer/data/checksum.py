"""A checksum of many numbers or bytes that costs about as much as reading them from memory once."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

WORDS = 1 << 14
"""Words of eight bytes in a block: with their weights they fit into a processor's cache."""
_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15
"""An odd number: the fractional part of the golden ratio."""


@cache
def _weights() -> NDArray[np.uint64]:
    """Odd random weights (WORDS,): the same on every machine, as numpy promises for raw numbers."""
    return np.random.PCG64(20_240_131).random_raw(WORDS) | np.uint64(1)


class Checksum:
    """The checksum of bytes that come in parts; it does not depend on how they are cut.

    A block's checksum is the sum of its words times random weights modulo 2⁶⁴, and those of the blocks are the
    coefficients of a polynomial. It finds accidents, such as another value or another order, not forgeries.
    """

    def __init__(self) -> None:
        self._size = 0
        self._blocks = 0
        self._sum = 0
        self._at = 0
        self._rest = b""

    def add(self, values: NDArray[Any]) -> None:
        """Adds the bytes of an array, in C order."""
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        self._size += len(data)
        if self._rest:
            head = data[: 8 - len(self._rest)]
            self._rest += head.tobytes()
            data = data[len(head) :]
            if len(self._rest) < 8:
                return
            self._words(np.frombuffer(self._rest, np.uint64))
            self._rest = b""
        whole = len(data) // 8 * 8
        self._words(data[:whole].view(np.uint64))
        self._rest = data[whole:].tobytes()

    def _words(self, words: NDArray[np.uint64]) -> None:
        weights, start = _weights(), 0
        while start < len(words):
            part = words[start : start + WORDS - self._at]
            self._sum += int(np.dot(part, weights[self._at : self._at + len(part)]))
            start += len(part)
            self._at += len(part)
            if self._at == WORDS:
                self._blocks = (self._blocks * _STEP + self._sum) & _MASK
                self._sum = self._at = 0

    def hex(self) -> str:
        """The checksum of all that was added, sixteen hexadecimal digits."""
        found = self._blocks * _STEP + self._sum
        for last in (int.from_bytes(self._rest, "little"), self._size):
            found = _mixed((found * _STEP + last) & _MASK)
        return f"{found:016x}"


def _mixed(value: int) -> int:
    """A number of 64 bits all of which depend on all bits of `value` (the finaliser of splitmix64)."""
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK
    return value ^ value >> 31


def checksum_of(*arrays: NDArray[Any]) -> str:
    """The checksum of arrays, one after the other, with their types and shapes."""
    found = Checksum()
    for array in arrays:
        found.add(np.frombuffer(f"{array.dtype.str}{array.shape}".encode(), np.uint8))
        found.add(array)
    return found.hex()
