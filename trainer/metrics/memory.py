"""How much memory the rows of an evaluation may take."""

from __future__ import annotations

from collections.abc import Callable

UNASKED = 1 << 24
"""Bytes that are always there: what is free is only read for more, since reading it imports psutil."""


class Memory:
    """Bytes that rows may take: a number, or a function that is called once, if they take more than 16 MB."""

    def __init__(self, size: int | Callable[[], int], *, parts: int = 1) -> None:
        self._size = size
        self._parts = parts

    def share(self, parts: int) -> Memory:
        """One of so many equal parts."""
        return Memory(lambda: self.bytes, parts=parts) if callable(self._size) else Memory(self.bytes // parts)

    def allows(self, size: int) -> bool:
        """Whether that many bytes fit."""
        return (callable(self._size) and size <= UNASKED // self._parts) or size <= self.bytes

    @property
    def bytes(self) -> int:
        """The number of bytes."""
        if callable(self._size):
            self._size, self._parts = self._size() // self._parts, 1
        return self._size


UNLIMITED = Memory(1 << 62)
