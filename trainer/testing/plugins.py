"""The promises of a plugin, each looked at in tiny real runs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from trainer.catalog.registry import name_of
from trainer.config.settings import Settings
from trainer.events import Plugin
from trainer.runs import checkpoint
from trainer.runs.checkpoint import Checkpoint
from trainer.runs.state import differences
from trainer.task import Task
from trainer.testing.checks import (
    BrokenPromiseError,
    Check,
    check_declaration,
    check_import,
    check_options,
    class_of,
    demand,
    make_checks,
    named,
    plain,
    unlike,
)
from trainer.testing.tiny import TinyWithThreshold, settings
from trainer.testing.trials import (
    ElsewhereError,
    KillAt,
    Stopping,
    Trial,
    Watch,
    attributes,
    failing,
    newest,
    train,
    varying,
)

EPOCHS, STEPS_PER_EPOCH = 3, 6
TOLERANCE = 1e-4
COSTED_EPOCHS = 50
PER_BATCH = ("batch_begin", "backward_end", "batch_end")
BY_LINES = (".csv", ".jsonl", ".log", ".tsv", ".txt")
"""Endings of files that plugins append to, line by line."""


def tiny_task() -> Task:
    """What plugins are tried on: two classes, three splits, a threshold; the last batch of an epoch has one row."""
    return TinyWithThreshold(train_rows=21, validation_rows=9, test_rows=5)


@dataclass(frozen=True)
class Subject:
    """A plugin under test: how to make one, on what to try it, and what may differ between equal runs."""

    make: Callable[[], Plugin]
    task: Callable[[], Task] = tiny_task
    files: Sequence[str] = ()
    ignore: Sequence[str] = ()

    @property
    def varying(self) -> tuple[str, ...]:
        """What may differ between equal runs, by its own word or its tester's."""
        return (*self.ignore, *class_of(self.make).varying)

    def plugin(self, label: str = "") -> Plugin:
        """A new one, with the name that it has in a run."""
        plugin = self.make()
        plugin.name = name_of(plugin) + (f"@{label}" if label else "")
        return plugin

    def settings(self, **values: Any) -> Settings:
        """Three epochs of six batches, the last of one row."""
        return settings(**{"epochs": EPOCHS, "batch_size": 4, **values})

    def unlike(self, first: Trial, second: Trial) -> list[str]:
        """Where two states differ in any bit, less what may."""
        found = differences(first.state, second.state)
        return [path for path in found if not any(fnmatch(path, f"*{pattern}*") for pattern in self.varying)]


