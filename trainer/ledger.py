"""The ledger: the cost of each plugin so far, by event."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from trainer.device_time import waiting

SAVE = "save"
"""Stands for an event in the ledger: the checkpoints that a plugin asked for."""
UPDATE = "update"
"""Stands for an event too: what a plugin does within the weights' updates."""


@dataclass(slots=True)
class Cost:
    """The cost of one plugin at one event."""

    plugin: str
    event: str
    calls: int = 0
    seconds: float = 0.0
    """Seconds of its own time, without waiting for a device."""
    waiting: float = 0.0
    """Seconds spent waiting for a device."""


class Ledger:
    """The costs of one run."""

    def __init__(self) -> None:
        self._costs: dict[tuple[str, str], Cost] = {}

    def cost(self, plugin: str, event: str) -> Cost:
        """The ledger line of a plugin and an event; calls are added to it."""
        return self._costs.setdefault((plugin, event), Cost(plugin, event))

    @contextmanager
    def charged(self, plugin: str, event: str) -> Iterator[None]:
        """Charges the time inside the block to a plugin: a checkpoint is charged to the plugin that requested it."""
        entry = self.cost(plugin, event)
        began, waited = perf_counter(), waiting.seconds
        try:
            yield
        finally:
            waited = waiting.seconds - waited
            entry.calls += 1
            entry.seconds += perf_counter() - began - waited
            entry.waiting += waited

    def rows(self) -> list[dict[str, str | int | float]]:
        """The lines with at least one call as JSON values, the most expensive first."""
        return [
            {
                "plugin": cost.plugin,
                "event": cost.event,
                "calls": cost.calls,
                "seconds": cost.seconds,
                "waiting": cost.waiting,
            }
            for cost in sorted(self._costs.values(), key=lambda cost: -cost.seconds)
            if cost.calls
        ]

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds the earlier costs of the same plugins, as returned by `rows`."""
        for row in rows:
            key = (row["plugin"], row["event"])
            entry = self.cost(*key) if row["event"] in (SAVE, UPDATE) else self._costs.get(key)
            if entry is not None:
                entry.calls += row["calls"]
                entry.seconds += row["seconds"]
                entry.waiting += row["waiting"]
