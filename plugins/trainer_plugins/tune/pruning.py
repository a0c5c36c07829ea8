"""The plugin that tells a study how a trial goes, and ends one that will come to nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from trainer import Phase, Plugin, Run


@dataclass
class TunePruning(Plugin):
    """Reports each epoch's figure to the study of `trainer tune`, and stops a trial that the study gives up.

    It belongs to a trial; in a run of its own, such as one from a trial's configuration, it does nothing.
    """

    phase = Phase.DECIDE

    def __post_init__(self) -> None:
        """No trial yet: the study gives it."""
        self.trial: Any = None
        self.monitor = ""
        self.pruned = False
        self._reported = 0

    def on_evaluate_end(self, run: Run) -> None:
        """The figure to the study, once an epoch; and its verdict."""
        if self.trial is None or run.epoch <= self._reported:
            return
        value = run.monitored(self.monitor)
        if not math.isfinite(value):
            return
        self._reported = run.epoch
        self.trial.report(value, run.epoch)
        if self.trial.should_prune():
            self.pruned = True
            run.stop(f"trial {self.trial.number} was pruned: {self.monitor} is {value:.5g} after epoch {run.epoch}")
