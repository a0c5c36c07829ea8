"""Checks of a plugin's state: repeated runs, its part of a checkpoint, and resumed runs."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from trainer.errors import listed
from trainer.run import Run
from trainer.runs import checkpoint
from trainer.runs.checkpoint import Checkpoint
from trainer.testing.checks import BrokenPromiseError, named, plain, unlike
from trainer.testing.plugin_subject import Subject, new_run_folder
from trainer.testing.trials import KillAt, Trial, Watch, attributes, newest, varying

BY_LINES = (".csv", ".jsonl", ".log", ".tsv", ".txt")
"""Suffixes of files to which plugins append lines."""


def two_runs_are_the_same(subject: Subject) -> None:
    """A second run in the same process equals the first: nothing is kept in the class or the module."""
    first, second = _twice(subject)
    found = subject.unlike(first, second)
    if found:
        raise BrokenPromiseError(
            f"the same run gave a different result the second time: {listed(found, 5)}. Keep state in the instance, "
            "and draw random numbers from trainer.seeds.derive(run.settings.seed, …)"
        )


def state_survives_a_save_and_a_load(subject: Subject) -> None:
    """The value of state_dict survives a checkpoint on disk, and is the same after setup in the resumed run."""
    for step, at_epoch_end in _places(_whole(subject)):
        with new_run_folder() as folder:
            kept = _kill(subject, folder, step, at_epoch_end=at_epoch_end).read()["plugins"]
            watch, plugin = Watch(), subject.plugin()
            seen: dict[str, Any] = {}
            watch.at_setup = lambda seen=seen, plugin=plugin: seen.update(_plain_state(plugin.state_dict()))
            subject.train([plugin], others=[watch], run_folder=folder, resume=True).survived("in a resumed run")
            saved = _plain_state(kept.get(plugin.name, {}))
            found = list(unlike(saved, seen))
            found = [key for key in found if not any(fnmatch(key, pattern) for pattern in subject.varying)]
            if found:
                key = min(found)
                raise BrokenPromiseError(
                    f"its state {key!r} was {saved.get(key)!r} when it was saved at step {step}, and is "
                    f"{seen.get(key)!r} after setup in the resumed run: load_state_dict has to restore it, and "
                    "on_setup must not reset it if run.resumed is true"
                )


def a_resumed_run_equals_an_uninterrupted_one(subject: Subject) -> None:
    """Killed at any step and resumed, the run ends with the same weights, metrics, decisions, states and files."""
    with new_run_folder() as folder:
        plugin = subject.plugin()
        whole = subject.train([plugin], run_folder=folder).survived("in a run")
        files, lines = _contents(subject, folder), _lines(folder)
        untouched = attributes(subject.plugin())
        # An attribute that a run does not change may hold, in a resumed run, what load_state_dict stored for setup.
        kept = {name: attributes(plugin).get(name) for name in unlike(untouched, attributes(plugin))}
    times = _attributes_that_vary(subject)
    for step, at_epoch_end in _places(whole.run):
        with new_run_folder() as folder:
            _kill(subject, folder, step, at_epoch_end=at_epoch_end)
            plugin = subject.plugin()
            again = subject.train([plugin], run_folder=folder, resume=True).survived("in a resumed run")
            when = f"a run that was killed at step {step}{' (end of an epoch)' if at_epoch_end else ''} and resumed"
            found = subject.unlike(whole, again)
            if found:
                raise BrokenPromiseError(
                    f"{when} ends in a different state from one that never stopped: {listed(found, 5)}. Everything its "
                    "decisions depend on belongs in state_dict"
                )
            _compare_attributes(when, kept, attributes(plugin), times)
            _compare_files(when, files, _contents(subject, folder), lines, _lines(folder))


def _twice(subject: Subject) -> tuple[Trial, Trial]:
    trials = []
    for _ in range(2):
        with new_run_folder() as folder:
            trials.append(subject.train([subject.plugin()], run_folder=folder).survived("in a run"))
    return trials[0], trials[1]


def _attributes_that_vary(subject: Subject) -> set[str]:
    """Attributes that differ between two equal runs, such as times, and those declared as varying."""
    pair = []
    for _ in range(2):
        with new_run_folder() as folder:
            plugin = subject.plugin()
            subject.train([plugin], run_folder=folder)
            pair.append(plugin)
    names = varying(*pair)
    return names | {name for name in vars(pair[0]) if any(fnmatch(name, pattern) for pattern in subject.varying)}


def _plain_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in comparable form that later steps do not change."""
    return {key: plain(value) for key, value in state.items()}


def _whole(subject: Subject) -> Run:
    with new_run_folder() as folder:
        return subject.train([subject.plugin()], run_folder=folder).survived("in a run").run


def _places(run: Run) -> list[tuple[int, bool]]:
    """The steps at which such a run is killed: early and late in an epoch, and at the end of its first epoch.

    The end is where the run's first epoch ended: the task, or the plugin, decides how many steps that takes.
    """
    ends = [(int(entry["step"]), True) for entry in run.history[:1]]
    places = [(2, False), *ends, (max(run.step - 1, 1), False)]
    return list(dict.fromkeys(place for place in places if place[0] < run.step))


def _kill(subject: Subject, folder: Path, step: int, *, at_epoch_end: bool) -> Checkpoint:
    trial = subject.train([subject.plugin()], others=[KillAt(step, at_epoch_end=at_epoch_end)], run_folder=folder)
    for fault in trial.faults:
        raise BrokenPromiseError(
            f"after the checkpoint at step {step}: {fault.method} raised {named(fault.error)}"
        ) from fault.error
    kept = newest(folder)
    if kept is None:
        raise BrokenPromiseError(f"no checkpoint could be written at step {step}: {trial.error}")
    return kept


def _compare_attributes(when: str, before: dict[str, Any], after: dict[str, Any], times: set[str]) -> None:
    for name in sorted(set(before) - times):
        if repr(before.get(name)) != repr(after.get(name)):
            raise BrokenPromiseError(
                f"{when} ends with {name} = {after.get(name)!r}, one that never stopped with {before.get(name)!r}: "
                "keep it in state_dict, or list it in `ignore` if nothing depends on it"
            )


def _contents(subject: Subject, folder: Path) -> dict[str, bytes]:
    missing = [name for name in subject.files if not (folder / name).is_file()]
    if missing:
        raise BrokenPromiseError(f"it has not written {listed(missing, 5)} into the run's folder")
    return {name: (folder / name).read_bytes() for name in subject.files}


def _lines(folder: Path) -> dict[str, int]:
    """The number of lines of each line-based file."""
    return {
        str(path.relative_to(folder)): path.read_bytes().count(b"\n")
        for path in sorted(folder.rglob("*"))
        if path.suffix in BY_LINES and path.is_file() and checkpoint.FOLDER not in path.parts
    }


def _compare_files(
    when: str, files: dict[str, bytes], now: dict[str, bytes], lines: dict[str, int], lines_now: dict[str, int]
) -> None:
    cut = "Keep the file's length in state_dict, and truncate the file in on_setup with trainer.atomic.cut_back"
    for name, content in files.items():
        if now[name] != content:
            raise BrokenPromiseError(f"{when} has written a different {name}. {cut}")
    for name, count in lines.items():
        if name in lines_now and lines_now[name] != count:
            raise BrokenPromiseError(
                f"{when} has {lines_now[name]} lines in {name}, but one that never stopped has {count}. {cut}"
            )
