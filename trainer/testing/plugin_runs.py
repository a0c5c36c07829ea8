"""Checks that a plugin survives errors, interrupts, several devices and a second instance of itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from trainer.data.split_names import SPLITS
from trainer.errors import listed
from trainer.events import Plugin
from trainer.metric_names import declaring, names_in
from trainer.task import Splits, Task
from trainer.testing.checks import BrokenPromiseError
from trainer.testing.plugin_subject import Subject, new_run_folder
from trainer.testing.trials import ElsewhereError, Handed, Stopping, Trial, failing

TOLERANCE = 1e-4
COSTED_EPOCHS = 50
PER_BATCH = ("batch_begin", "backward_end", "batch_end")


def a_whole_run_works(subject: Subject) -> None:
    """It survives a whole run and declares what it logs, if it declares anything in `logs`.

    It keeps no array that a later batch overwrites. Without a run folder it works too, or raises a UsageError.
    """
    for inside in (True, False):
        with new_run_folder() as folder:
            plugin, handed = subject.plugin(), Handed()
            trial = subject.train([plugin], others=[handed], run_folder=folder if inside else None)
            if inside:
                _declares_what_it_logs(subject, trial.survived("in a run"))
                _check_kept(plugin, handed)
            else:
                trial.survived("in a run without a folder (run.folder is None)", refusal=True)


def _declares_what_it_logs(subject: Subject, trial: Trial) -> None:
    """A plugin that declares what it logs, declares all of it."""
    logs = subject.plugin().logs
    if logs is None:
        return
    run = trial.run
    own = {f"{split}/{name}" for split in SPLITS for name in ("loss", *names_in(run.task_metrics))}
    missing = sorted(name for name in set(run.times_logged) - own if declaring(name, logs) is None)
    if missing:
        raise BrokenPromiseError(f"it logs {listed(missing)}, which its `logs` does not declare")


def it_survives_an_exception_elsewhere(subject: Subject) -> None:
    """If another plugin raises, in any event, it adds no error of its own. Its final events fire in any case."""
    for event in ("setup", "fit_begin", "batch_begin", "batch_end", "evaluate_end", "epoch_end", "fit_end"):
        with new_run_folder() as folder:
            trial = subject.train(
                [subject.plugin()], others=[failing(event, ElsewhereError("the kit"))], run_folder=folder
            )
            trial.survived(f"while another plugin fails in on_{event}")


def it_survives_an_interrupt(subject: Subject) -> None:
    """After Ctrl-C in the middle of a batch, the run shuts down cleanly."""
    with new_run_folder() as folder:
        others = [failing("batch_end", KeyboardInterrupt())]
        subject.train([subject.plugin()], others=others, run_folder=folder).survived("at an interrupt within a batch")


def it_survives_a_stop_in_the_first_batch(subject: Subject) -> None:
    """A run that is stopped in its first batch is evaluated and shuts down cleanly."""
    with new_run_folder() as folder:
        trial = subject.train([subject.plugin()], others=[Stopping()], run_folder=folder)
        trial.survived("in a run that is stopped in its first batch")


def it_survives_an_epoch_without_evaluation(subject: Subject) -> None:
    """Without a validation split it works, or raises a UsageError that says what is missing."""
    with new_run_folder() as folder:
        task = _without_validation(subject.task())
        trial = subject.train([subject.plugin()], task=task, run_folder=folder)
        trial.survived("in a run without a validation split", refusal=True)


def it_survives_several_devices(subject: Subject) -> None:
    """On three contexts, one of them sometimes empty, it gives the same result as on one, up to rounding."""
    # With fewer bits, rounding exceeds any tolerance; with equal micro-batches, both runs round the same way.
    parts = None if type(subject.plugin()).change_symbol is Plugin.change_symbol else 3
    with new_run_folder() as folder, new_run_folder() as other:
        one = subject.train(
            [subject.plugin()], run_folder=folder, settings=subject.settings(micro_batches=parts)
        ).survived("in a run")
        several = subject.train(
            [subject.plugin()],
            run_folder=other,
            settings=subject.settings(devices="cpu:0,1,2", micro_batches=parts),
        ).survived("on three contexts")
    if one.run.step != several.run.step:
        raise BrokenPromiseError(
            f"on three contexts the run has {several.run.step} steps, on one it has {one.run.step}: the shards of "
            "run.batch hold the parts, and run.gradients holds the sum over all of them"
        )
    for name, value in one.run.copy_weights().items():
        apart = float(np.abs(value - several.run.copy_weights()[name]).max())
        if not apart <= TOLERANCE:
            raise BrokenPromiseError(
                f"on three contexts the weights {name} differ by {apart:.2g} from those on one: changes have to "
                "reach every context (run.set_weights, run.gradients)"
            )


def two_instances_work_side_by_side(subject: Subject) -> None:
    """Two labelled instances share a run without affecting each other, or a UsageError says why they cannot."""
    with new_run_folder() as folder:
        pair = [subject.plugin("first"), subject.plugin("second")]
        trial = subject.train(pair, run_folder=folder).survived("as one of two instances", refusal=True)
    first, second = pair
    for name, value in vars(first).items():
        if isinstance(value, (list, dict, set)) and value and vars(second).get(name) is value:
            raise BrokenPromiseError(
                f"both instances share the same {type(value).__name__} in {name}: create one per instance"
            )
    states = trial.state.get("plugins", {})
    if trial.error is None and not {first.name, second.name} <= set(states):
        raise BrokenPromiseError("one of two instances has no state in a checkpoint")


def its_cost_is_known(subject: Subject) -> str:
    """The cost of its hooks per batch is measured and reported; there is no limit."""
    with new_run_folder() as folder:
        plugin = subject.plugin()
        values = subject.settings(epochs=COSTED_EPOCHS)
        trial = subject.train([plugin], run_folder=folder, settings=values).survived("in a longer run")
    steps = max(trial.run.step, 1)
    rows = [row for row in trial.run.ledger() if row["plugin"] == plugin.name and row["event"] in PER_BATCH]
    own, waiting = (sum(float(row[key]) for row in rows) / steps * 1e6 for key in ("seconds", "waiting"))
    waits = f", and {waiting:.0f} µs of waiting for the device" if waiting else ""
    return f"{own:.1f} µs per batch{waits} (over {steps} steps)"


def _check_kept(plugin: Plugin, handed: Handed) -> None:
    """Raises BrokenPromiseError if an attribute collects arrays of several batches without copying them."""
    for name, value in vars(plugin).items():
        kept = [each for each in _arrays(value) if id(each) in handed.arrays]
        if len(kept) > handed.at_once:
            what = handed.arrays[id(kept[0])][0]
            raise BrokenPromiseError(
                f"{name} keeps {len(kept)} arrays of {what}, which later batches overwrite: keep array.copy() or "
                "array.asnumpy()"
            )


def _arrays(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _arrays(part)
    elif hasattr(value, "asnumpy"):
        yield value


def _without_validation(task: Task) -> Task:
    """The task with only its training split."""
    splits = task.splits

    def only_train(run: Any) -> Any:
        return Splits(splits(run).train)

    task.splits = only_train  # type: ignore[method-assign]
    return task
