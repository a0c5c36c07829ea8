"""Measures how long this process waits for devices, to separate that from a plugin's own time.

MXNet computes asynchronously until a value is read, and reading waits for everything that is queued. Without this
distinction a plugin that reads the loss would seem to cost as much as the whole step.
"""

from __future__ import annotations

from time import perf_counter, time_ns
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


class _Recorded:
    """The calls of numpy in training steps, while a profiler wants them."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, int]] | None = None
        """Name, begin and end in microseconds since 1970; None if nobody wants them, which takes no time."""

    def add(self, name: str, began: int) -> None:
        """Records a call that ends now."""
        if self.calls is not None:
            self.calls.append((name, began, now()))


def now() -> int:
    """The time in microseconds since 1970."""
    return time_ns() // 1000


recorded = _Recorded()
"""Set `recorded.calls` to a list to get the calls of numpy in the steps that follow, and to None when you are done."""
