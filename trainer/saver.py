"""Decides when a checkpoint may be taken, and takes it."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from trainer.ledger import SAVE
from trainer.runs import checkpoint, folder, state

if TYPE_CHECKING:
    from trainer.dispatch import Dispatch
    from trainer.engine_state import EngineState
    from trainer.run import Run


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

    def inside_step(self) -> _InsideStep:
        """A context in which no exact checkpoint can be taken. The object is shared, to save microseconds per step."""
        return self._inside

    def save_if_asked(self) -> None:
        """Writes a checkpoint if one was requested."""
        reason = self._state.requests.take("save")
        if reason is not None:
            self.save(reason)

    def save(self, reason: str) -> None:
        """Writes a checkpoint of the current state, and tells the plugins, unless the newest one is up to date.

        Raises TrainerError if the write fails, or if a plugin's state has a value that cannot be written.
        """
        run = self._run
        if not self._writes or self._position == self._saved_at:
            return
        if run.folder is not None:
            self._write(reason)
        self.mark_saved()
        self._dispatch.checkpoint(run)

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
