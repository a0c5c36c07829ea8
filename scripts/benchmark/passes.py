"""Times passes over rows: what the clocks of several workloads share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TypeVar

Own = TypeVar("Own", bound="Passes")


@dataclass
class Passes:
    """The times of each pass, as a context around it."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """On all cores, of this process."""
    loss: float | None = None
    _began: tuple[float, float] = (0.0, 0.0)

    def __enter__(self: Own) -> Own:
        self._began = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        wall, cpu = self._began
        self.seconds.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)
