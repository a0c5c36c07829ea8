"""The plugin that reports a trial's progress to its study, and stops the trial if the study prunes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from trainer import Phase, Plugin, Run

Mode = Literal["auto", "min", "max"]


@dataclass
class TunePruning(Plugin):
    """Reports the monitored metric to the study of `trainer tune` each epoch, and stops a trial that the study prunes.

    In a run that is not a trial, such as one from a trial's configuration, it does nothing.
    """

    phase = Phase.DECIDE
    logs = ()

    def __post_init__(self) -> None:
        """Starts without a trial; the study sets it."""
        self.trial: Any = None
        self.monitor = ""
        self.mode: Mode = "auto"
        self.pruned = False
        self._reported = 0

    def watches(self) -> Mapping[str, Mode]:
        return {} if self.trial is None else {self.monitor: self.mode}

    def on_evaluate_end(self, run: Run) -> None:
        """Reports the value once per epoch, and stops the run if the study prunes the trial."""
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
