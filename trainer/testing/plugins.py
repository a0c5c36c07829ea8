"""Checks the contract of a plugin in tiny real runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trainer.events import Plugin
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
)
from trainer.testing.plugin_runs import (
    a_whole_run_works,
    it_survives_a_stop_in_the_first_batch,
    it_survives_an_epoch_without_evaluation,
    it_survives_an_exception_elsewhere,
    it_survives_an_interrupt,
    it_survives_several_devices,
    its_cost_is_known,
    two_instances_work_side_by_side,
)
from trainer.testing.plugin_state import (
    a_resumed_run_equals_an_uninterrupted_one,
    state_survives_a_save_and_a_load,
    two_runs_are_the_same,
)
from trainer.testing.plugin_subject import Subject, tiny_task


def plugin_checks(
    make: Callable[[], Plugin],
    *,
    task: Callable[[], Task] = tiny_task,
    files: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> list[Check]:
    """The checks of a plugin, each of which can be a separate test.

    `make` returns a new plugin at each call: its class, or a function if it needs options. `task` returns a task to
    train, for a plugin that needs a special one. `files` are names in the run's folder that must be the same, byte for
    byte, after a resume. `ignore` has patterns of what may differ between equal runs, in addition to the plugin's own
    `varying`: attributes, metrics and states that hold times, such as `speed/*`.
    """
    return make_checks(PROMISES, Subject(make, task, files, ignore))


def check_plugin(
    make: Callable[[], Plugin],
    *,
    task: Callable[[], Task] = tiny_task,
    files: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> dict[str, str]:
    """Runs all checks of a plugin, and returns the remarks by check, such as the cost per batch.

    Takes the arguments of `plugin_checks`. Raises one BrokenPromiseError that names every failed check.
    """
    return demand(plugin_checks(make, task=task, files=files, ignore=ignore))


def its_class_is_declared_correctly(subject: Subject) -> None:
    """Its hooks are known and take one argument; it has a docstring; its options have help texts and free names."""
    check_declaration(class_of(subject.make))
    if class_of(subject.make).__name__ == "Plugin" or not issubclass(class_of(subject.make), Plugin):
        raise BrokenPromiseError(f"{class_of(subject.make).__name__} does not derive from trainer.Plugin")


def importing_it_does_not_import_mxnet(subject: Subject) -> str:
    """Its module can be imported without MXNet, so that help and usage errors appear at once."""
    return check_import(class_of(subject.make))


def options_go_through_toml_and_flags(subject: Subject) -> None:
    """Its options survive a round trip through a TOML file and through the texts of --set."""
    check_options(subject.make)


PROMISES: tuple[Callable[[Subject], str | None], ...] = (
    its_class_is_declared_correctly,
    importing_it_does_not_import_mxnet,
    options_go_through_toml_and_flags,
    a_whole_run_works,
    two_runs_are_the_same,
    state_survives_a_save_and_a_load,
    a_resumed_run_equals_an_uninterrupted_one,
    it_survives_an_exception_elsewhere,
    it_survives_an_interrupt,
    it_survives_a_stop_in_the_first_batch,
    it_survives_an_epoch_without_evaluation,
    it_survives_several_devices,
    two_instances_work_side_by_side,
    its_cost_is_known,
)
"""Every check of a plugin, in order."""
