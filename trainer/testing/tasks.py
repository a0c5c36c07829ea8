"""Checks the contract of a task in short real runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainer.config.settings import kebab
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
from trainer.testing.task_loss import labels_are_what_the_loss_needs, the_net_has_the_outputs_that_the_loss_needs
from trainer.testing.task_runs import (
    a_resumed_run_equals_an_uninterrupted_one,
    any_batch_size_trains,
    compiled_and_recorded_steps_agree,
    metrics_do_not_depend_on_the_batch_size,
    predictions_have_a_row_for_each_row,
    several_devices_equal_one,
    two_runs_are_the_same,
)
from trainer.testing.task_subject import Subject


def task_checks(make: Callable[[], Task], **settings: Any) -> list[Check]:
    """The checks of a task, each of which can be a separate test.

    `make` returns a new task at each call: its class, or a function if it needs options. `settings` are those of
    `trainer.fit`, such as `batch_size`; the runs have 12 steps unless `steps` is given.
    """
    return make_checks(PROMISES, Subject(make, {kebab(name): value for name, value in settings.items()}))


def check_task(make: Callable[[], Task], **settings: Any) -> dict[str, str]:
    """Runs all checks of a task, and returns the remarks by check.

    Takes the arguments of `task_checks`. Raises one BrokenPromiseError that names every failed check.
    """
    return demand(task_checks(make, **settings))


def its_class_is_declared_correctly(subject: Subject) -> None:
    """It has a docstring; its options have help texts and free names."""
    cls = class_of(subject.make)
    if not issubclass(cls, Task):
        raise BrokenPromiseError(f"{cls.__name__} does not derive from trainer.Task")
    check_declaration(cls)


def importing_it_does_not_import_mxnet(subject: Subject) -> str:
    """Its module can be imported without MXNet, so that help and usage errors appear at once."""
    return check_import(class_of(subject.make))


def options_go_through_toml_and_flags(subject: Subject) -> None:
    """Its options survive a round trip through a TOML file and through the text of a flag."""
    check_options(subject.make)


PROMISES: tuple[Callable[[Subject], str | None], ...] = (
    its_class_is_declared_correctly,
    importing_it_does_not_import_mxnet,
    options_go_through_toml_and_flags,
    the_net_has_the_outputs_that_the_loss_needs,
    labels_are_what_the_loss_needs,
    two_runs_are_the_same,
    compiled_and_recorded_steps_agree,
    metrics_do_not_depend_on_the_batch_size,
    any_batch_size_trains,
    predictions_have_a_row_for_each_row,
    a_resumed_run_equals_an_uninterrupted_one,
    several_devices_equal_one,
)
"""Every check of a task, in order."""
