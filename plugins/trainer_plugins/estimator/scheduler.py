"""MXNet's learning-rate schedulers as a plugin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer import Phase, Plugin, Run, UsageError
from trainer_plugins.estimator import plain
from trainer_plugins.overruled import Rate


@dataclass
class Scheduler(Plugin):
    """Sets the learning rate of each update by an `mx.lr_scheduler.LRScheduler`, as `gluon.Trainer` would.

    The scheduler's own `base_lr` applies, not the run's learning rate. It is called with the number of the update,
    from 1; batches whose update is skipped do not count. The rate is logged as `learning-rate` each epoch.
    """

    scheduler: Any = None

    phase = Phase.TRANSFORM
    alters = ("steps",)
    logs = ("learning-rate",)

    def __post_init__(self) -> None:
        self._rate = Rate()

    def on_setup(self, run: Run) -> None:
        """Raises UsageError if `scheduler` is not a learning-rate scheduler."""
        if not callable(self.scheduler) or not hasattr(self.scheduler, "base_lr"):
            raise UsageError(
                f"{self.scheduler!r} is not a learning-rate scheduler",
                where=f"plugin {self.name!r}",
                fix="Give an instance, such as mx.lr_scheduler.FactorScheduler(100, factor=0.5, base_lr=0.1).",
            )

    def on_batch_begin(self, run: Run) -> None:
        """Sets the rate. MXNet's optimizers count an update before they look up its rate."""
        self._rate.put(run, float(self.scheduler(run.updates + 1)))

    def on_epoch_end(self, run: Run) -> None:
        """Logs the rate."""
        run.log({"learning-rate": run.learning_rate})

    def state_dict(self) -> Mapping[str, Any]:
        """The scheduler's plain attributes: some schedulers keep counters and change their own rate."""
        return plain.attributes(self.scheduler)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        plain.restore(self.scheduler, state)