def plugin_checks(
    make: Callable[[], Plugin],
    *,
    task: Callable[[], Task] = tiny_task,
    files: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> list[Check]:
    """The promises of a plugin as checks, each of which can be a test of its own.

    `make` gives a new plugin at each call: its class, or a function where it needs options. `task` gives what it is
    tried on, for a plugin that wants something special. `files` are names in the run's folder that have to be the same,
    byte for byte, after a resume. `ignore` are patterns of what may differ between equal runs, beside the plugin's own
    `varying`: attributes, figures and states that hold times, such as `speed/*`.
    """
    return make_checks(PROMISES, Subject(make, task, files, ignore))


def check_plugin(
    make: Callable[[], Plugin],
    *,
    task: Callable[[], Task] = tiny_task,
    files: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> dict[str, str]:
    """Holds a plugin to all of its promises, and returns the remarks (its cost per batch is one) by check.

    Takes what `plugin_checks` takes. Raises BrokenPromiseError, naming every promise that is broken.
    """
    return demand(plugin_checks(make, task=task, files=files, ignore=ignore))


# ---- the promises ----------------------------------------------------------------------------------------------------


def it_is_declared_as_the_engine_wants_it(subject: Subject) -> None:
    """It has known hooks with one argument, a docstring, and options with help texts that hide no common one."""
    check_declaration(class_of(subject.make))
    if class_of(subject.make).__name__ == "Plugin" or not issubclass(class_of(subject.make), Plugin):
        raise BrokenPromiseError(f"{class_of(subject.make).__name__} does not derive from trainer.Plugin")


def importing_it_does_not_import_mxnet(subject: Subject) -> str:
    """Its module can be imported without MXNet, so that help and mistakes in options answer at once."""
    return check_import(class_of(subject.make))


def options_go_through_toml_and_flags(subject: Subject) -> None:
    """Its options come back from a TOML file and from the texts of --set as they were."""
    check_options(subject.make)


def a_whole_run_works(subject: Subject) -> None:
    """It bears a whole run; one without a folder to write into, too, or it says by a UsageError what it is missing."""
    for inside in (True, False):
        with _folder() as folder:
            trial = _train(subject, [subject.plugin()], run_folder=folder if inside else None)
            if inside:
                trial.borne("in a run")
            else:
                trial.borne("in a run that has no folder to write into (run.folder is None)", refusal=True)


def two_runs_are_alike(subject: Subject) -> None:
    """A second run in the same process equals the first: nothing is kept in the class or the module."""
    first, second = _twice(subject)
    found = subject.unlike(first, second)
    if found:
        raise BrokenPromiseError(
            f"the same run gave something else the second time: {_few(found)}. Keep what changes in the instance, and "
            "draw random numbers from trainer.seeds.derive(run.settings.seed, …)"
        )


def state_survives_a_save_and_a_load(subject: Subject) -> None:
    """What state_dict gives comes back from a checkpoint on the disk, and is the same once setup has fired."""
    last = _last_step(subject)
    for step, at_epoch_end in _places(last):
        with _folder() as folder:
            kept = _kill(subject, folder, step, at_epoch_end=at_epoch_end).read()["plugins"]
            watch, plugin = Watch(), subject.plugin()
            seen: dict[str, Any] = {}
            watch.at_setup = lambda seen=seen, plugin=plugin: seen.update(_plain_state(plugin.state_dict()))
            _train(subject, [plugin], others=[watch], run_folder=folder, resume=True).borne("in a resumed run")
            saved = _plain_state(kept.get(plugin.name, {}))
            found = list(unlike(saved, seen))
            found = [key for key in found if not any(fnmatch(key, pattern) for pattern in subject.varying)]
            if found:
                key = min(found)
                raise BrokenPromiseError(
                    f"its state {key!r} was {saved.get(key)!r} when it was saved at step {step}, and is "
                    f"{seen.get(key)!r} behind setup in the resumed run: load_state_dict has to take it back, and "
                    "on_setup must not start afresh where run.resumed is true"
                )


def a_resumed_run_equals_one_that_never_stopped(subject: Subject) -> None:
    """Killed at any step and resumed, it ends with the same weights, figures, decisions, states and files."""
    with _folder() as folder:
        plugin = subject.plugin()
        whole = _train(subject, [plugin], run_folder=folder).borne("in a run")
        files, lines = _contents(subject, folder), _lines(folder)
        untouched = attributes(subject.plugin())
        # What a run does not change may hold, in a resumed one, what load_state_dict has put there for setup.
        kept = {name: attributes(plugin).get(name) for name in unlike(untouched, attributes(plugin))}
    times = _attributes_that_vary(subject)
    for step, at_epoch_end in _places(whole.run.step):
        with _folder() as folder:
            _kill(subject, folder, step, at_epoch_end=at_epoch_end)
            plugin = subject.plugin()
            again = _train(subject, [plugin], run_folder=folder, resume=True).borne("in a resumed run")
            when = f"a run that was killed at step {step}{' (end of an epoch)' if at_epoch_end else ''} and resumed"
            found = subject.unlike(whole, again)
            if found:
                raise BrokenPromiseError(
                    f"{when} has something else in the end than one that never stopped: {_few(found)}. What is needed "
                    "for the same decisions belongs into state_dict"
                )
            _compare_attributes(when, kept, attributes(plugin), times)
            _compare_files(when, files, _contents(subject, folder), lines, _lines(folder))


def it_bears_an_exception_elsewhere(subject: Subject) -> None:
    """Whatever another plugin raises, wherever, it adds no error of its own: its endings fire in any case."""
    for event in ("setup", "fit_begin", "batch_begin", "batch_end", "evaluate_end", "epoch_end", "fit_end"):
        with _folder() as folder:
            trial = _train(
                subject, [subject.plugin()], others=[failing(event, ElsewhereError("the kit"))], run_folder=folder
            )
            trial.borne(f"while another plugin fails in on_{event}")


def it_bears_an_interrupt(subject: Subject) -> None:
    """A Ctrl-C in the middle of a batch ends the run in order."""
    with _folder() as folder:
        others = [failing("batch_end", KeyboardInterrupt())]
        _train(subject, [subject.plugin()], others=others, run_folder=folder).borne("at an interrupt within a batch")


def it_bears_a_stop_in_the_first_batch(subject: Subject) -> None:
    """A run that is stopped in its first batch is evaluated and ends in order."""
    with _folder() as folder:
        trial = _train(subject, [subject.plugin()], others=[Stopping()], run_folder=folder)
        trial.borne("in a run that is stopped in its first batch")


def it_bears_an_epoch_without_evaluation(subject: Subject) -> None:
    """Without a validation split it works, or says by a UsageError what it is missing."""
    with _folder() as folder:
        task = _without_validation(subject.task())
        trial = _train(subject, [subject.plugin()], task=task, run_folder=folder)
        trial.borne("in a run without a validation split", refusal=True)


def it_bears_several_devices(subject: Subject) -> None:
    """On three contexts, one of them without rows now and then, it gives what it gives on one, up to rounding."""
    # One that computes with fewer bits rounds by more than any tolerance; the same parts are rounded alike.
    parts = None if type(subject.plugin()).change_symbol is Plugin.change_symbol else 3
    with _folder() as folder, _folder() as other:
        one = _train(
            subject, [subject.plugin()], run_folder=folder, settings=subject.settings(micro_batches=parts)
        ).borne("in a run")
        several = _train(
            subject,
            [subject.plugin()],
            run_folder=other,
            settings=subject.settings(devices="cpu:0,1,2", micro_batches=parts),
        ).borne("on three contexts")
    if one.run.step != several.run.step:
        raise BrokenPromiseError(
            f"on three contexts the run has {several.run.step} steps, and {one.run.step} on one: the shards of "
            "run.batch hold parts of it, and run.gradients the sum over all"
        )
    for name, value in one.run.copy_weights().items():
        apart = float(np.abs(value - several.run.copy_weights()[name]).max())
        if not apart <= TOLERANCE:
            raise BrokenPromiseError(
                f"on three contexts the weights {name} differ by {apart:.2g} from those on one: what it changes has to "
                "reach every context (run.set_weights, run.gradients)"
            )


def two_instances_work_side_by_side(subject: Subject) -> None:
    """Two of it, with labels, share a run without getting into each other's way, or say why they cannot."""
    with _folder() as folder:
        pair = [subject.plugin("first"), subject.plugin("second")]
        trial = _train(subject, pair, run_folder=folder).borne("as one of two instances", refusal=True)
    first, second = pair
    for name, value in vars(first).items():
        if isinstance(value, (list, dict, set)) and value and vars(second).get(name) is value:
            raise BrokenPromiseError(
                f"both instances hold the same {type(value).__name__} in {name}: make one for each"
            )
    states = trial.state.get("plugins", {})
    if trial.error is None and not {first.name, second.name} <= set(states):
        raise BrokenPromiseError("one of two instances has no state in a checkpoint")


def its_cost_is_known(subject: Subject) -> str:
    """What its hooks cost in each batch is measured and told; nothing is demanded of it."""
    with _folder() as folder:
        plugin = subject.plugin()
        values = subject.settings(epochs=COSTED_EPOCHS)
        trial = _train(subject, [plugin], run_folder=folder, settings=values).borne("in a longer run")
    steps = max(trial.run.step, 1)
    rows = [row for row in trial.run.ledger() if row["plugin"] == plugin.name and row["event"] in PER_BATCH]
    own, waiting = (sum(float(row[key]) for row in rows) / steps * 1e6 for key in ("seconds", "waiting"))
    waits = f", and {waiting:.0f} µs of waiting for the device" if waiting else ""
    return f"{own:.1f} µs a batch{waits} (over {steps} steps)"


PROMISES: tuple[Callable[[Subject], str | None], ...] = (
    it_is_declared_as_the_engine_wants_it,
    importing_it_does_not_import_mxnet,
    options_go_through_toml_and_flags,
    a_whole_run_works,
    two_runs_are_alike,
    state_survives_a_save_and_a_load,
    a_resumed_run_equals_one_that_never_stopped,
    it_bears_an_exception_elsewhere,
    it_bears_an_interrupt,
    it_bears_a_stop_in_the_first_batch,
    it_bears_an_epoch_without_evaluation,
    it_bears_several_devices,
    two_instances_work_side_by_side,
    its_cost_is_known,
)
"""Every promise of a plugin, in the order in which they are looked at."""


# ---- how they look ---------------------------------------------------------------------------------------------------


@contextmanager
def _folder() -> Iterator[Path]:
    """Where a run's folder can be made; it is gone afterwards."""
    with tempfile.TemporaryDirectory() as place:
        yield Path(place) / "runs" / "run"


def _train(
    subject: Subject,
    plugins: Sequence[Plugin],
    *,
    task: Task | None = None,
    settings: Settings | None = None,
    others: Sequence[Plugin] = (),
    run_folder: Path | None = None,
    resume: bool = False,
) -> Trial:
    if run_folder is not None:
        run_folder.parent.mkdir(parents=True, exist_ok=True)
    return train(
        task or subject.task(),
        settings or subject.settings(),
        plugins,
        others=others,
        run_folder=run_folder,
        resume=resume,
    )


def _twice(subject: Subject) -> tuple[Trial, Trial]:
    trials = []
    for _ in range(2):
        with _folder() as folder:
            trials.append(_train(subject, [subject.plugin()], run_folder=folder).borne("in a run"))
    return trials[0], trials[1]


def _attributes_that_vary(subject: Subject) -> set[str]:
    """Attributes that differ between two equal runs, such as times, and those that may."""
    pair = []
    for _ in range(2):
        with _folder() as folder:
            plugin = subject.plugin()
            _train(subject, [plugin], run_folder=folder)
            pair.append(plugin)
    names = varying(*pair)
    return names | {name for name in vars(pair[0]) if any(fnmatch(name, pattern) for pattern in subject.varying)}


def _plain_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """A copy that later steps do not change, in a form that can be compared."""
    return {key: plain(value) for key, value in state.items()}


def _last_step(subject: Subject) -> int:
    with _folder() as folder:
        return _train(subject, [subject.plugin()], run_folder=folder).borne("in a run").run.step


def _places(last: int) -> list[tuple[int, bool]]:
    """Where a run of so many steps is killed: early and late within an epoch, and at the end of one."""
    middle = (max(last - 1, 1), False)
    places = [(2, False), (STEPS_PER_EPOCH, True), middle]
    return list(dict.fromkeys(place for place in places if place[0] < last))


def _kill(subject: Subject, folder: Path, step: int, *, at_epoch_end: bool) -> Checkpoint:
    trial = _train(subject, [subject.plugin()], others=[KillAt(step, at_epoch_end=at_epoch_end)], run_folder=folder)
    for fault in trial.faults:
        raise BrokenPromiseError(
            f"behind the checkpoint at step {step}: {fault.method} raised {named(fault.error)}"
        ) from fault.error
    kept = newest(folder)
    if kept is None:
        raise BrokenPromiseError(f"no checkpoint could be written at step {step}: {trial.error}")
    return kept


def _compare_attributes(when: str, before: dict[str, Any], after: dict[str, Any], times: set[str]) -> None:
    for name in sorted(set(before) - times):
        if repr(before.get(name)) != repr(after.get(name)):
            raise BrokenPromiseError(
                f"{when} ends with {name} = {after.get(name)!r}, and one that never stopped with {before.get(name)!r}: "
                "keep it in state_dict, or let the kit ignore it if nothing depends on it"
            )


def _contents(subject: Subject, folder: Path) -> dict[str, bytes]:
    missing = [name for name in subject.files if not (folder / name).is_file()]
    if missing:
        raise BrokenPromiseError(f"it has not written {_few(missing)} into the run's folder")
    return {name: (folder / name).read_bytes() for name in subject.files}


def _lines(folder: Path) -> dict[str, int]:
    """How many lines each file has that holds one thing a line."""
    return {
        str(path.relative_to(folder)): path.read_bytes().count(b"\n")
        for path in sorted(folder.rglob("*"))
        if path.suffix in BY_LINES and path.is_file() and checkpoint.FOLDER not in path.parts
    }


def _compare_files(
    when: str, files: dict[str, bytes], now: dict[str, bytes], lines: dict[str, int], lines_now: dict[str, int]
) -> None:
    cut = "Keep a file's length in state_dict, and cut it back in on_setup with trainer.atomic.cut_back"
    for name, content in files.items():
        if now[name] != content:
            raise BrokenPromiseError(f"{when} has written another {name}. {cut}")
    for name, count in lines.items():
        if name in lines_now and lines_now[name] != count:
            raise BrokenPromiseError(
                f"{when} has {lines_now[name]} lines in {name}, and one that never stopped {count}. {cut}"
            )


def _without_validation(task: Task) -> Task:
    """The task without a validation split: told so where it can be, and cut down where it cannot."""
    splits = task.splits

    def only_train(run: Any) -> Any:
        from trainer.task import Splits

        return Splits(splits(run).train)

    task.splits = only_train  # type: ignore[method-assign]
    return task


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


__all__ = ["PROMISES", "Subject", "check_plugin", "plugin_checks", "tiny_task"]
