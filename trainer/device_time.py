"""Measures how long this process waits for devices, to separate that from a plugin's own time.

MXNet computes asynchronously until a value is read, and reading waits for everything that is queued. Without this
distinction a plugin that reads the loss would seem to cost as much as the whole step.
"""

from __future__ import annotations

from time import perf_counter
from types import TracebackType


class _Waiting:
    """Use `with waiting:` around reading a value; `seconds` is the total so far. May be nested."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0
        self._began = 0.0

    def __enter__(self) -> None:
        if self._depth == 0:
            self._began = perf_counter()
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.seconds += perf_counter() - self._began


waiting = _Waiting()
"""Use `with waiting:` around reading a value from a device, so that the ledger counts the time as waiting."""
