"""How long this process has waited for devices: the part of a plugin's time that the device's work would take anyway.

MXNet computes behind the program's back until a value is read. Whoever reads one waits for everything that is queued,
so without telling the two apart a plugin that reads the loss would seem to cost what the step costs.
"""

from __future__ import annotations

from time import perf_counter
from types import TracebackType


class _Waiting:
    """`with waiting:` around the reading of a value; `seconds` is the sum so far. May be nested."""

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
"""`with waiting:` around the reading of a value from a device, so that the ledger counts the time as waiting."""
