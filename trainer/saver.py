"""Decides when a checkpoint may be taken, and takes it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from trainer.ledger import SAVE
from trainer.runs import checkpoint, folder, state

if TYPE_CHECKING:
    from trainer.dispatch import Dispatch
    from trainer.engine_state import EngineState
    from trainer.run import Run

log = logging.getLogger("trainer")

PAUSES_SECONDS = (0.5, 2.0)
"""How long to wait before a checkpoint that the disk refused is tried again."""
REST_SECONDS = 60.0
"""How long the run then continues before it tries the next one."""


class _InsideStep:
    """A context manager around code that no checkpoint may split; after an error the run stays inside."""

    def __init__(self) -> None:
        self.depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.depth -= 1


class Saver:
    """Writes checkpoints of a run.

    A checkpoint is exact only between two steps, when every plugin has seen the same events, so the loop's steps run
    inside `with saver.inside_step():`. A checkpoint that an error forces in between has a different name, and a resume
    does not use it by default.
    """

    def __init__(
        self, run: Run, engine_state: EngineState, dispatch: Dispatch, *, writes: bool, config: Mapping[str, Any]
    ) -> None:
        self._run = run
        self._state = engine_state
        self._dispatch = dispatch
        self._writes = writes
        self._config = config
        self._inside = _InsideStep()
        self._saved_at: tuple[int, bool] | None = None
        self._not_before = 0.0

    def inside_step(self) -> _InsideStep:
        """A context in which no exact checkpoint can be taken. The object is shared, to save microseconds per step."""
        return self._inside

    def save_if_asked(self) -> None:
        """Writes a checkpoint if one was requested. At the end of an epoch, checks that the run still has its folder.

        Raises FolderGone if it has not, and what `save` raises.
        """
        if self._run.folder is not None and not self._run.within_epoch:
            folder.check_present(self._run.folder)
        reason = self._state.requests.take("save")
        if reason is not None:
            self.save(reason)

    def save(self, reason: str) -> None:
        """Writes a checkpoint of the current state, and tells the plugins, unless the newest one is up to date.

        If the disk refuses it, the run continues without it, with a warning. Raises FolderGone if the run's folder is
        gone, and TrainerError if a plugin's state has a value that cannot be written.
        """
        run = self._run
        if not self._writes or self._position == self._saved_at or isinstance(run.exception, folder.FolderGone):
            return
        if run.folder is not None:
            folder.check_present(run.folder)
            if time.monotonic() < self._not_before and not self._is_last:
                return
            if not self._write_patiently(reason):
                if run.processes.size > 1:
                    # The others have nothing to write, and all have to do the same next.
                    self.mark_saved()
                return
        self.mark_saved()
        self._dispatch.checkpoint(run)

    def _write_patiently(self, reason: str) -> bool:
        """Whether a checkpoint could be written; tries again after a pause, as some refusals pass."""
        run = self._run
        for pause in (*PAUSES_SECONDS, None):
            try:
                self._write(reason)
            except checkpoint.NotWritten as error:
                assert run.folder is not None  # noqa: S101
                folder.check_present(run.folder)
                if pause is not None:
                    log.warning("%s. Trying again in %g s", error, pause)
                    time.sleep(pause)
                    continue
                self._not_before = time.monotonic() + REST_SECONDS
                run.notes.append(f"WARNING: {error}; the run continued without it")
                log.warning("%s. The run continues without it, and tries again in %g s", error, REST_SECONDS)
            else:
                return True
        return False

    @property
    def _is_last(self) -> bool:
        """Whether no later checkpoint will follow."""
        run = self._run
        return run.status != "running" or (not run.within_epoch and run.epoch >= run.settings.epochs)

    def mark_saved(self) -> None:
        """Notes that the current state is on disk."""
        self._saved_at = self._position

    def _write(self, reason: str) -> None:
        run = self._run
        assert run.folder is not None  # noqa: S101
        if self._inside.depth:
            name = f"failed-{run.step:08d}"
        else:
            name = f"step-{run.step:08d}" + ("" if run.within_epoch else f"-epoch-{run.epoch:04d}")
        requesters = self._state.requests.requesters("save")
        about = {
            "plugins": requesters,
            "reason": reason,
            "epoch": run.epoch,
            "step": run.step,
            "metrics": folder.json_metrics(run.metrics),
        }
        made_by = {"versions": folder.versions(), "plugins": folder.plugins_of(run), "config": self._config}
        with self._state.ledger.charged(requesters[0], SAVE):
            captured = state.capture(run, self._state)
            checkpoint.write(run.folder, name, {**captured, "made_by": made_by}, about)

    @property
    def _position(self) -> tuple[int, bool]:
        return self._run.step, self._run.within_epoch
