"""Tiny real runs with somebody in them who watches, fails, stops or pulls the plug."""

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

OURS = ("kit-watch", "kit-kill", "kit-fail", "kit-stop")


class ElsewhereError(RuntimeError):
    """What another plugin raises."""


class KilledError(Exception):
    """What stands for the end of the process: the run ends here as abruptly as it can within one."""


@dataclass
class Fault:
    """What a plugin under test raised, and where."""

    method: str
    error: Exception


@dataclass
class Trial:
    """A run that is over, however it ended."""

    run: Run
    step: Step
    error: BaseException | None
    faults: list[Fault]
    state: dict[str, Any] = field(default_factory=dict)
    """As a checkpoint would hold it at the end of training; empty where the run did not come so far."""

    def borne(self, what: str, *, refusal: bool = False) -> Trial:
        """Raises BrokenPromiseError where a plugin under test raised anything.

        `refusal`: a UsageError, which tells the user what to do, is an answer, too.
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
    """Captures the state at the end of training, behind everybody else."""

    phase = Phase.REPORT
    name = "kit-watch"

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.at_setup: Callable[[], None] | None = None
        self.engine_state: EngineState | None = None

    def on_setup(self, run: Run) -> None:
        """For whoever wants to look behind everybody's setup."""
        if self.at_setup:
            self.at_setup()

    def on_fit_end(self, run: Run) -> None:
        """What a checkpoint would hold now; its arrays are read, since later steps write into them."""
        if run.exception is None and run.folder is not None and self.engine_state is not None:
            state = capture(run, self.engine_state)
            state["plugins"] = {name: part for name, part in state["plugins"].items() if name not in OURS}
            self.state = state


class KillAt(Plugin):
    """Saves at a step, within an epoch or at its end, and ends the run some steps later: what came in between is lost.

    A run that is over before is left to its end: going on from the checkpoint then takes back that end.
    """

    phase = Phase.REPORT
    name = "kit-kill"

    def __init__(self, step: int, *, at_epoch_end: bool, later: int = 2) -> None:
        self.step, self.at_epoch_end, self.later = step, at_epoch_end, later

    def on_batch_end(self, run: Run) -> None:
        """Within the epoch."""
        if run.step == self.step and not self.at_epoch_end:
            run.save("the kit resumes from here")
        if run.step == self.step + self.later:
            raise KilledError

    def on_epoch_end(self, run: Run) -> None:
        """At its end."""
        if run.step == self.step and self.at_epoch_end:
            run.save("the kit resumes from here")


def failing(event: str, error: BaseException) -> Plugin:
    """A plugin that raises in one event, before anybody else has seen it."""

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
        """At once."""
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
    """Trains, whatever comes of it; `plugins` are under test, `others` are the kit's.

    With `resume` it goes on from the newest checkpoint in `run_folder`. What plugins print is swallowed. Raises
    BrokenPromiseError where a state is not taken back, and UsageError for what does not even start.
    """
    from trainer.engine import Engine

    watch = next((each for each in others if isinstance(each, Watch)), Watch())
    # What fails goes first in its phase, and what watches last: the order of the list decides within a phase.
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
        except (Exception, KeyboardInterrupt) as raised:  # noqa: BLE001  judged by whoever asked
            ended = raised
    return Trial(engine.run, engine.state.step, ended, faults, watch.state)


def newest(run_folder: Path) -> Checkpoint | None:
    """The newest checkpoint that a run can be continued from exactly; None where there is none."""
    return next((each for each in checkpoint.complete(run_folder) if each.is_exact), None)


def _listen(state: EngineState, plugins: Sequence[Plugin]) -> list[Fault]:
    """A list that takes in whatever these plugins raise from now on, errors that only switch them off included."""
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
    """Without the engine's warnings, since the kit breaks things on purpose, and without what is printed."""
    log = logging.getLogger("trainer")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        log.setLevel(before)


def attributes(plugin: Plugin) -> dict[str, Any]:
    """What an instance holds in itself, as far as it can be compared."""
    return {name: plain(value) for name, value in vars(plugin).items()}


def varying(first: Plugin, second: Plugin) -> set[str]:
    """The attributes that differ between two runs that should be equal: times, folders and the like."""
    return unlike(attributes(first), attributes(second))
