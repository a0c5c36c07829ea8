"""Stops a run when it has used its time: a plugin that decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from trainer import Phase, Plugin, Run


@dataclass
class TimeBudget(Plugin):
    """Stops the run when it has taken longer than its budget; the epoch that it cuts short is still evaluated.

    The time of a resumed run is that of all its parts together, without the time in which nothing ran. With `save` a
    checkpoint is requested first, so that the run can be resumed later.
    """

    minutes: Annotated[float, Field(gt=0, description="How long the run may take.")] = 60.0
    save: Annotated[bool, Field(description="Whether a checkpoint is written before the end.")] = True

    phase = Phase.DECIDE
    api = "2.0"

    def on_batch_end(self, run: Run) -> None:
        """After each batch: reading the clock costs a tenth of a microsecond, and waits for nothing."""
        if run.seconds >= 60 * self.minutes and run.requested("stop") is None:
            reason = f"it has used its {self.minutes:g} minutes"
            if self.save:
                run.save(reason)
            run.stop(reason)
