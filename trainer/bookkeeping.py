"""Updates a run's counters, logs and open requests as the loop proceeds."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from trainer.terminal import NOTE

if TYPE_CHECKING:
    from trainer.data.batches import Batch
    from trainer.engine_state import EngineState
    from trainer.run import Run

log = logging.getLogger("trainer")

LOSSES = ("train/loss", "validation/loss")


class Bookkeeping:
    """What changes at the start and the end of a run, an epoch and a batch."""

    def __init__(self, run: Run, state: EngineState) -> None:
        self._run = run
        self._state = state
        self._log = state.log
        self._fields = vars(run)  # assignment through the run is checked, which costs more than the assignment
        self._steps = run.settings.steps  # pydantic takes longer to answer than the rest of a batch's bookkeeping

    def begin_run(self) -> None:
        """Starts the clock."""
        run, state = self._run, self._state
        run.status = "running"
        state.began = time.time()
        if not run.resumed:
            run.started = state.began

    def tell_notes(self) -> None:
        """Logs what the user should know about the data; of several processes, only the first one does."""
        if self._run.processes.is_first:
            for note in self._run.task.notes():
                log.warning("%s", note, extra={NOTE: True})

    def begin_epoch(self) -> None:
        """Begins an epoch."""
        run = self._run
        run.epoch += 1
        run.within_epoch = True
        run.epoch_rows = run.step_in_epoch = 0
        run.split = "train"
        self._state.log.begin_epoch()
        self._state.seeder.end_block()

    def begin_batch(self, batch: Batch) -> None:
        """Begins a batch."""
        fields = self._fields
        self._state.batch = batch
        fields["step"] += 1
        fields["step_in_epoch"] += 1
        fields["within_batch"] = True
        self._log.begin_step()

    def end_batch(self, batch: Batch) -> None:
        """Ends a batch; values logged from here on belong to the epoch."""
        fields = self._fields
        fields["within_batch"] = False
        fields["epoch_rows"] += batch.rows
        if self._steps is not None and fields["step"] >= self._steps:
            self._run.stop(f"it has reached its limit of {self._steps} steps")
        if self._state.step.finished:
            self._run.stop(self._state.step.finished)

    def log_training_loss(self) -> None:
        """Logs the mean loss over the rows that the epoch has trained on, unless it has trained on none."""
        run = self._run
        if run.epoch_rows:
            run.log({"train/loss": self._state.step.loss.take_sum() / run.epoch_rows})

    def open_history_entry(self) -> None:
        """Adds an entry to the history with the values of the epoch, including those logged until it is closed."""
        self._state.log.open_entry(self._run.epoch, self._run.step)

    def close_epoch(self) -> None:
        """Ends an epoch; values logged from here on belong to no epoch. Warns if its losses are the first bad ones."""
        run = self._run
        broken = broken_loss(run.history)
        if broken and not broken_loss(run.history[:-1]) and run.requested("stop") is None:
            log.warning("%s. Check the data, or use a lower learning rate.", broken)
        if self._state.step.finished == "" and run.epoch >= run.settings.epochs:
            log.warning("%s has not converged in %d epochs. Give it more with --epochs.", run.step_kind, run.epoch)
        self._state.log.close_entry()
        run.within_epoch = False
        # The request came too late for this epoch, and must not end or evaluate the next one.
        self._state.requests.take("end_epoch")
        self._state.requests.take("evaluate")


def broken_loss(history: Sequence[Mapping[str, float]]) -> str:
    """Which loss is not finite, and since which epoch; empty if the losses of the newest epoch are finite."""
    found = ""
    for entry in reversed(history):
        bad = next((name for name in LOSSES if not math.isfinite(entry.get(name, 0.0))), None)
        if bad is None:
            break
        found = f"{bad} is {entry[bad]:g} in epoch {entry['epoch']:.0f}"
    return found
