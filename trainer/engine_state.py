"""The part of a run that only the engine changes. `Run` exposes to plugins what they need."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from trainer.data.split_names import SPLITS
from trainer.errors import TrainerError
from trainer.ledger import UPDATE, Ledger
from trainer.metric_log import MetricLog
from trainer.requests import Requests

if TYPE_CHECKING:
    from trainer.data.batches import Batch
    from trainer.data.slices import SlicesBySplit
    from trainer.metrics.base import Metric
    from trainer.seeding import Seeder
    from trainer.step import Step

T = TypeVar("T")

BUILT = frozenset({"net", "optimizer", *SPLITS, "step", "seeder", "metrics"})
"""Attributes of a run and its state that are set when the run is built."""


class NotBuiltError(TrainerError, AttributeError):
    """An attribute of a run was read before it existed. An AttributeError, so that `hasattr` returns False."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the run has no {name} yet: it is built after the task's splits() and net(); plugins have it from "
            "on_setup on"
        )


@dataclass
class EngineState:
    """Everything in a run that the engine changes and plugins see only through `Run`."""

    requests: Requests = field(default_factory=Requests)
    log: MetricLog = field(default_factory=MetricLog)
    ledger: Ledger = field(default_factory=Ledger)
    plugins: Sequence[Any] = ()
    """The run's plugins in order, including those that were switched off."""
    plugin_failed: Callable[[Any, str, Any, Exception], Exception | None] = field(init=False)
    """Called with (plugin, method, run, error) when a plugin raises; returns the error that ends the run, or None if
    the plugin was switched off instead."""
    disabled: set[str] = field(default_factory=set)
    """Names of the plugins that were switched off."""
    acting: str = "engine"
    """The name of the plugin that is being called, or `engine`."""
    event: str = ""
    """The event whose handlers are, or were last, called."""
    look: Callable[[], None] | None = None
    """Obeys or refuses what was changed on the net and the optimizer; None before the step is built."""
    batch: Batch | None = None
    """The current batch."""
    kept: Mapping[str, Any] = field(default_factory=dict)
    """Saved states of plugins that the run does not use; its checkpoints keep them unchanged."""

    split_version: int | None = None
    """How the task divided its rows; see `Splits`."""
    slices: SlicesBySplit = field(default_factory=dict)
    """The evaluated rows in groups; see `Splits`."""
    step: Step = field(init=False)
    seeder: Seeder = field(init=False)
    metrics: Sequence[Metric] = field(init=False)

    began: float = field(default_factory=time.time)
    """When this process began to train, in seconds since 1970."""
    seconds_before: float = 0.0
    """The seconds that the run took before it was resumed."""

    def within_update(self, run: Any, call: Callable[[T], None]) -> Callable[[T], None]:
        """A function that calls another within updates, for the plugin that is being called now.

        The plugin is charged with its time, and blamed for its errors.
        """
        plugin = next((each for each in self.plugins if each.name == self.acting), None)
        if plugin is None:
            return call
        cost = self.ledger.cost(plugin.name, UPDATE)

        def charged(argument: T) -> None:
            if plugin.name in self.disabled:
                return
            self.acting, began = plugin.name, perf_counter()
            try:
                call(argument)
            except Exception as error:  # noqa: BLE001  whatever a plugin raises is wrapped or makes it silent
                failure = self.plugin_failed(plugin, "an update", run, error)
                if failure is not None:
                    raise failure from failure.__cause__
            finally:
                self.acting = "engine"
                cost.calls += 1
                cost.seconds += perf_counter() - began

        return charged

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Called for missing attributes, such as those that building the run sets."""
            raise NotBuiltError(name) if name in BUILT else AttributeError(name)
