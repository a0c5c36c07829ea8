"""Proves that a run resumes exactly: the same steps, with and without a save and a load in between."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from trainer.engine import Engine
from trainer.errors import PluginError, UsageError
from trainer.events import Phase, Plugin
from trainer.launch.launch import Launch
from trainer.processes import launched
from trainer.run import Run
from trainer.runs import checkpoint
from trainer.runs.checkpoint import Checkpoint
from trainer.runs.state import differences

STEPS = 20


@dataclass(frozen=True)
class Report:
    """What was compared: `steps` steps after step `start`, interrupted after `middle` of them."""

    start: int
    steps: int
    middle: int
    differences: list[str]
    """The paths, within a checkpoint's state, of all values that differ in any bit; empty if all are equal."""


class _Enough(Exception):  # noqa: N818  not an error, but the way out
    """Training has reached the wanted step."""


@dataclass
class _SaveAt(Plugin):
    """Saves at a step, and then ends the run as abruptly as a plugin can."""

    at: int

    name = "verify"
    phase = Phase.SAVE

    def on_batch_end(self, run: Run) -> None:
        """Requests the checkpoint."""
        if run.step == self.at:
            run.save("to be compared")

    def on_checkpoint(self, run: Run) -> None:
        """Ends the run once the checkpoint is on disk."""
        if run.step == self.at:
            raise _Enough


def verify(launch: Launch, steps: int = STEPS) -> Report:
    """Trains `steps` steps from the launch's checkpoint, twice, in temporary folders; the run's own is not changed.

    A run that has already had all its epochs starts from the beginning. Plugins that only report are left out: they
    write outside the run's folder. Raises UsageError for a run of fewer than two steps.
    """
    if launched().size > 1:
        raise UsageError("it compares runs of one process", where="--verify", fix="Start it without mpirun or srun.")
    launch.settle_computing()
    begin = launch.continues if isinstance(launch.continues, Checkpoint) else None
    if begin is not None and begin.is_epoch_end and begin.manifest["epoch"] >= launch.settings.epochs:
        begin = None
    start = begin.step if begin else 0
    with tempfile.TemporaryDirectory() as place, _quiet():
        longest, straight, broken, resumed = (
            Path(place) / name for name in ("longest", "straight", "broken", "resumed")
        )
        last = _train(launch, longest, begin, start + steps)
        if last <= start + 1:
            raise UsageError("the run has fewer than two steps left to compare", fix="Give it more with --epochs.")
        middle = start + (last - start) // 2
        _train(launch, straight, begin, last)
        _train(launch, broken, begin, middle)
        _train(launch, resumed, _saved(broken), last)
        found = differences(_saved(straight).read(), _saved(resumed).read())
    return Report(start, last - start, middle - start, found)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides warnings: every checkpoint would report the plugins that are left out."""
    log = logging.getLogger("trainer")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def _train(launch: Launch, folder: Path, begin: Checkpoint | None, at: int) -> int:
    """Trains up to step `at` and saves there; returns the last step, which is earlier if training ends before."""
    plugins: list[Plugin] = [deepcopy(plugin) for plugin in launch.plugins if plugin.phase is not Phase.REPORT]
    if begin is not None:
        folder.mkdir()
    engine = Engine(
        deepcopy(launch.task),
        launch.settings,
        [*plugins, _SaveAt(at)],
        run_folder=folder,
        resume_from=begin,
        changed_data=launch.changed_data,
    )
    try:
        return engine.fit().step
    except PluginError as error:
        if not isinstance(error.__cause__, _Enough):
            raise
        return at


def _saved(folder: Path) -> Checkpoint:
    return checkpoint.complete_checkpoints(folder)[0]
