"""Tiny real runs with plugins of the kit that watch, fail, stop the run or kill it."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.config.settings import Settings
from trainer.errors import PluginError, UsageError
from trainer.events import Phase, Plugin
from trainer.run import Run
from trainer.runs import checkpoint, folder
from trainer.runs.checkpoint import Checkpoint
from trainer.runs.state import capture
from trainer.task import Task
from trainer.testing.checks import BrokenPromiseError, named, plain, unlike

if TYPE_CHECKING:
    from trainer.engine_state import EngineState
    from trainer.step import Step

OURS = ("kit-watch", "kit-kill", "kit-fail", "kit-stop", "kit-handed")


class ElsewhereError(RuntimeError):
    """The error that the kit's own plugin raises."""


class KilledError(Exception):
    """Simulates the end of the process: the run ends here as abruptly as possible within one."""


@dataclass
class Fault:
    """An error that a plugin under test raised, and the method that raised it."""

    method: str
    error: Exception


@dataclass
class Trial:
    """A run that has ended in any way."""

    run: Run
    step: Step
    error: BaseException | None
    faults: list[Fault]
    state: dict[str, Any] = field(default_factory=dict)
    """The state that a checkpoint would hold at the end of training; empty if the run did not get there."""

    def survived(self, what: str, *, refusal: bool = False) -> Trial:
        """Returns itself. Raises BrokenPromiseError if a plugin under test raised anything.

        With `refusal`, a UsageError is accepted too, since it tells the user what to do.
        """
        for fault in self.faults:
            if not (refusal and isinstance(fault.error, UsageError)):
                raise BrokenPromiseError(f"{what}: {fault.method} raised {named(fault.error)}") from fault.error
        own = (ElsewhereError, KeyboardInterrupt) + ((UsageError,) if refusal else ())
        cause = self.error.__cause__ if isinstance(self.error, PluginError) else self.error
        if self.error is not None and not isinstance(cause, own):
            raise BrokenPromiseError(
                f"{what}: the run ended with {type(self.error).__name__}: {self.error}"
            ) from self.error
        return self


class Watch(Plugin):
    """Captures the state at the end of training, after all other plugins."""

    phase = Phase.REPORT
    name = "kit-watch"

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.at_setup: Callable[[], None] | None = None
        self.engine_state: EngineState | None = None

    def on_setup(self, run: Run) -> None:
        """Calls `at_setup`, after the setup of all other plugins."""
        if self.at_setup:
            self.at_setup()

    def on_fit_end(self, run: Run) -> None:
        """Captures what a checkpoint would hold now, with copies of the arrays."""
        if run.exception is None and run.folder is not None and self.engine_state is not None:
            state = capture(run, self.engine_state)
            state["plugins"] = {name: part for name, part in state["plugins"].items() if name not in OURS}
            self.state = state


class Handed(Plugin):
    """Notes the arrays that each batch hands to plugins, by identity."""

    phase = Phase.REPORT
    name = "kit-handed"

    def __init__(self) -> None:
        self.arrays: dict[int, tuple[str, Any]] = {}
        self.at_once = 0
        """How many arrays a batch hands out."""

    def on_batch_end(self, run: Run) -> None:
        """Keeps the arrays too, so that no other gets their identity."""
        assert run.batch is not None  # noqa: S101
        outputs = [part for each in run.outputs for part in (each if isinstance(each, (list, tuple)) else [each])]
        batch = [array for shard in run.batch.shards if shard.rows for array in shard.arrays]
        for what, arrays in (("run.outputs", outputs), ("run.losses", run.losses), ("run.batch", batch)):
            self.arrays.update({id(array): (what, array) for array in arrays})
        self.at_once = len(outputs) + len(run.losses) + len(batch)


