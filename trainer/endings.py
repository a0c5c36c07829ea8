"""Ends a run, however training ended: the final events, the last evaluations, the model and the record."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trainer.bookkeeping import broken_loss
from trainer.data.gathered import GatheredBatches
from trainer.errors import UsageError, message_of
from trainer.evaluation import evaluation_weights
from trainer.processes.failures import OtherProcessFailed
from trainer.runs import folder
from trainer.signals import Interrupt, Interrupted

if TYPE_CHECKING:
    from trainer.dispatch import Dispatch
    from trainer.engine_state import EngineState
    from trainer.evaluator import Evaluator
    from trainer.run import Run
    from trainer.saver import Saver

log = logging.getLogger("trainer")


class Endings:
    """Ends one run. With `again`, its folder existed before and is kept in any case."""

    def __init__(
        self,
        run: Run,
        state: EngineState,
        dispatch: Dispatch,
        evaluator: Evaluator,
        saver: Saver,
        *,
        again: bool,
    ) -> None:
        self._run = run
        self._state = state
        self._fire = dispatch
        self._evaluator = evaluator
        self._saver = saver
        self._again = again

    @contextmanager
    def always(self, interrupt: Interrupt) -> Iterator[None]:
        """Around the whole loop. At the end raises the run's first error, or Interrupted after a signal."""
        run, fire = self._run, self._fire
        try:
            yield
        except BaseException as error:  # noqa: BLE001  raised again below, after the endings
            self._fail(fire.blamed(error, run))
        self._settle(interrupt)
        if run.status in ("finished", "stopped"):
            self._state.log.begin_ending("training")
        self._end(fire.fit_end.to_the_end)
        with self._guarded():
            if run.folder is not None and run.exception is None:
                folder.check_present(run.folder)
            if run.status in ("finished", "stopped"):
                self._state.log.begin_ending("evaluations")
                # A save requested until here is dropped: in fit_end, plugins may have restored the best weights.
                self._state.requests.take("save")
                self._evaluator.calibration()
                self._evaluator.test()
                self._write_model()
            else:
                self._saver.save_if_asked()
        self._end(fire.teardown.to_the_end, closing=True)
        run.ended = time.time()
        self._close()
        if run.exception is not None:
            raise run.exception
        if interrupt.signum:
            raise Interrupted(run, interrupt.signum)

    def _settle(self, interrupt: Interrupt) -> None:
        """The status at the end of the loop."""
        run = self._run
        if run.exception is not None:
            return
        stop = run.requested("stop")
        if interrupt.signum:
            run.status, run.reason = "interrupted", str(Interrupted(run, interrupt.signum))
        elif stop is not None:
            run.status, run.reason = "stopped", stop
        else:
            run.status, run.reason = "finished", broken_loss(run.history)

    def _fail(self, error: BaseException, *, closing: bool = False) -> None:
        """Notes the first error and tells the plugins; later ones are logged, since only one can be raised.

        With `closing`, the teardown has begun, and plugins are no longer told.
        """
        run = self._run
        error = folder.gone_or(error, run.folder)
        if run.exception is not None:
            # Everything that is written into a lost folder fails for the same reason.
            if not isinstance(error, folder.FolderGone):
                log.error("another error followed: %s", error)
            return
        # Before the final events, so that the other processes do not wait for those too.
        run.processes.tell(error)
        run.exception = error
        run.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        other = isinstance(error, OtherProcessFailed)
        run.reason = str(error) if other else f"{type(error).__name__}: {message_of(error)}".rstrip(": ")
        run.within_batch = False
        if closing:
            return
        for later in self._fire.exception.to_the_end(run):
            self._fail(later)

    def _end(self, fire: Callable[[Run], list[Exception]], *, closing: bool = False) -> None:
        """Fires a final event; the first error that its handlers raise becomes the run's error, if it has none."""
        with self._guarded():
            for error in fire(self._run):
                self._fail(error, closing=closing)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # noqa: BLE001  an interrupt in an ending must not skip the next ending
            self._fail(error)

    def _write_model(self) -> None:
        """Writes the model folder: the weights that the metrics and the threshold belong to."""
        if self._run.folder is not None:
            from trainer.model.save import write_model

            with evaluation_weights(self._run):
                write_model(self._run, self._state.step.parameters)

    def _close(self) -> None:
        """Writes the record; a run that a usage error stopped at the start leaves no folder behind."""
        run = self._run
        if isinstance(run.train, GatheredBatches):
            run.train.close()
        if run.folder is None:
            return
        if isinstance(run.exception, folder.FolderGone):
            folder.unlock(run.folder)
            return
        # Some mistakes, such as a metric that is never logged, show up only after the first epoch is evaluated.
        if isinstance(run.exception, UsageError) and run.epoch <= 1 and not self._again:
            folder.remove_folder(run.folder)
        else:
            try:
                folder.write_run(run.folder, run)
            except OSError as error:
                log.error("the record of the run in %s cannot be written: %s", run.folder, error.strerror or error)
        folder.unlock(run.folder)
