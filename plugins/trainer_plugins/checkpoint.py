"""Saves what a run can be resumed from, and deletes old checkpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Annotated, Literal

from pydantic import Field

from trainer import Due, Phase, Plugin, Run
from trainer.runs import Checkpoint as Saved
from trainer.runs import complete_checkpoints, remove_checkpoint

Mode = Literal["auto", "min", "max"]


@dataclass
class Checkpoint(Plugin):
    """Saves checkpoints by epochs, steps or minutes, at the end of training, and when training is cut short.

    `trainer resume` resumes from the newest one, bit for bit. The newest `keep-last` are kept, and of those at the end
    of an epoch the `keep-best` by the monitored metric; an old one is deleted only when a new one is complete. By
    default one is saved every minute: a flush to the disk takes as long as some hundred steps of a small net.
    """

    every_epochs: Annotated[int, Field(ge=0, description="Epochs between two checkpoints; 0: not by epochs.")] = 0
    every_steps: Annotated[int, Field(ge=0, description="Steps between two checkpoints; 0: not by steps.")] = 0
    every_minutes: Annotated[
        float, Field(ge=0, allow_inf_nan=False, description="Minutes between two checkpoints; 0: not by time.")
    ] = 1.0
    keep_last: Annotated[int, Field(ge=0, description="How many of the newest are kept; 0: all.")] = 2
    keep_best: Annotated[int, Field(ge=0, description="How many with the best metric are kept.")] = 0
    monitor: Annotated[str, Field(description="For keep-best: the metric to compare, by its logged name.")] = (
        "validation/loss"
    )
    mode: Annotated[Mode, Field(description="Whether lower or higher is better; auto: as declared.")] = "auto"

    phase = Phase.SAVE
    logs = ()

    def watches(self) -> Mapping[str, Mode]:
        return {self.monitor: self.mode} if self.keep_best else {}

    def on_setup(self, run: Run) -> None:
        self._newest = perf_counter()

    def on_batch_end(self, run: Run) -> None:
        """Asks for a checkpoint by steps and by time."""
        if self.every_steps and run.step % self.every_steps == 0:
            run.save(_every(self.every_steps, "step"))
        elif self.every_minutes and perf_counter() - self._newest >= 60 * self.every_minutes:
            run.save(_every(self.every_minutes, "minute"))

    def next_batch_end(self, run: Run) -> Due | None:
        return Due(
            run.step // self.every_steps * self.every_steps + self.every_steps if self.every_steps else math.inf,
            self._newest + 60 * self.every_minutes if self.every_minutes else math.inf,
        )

    def on_epoch_end(self, run: Run) -> None:
        """Asks for one by epochs and by the metric, and always after the last epoch."""
        if self.keep_best and self._is_among_best(run):
            run.save(f"{self.monitor} is among the best {self.keep_best}")
        elif self.every_epochs and run.epoch % self.every_epochs == 0:
            run.save(_every(self.every_epochs, "epoch"))
        elif run.epoch >= run.epochs or run.requested("stop"):
            run.save("training has ended")

    def on_fit_end(self, run: Run) -> None:
        """Saves a run that was cut short."""
        if run.status in ("interrupted", "failed") and run.step:
            run.save(f"the run was {run.status}" if run.status == "interrupted" else "the run failed")

    def on_checkpoint(self, run: Run) -> None:
        """Deletes old checkpoints that this plugin asked for and no instance of it keeps."""
        self._newest = perf_counter()
        if run.folder is None:
            return
        saved = complete_checkpoints(run.folder)
        instances = [plugin for plugin in run.plugins if isinstance(plugin, Checkpoint)]
        kept = [each for plugin in instances for each in plugin._kept(run, saved)]  # noqa: SLF001  of its own class
        for each in self._mine(saved):
            if each not in kept:
                remove_checkpoint(each)

    def _mine(self, saved: list[Saved]) -> list[Saved]:
        """The checkpoints that this plugin asked for, newest first."""
        return [each for each in saved if self.name in each.manifest.get("plugins", ())]

    def _kept(self, run: Run, saved: list[Saved]) -> list[Saved]:
        """The checkpoints of its own that this plugin still wants."""
        mine = self._mine(saved)
        if not self.keep_last:
            return mine
        exact = [each for each in mine if each.is_exact]
        judged = self.keep_best and self.monitor in run.metrics
        kept = exact[: self.keep_last] + (self._best(run, exact) if judged else [])
        # One of a failed step is useful as long as nothing exact is newer.
        return kept + [each for each in mine if not each.is_exact and (not exact or each.step > exact[0].step)]

    def _is_among_best(self, run: Run) -> bool:
        """Whether the epoch that just ended is among the best so far."""
        value, sign = run.monitored(self.monitor), run.sign(self.monitor, self.mode)
        if run.folder is None or not math.isfinite(value):
            return False
        best = self._best(run, self._mine(complete_checkpoints(run.folder)))
        return len(best) < self.keep_best or sign * value > sign * float(best[-1].metrics[self.monitor] or 0.0)

    def _best(self, run: Run, saved: list[Saved]) -> list[Saved]:
        """The best of the checkpoints at the end of an epoch, when their metrics were new."""
        sign = run.sign(self.monitor, self.mode)
        judged = [
            (sign * value, -each.step, each)
            for each in saved
            if each.is_epoch_end and (value := each.metrics.get(self.monitor)) is not None
        ]
        return [each for _, _, each in sorted(judged, key=lambda entry: entry[:2], reverse=True)][: self.keep_best]


def _every(number: float, unit: str) -> str:
    return f"every {unit}" if number == 1 else f"every {number:g} {unit}s"
