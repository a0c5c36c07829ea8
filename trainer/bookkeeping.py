"""Moves a run's counters, logs and open requests along with the loop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.data.batches import Batch
    from trainer.engine_state import EngineState
    from trainer.run import Run


class Bookkeeping:
    """What changes at the first and the last line of a run, an epoch and a batch."""

    def __init__(self, run: Run, state: EngineState) -> None:
        self._run = run
        self._state = state
        self._log = state.log
        self._steps = run.settings.steps  # pydantic takes longer to answer than the rest of a batch's bookkeeping

    def begin_run(self) -> None:
        """The clock starts."""
        run, state = self._run, self._state
        run.status = "running"
        state.began = time.time()
        if not run.resumed:
            run.started = state.began

    def begin_epoch(self) -> None:
        """The first line of an epoch."""
        run = self._run
        run.epoch += 1
        run.within_epoch = True
        run.epoch_rows = run.step_in_epoch = 0
        run.split = "train"
        self._state.log.begin_epoch()
        self._state.seeder.end_block()

    def begin_batch(self, batch: Batch) -> None:
        """The first line of a batch."""
        run = self._run
        run.batch = batch
        run.step += 1
        run.step_in_epoch += 1
        run.within_batch = True
        self._log.begin_step()

    def end_batch(self, batch: Batch) -> None:
        """The batch is over; what is logged from here on belongs to the epoch."""
        run = self._run
        run.within_batch = False
        run.epoch_rows += batch.rows
        if self._steps is not None and run.step >= self._steps:
            run.stop(f"it has done the {self._steps} steps that were asked for")

    def log_training_loss(self) -> None:
        """The mean loss over the rows that the epoch has trained on; none for an epoch without a batch."""
        run = self._run
        if run.epoch_rows:
            run.log({"train/loss": self._state.step.loss.take_sum() / run.epoch_rows})

    def open_history_entry(self) -> None:
        """Adds an entry to the history with what was logged in the epoch, and until the entry is closed."""
        self._state.log.open_entry(self._run.epoch, self._run.step)

    def close_epoch(self) -> None:
        """The epoch is over; what is logged from here on belongs to none."""
        self._state.log.close_entry()
        self._run.within_epoch = False
        # Asked for too late to mean this epoch; the next one must not be cut short, or evaluated, by it.
        self._state.requests.take("end_epoch")
        self._state.requests.take("evaluate")