class KillAt(Plugin):
    """Saves at a step, within an epoch or at its end, and ends the run `later` steps later; these steps are lost.

    A run that is over before then ends by itself; resuming from the checkpoint undoes that end.
    """

    phase = Phase.REPORT
    name = "kit-kill"

    def __init__(self, step: int, *, at_epoch_end: bool, later: int = 2) -> None:
        self.step, self.at_epoch_end, self.later = step, at_epoch_end, later

    def on_batch_end(self, run: Run) -> None:
        """Saves within the epoch, and kills the run some steps later."""
        if run.step == self.step and not self.at_epoch_end:
            run.save("the kit resumes from here")
        if run.step == self.step + self.later:
            raise KilledError

    def on_epoch_end(self, run: Run) -> None:
        """Saves at the end of the epoch."""
        if run.step == self.step and self.at_epoch_end:
            run.save("the kit resumes from here")


def failing(event: str, error: BaseException) -> Plugin:
    """A plugin that raises in one event, before any other plugin gets it."""

    def hook(_: Plugin, __: Run) -> None:
        raise error

    cls = type("Failing", (Plugin,), {f"on_{event}": hook, "phase": Phase.TRANSFORM})
    plugin: Plugin = cls()
    plugin.name = "kit-fail"
    return plugin


class Stopping(Plugin):
    """Asks to stop in the first batch, before it is trained."""

    phase = Phase.TRANSFORM
    name = "kit-stop"

    def on_batch_begin(self, run: Run) -> None:
        """Asks to stop."""
        run.stop("the kit stops in the first batch")


def train(
    task: Task,
    settings: Settings,
    plugins: Sequence[Plugin],
    *,
    others: Sequence[Plugin] = (),
    run_folder: Path | None = None,
    resume: bool = False,
    compiled: bool = True,
) -> Trial:
    """Trains, and returns the run even if it failed; `plugins` are under test, `others` are the kit's.

    With `resume` it resumes from the newest checkpoint in `run_folder`. What plugins print is discarded. Raises
    BrokenPromiseError if a plugin cannot load its state, and UsageError if the run cannot start.
    """
    from trainer.engine import Engine

    watch = next((each for each in others if isinstance(each, Watch)), Watch())
    # Within a phase the order of this list decides: the plugin that fails comes first, the one that watches last.
    listed = [*(each for each in others if each is not watch), *plugins, watch]
    kept = newest(run_folder) if resume and run_folder is not None else None
    with quiet():
        try:
            engine = Engine(task, settings, listed, run_folder=run_folder, resume_from=kept, compiled=compiled)
        except PluginError as error:
            raise BrokenPromiseError(str(error)) from error
        watch.engine_state = engine.state
        faults = _listen(engine.state, plugins)
        ended: BaseException | None = None
        try:
            if resume and run_folder is not None:
                with folder.locked(run_folder):
                    engine.fit()
            else:
                engine.fit()
        except (Exception, KeyboardInterrupt) as raised:  # noqa: BLE001  the caller examines it
            ended = raised
    return Trial(engine.run, engine.state.step, ended, faults, watch.state)


def newest(run_folder: Path) -> Checkpoint | None:
    """The newest checkpoint from which a run can be resumed exactly, or None."""
    return next((each for each in checkpoint.complete_checkpoints(run_folder) if each.is_exact), None)


def _listen(state: EngineState, plugins: Sequence[Plugin]) -> list[Fault]:
    """A list that collects what these plugins raise from now on, including errors that only disable them."""
    faults: list[Fault] = []
    report = state.plugin_failed

    def failed(plugin: Plugin, method: str, run: Run, error: Exception) -> Exception | None:
        if any(plugin is each for each in plugins):
            faults.append(Fault(method, error))
        return report(plugin, method, run, error)

    state.plugin_failed = failed
    return faults


@contextmanager
def quiet() -> Iterator[None]:
    """Suppresses printed output and the engine's warnings, because the kit breaks things on purpose."""
    log = logging.getLogger("trainer")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        log.setLevel(before)


def attributes(plugin: Plugin) -> dict[str, Any]:
    """The attributes of an instance, in comparable form."""
    return {name: plain(value) for name, value in vars(plugin).items()}


def varying(first: Plugin, second: Plugin) -> set[str]:
    """The attributes that differ between two runs that should be equal, such as times and folders."""
    return unlike(attributes(first), attributes(second))
