"""`trainer plugins check`: runs the conformance kit on an installed plugin or task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from trainer.catalog import registry
from trainer.cli.plugin_text import find
from trainer.config import options
from trainer.errors import TrainerError, UsageError
from trainer.events import Plugin
from trainer.task import Task
from trainer.testing import Check, Outcome, TinyImages, outcomes, plugin_checks, task_checks
from trainer.testing.checks import named
from trainer.testing.plugin_subject import tiny_task


def examine(
    name: str, sets: Sequence[str], ignore: Sequence[str], *, task: str | None = None, images: bool = False
) -> Iterator[tuple[str, bool]]:
    """A line for each check, and whether it failed. `task` names the task to try a plugin on.

    Raises UsageError for an unknown name or option.
    """
    entry = find(name)
    if task is not None and (images or entry.group == registry.TASKS):
        why = "--images" if images else "a task is checked by itself"
        raise UsageError(f"it cannot be combined: {why}", where="--task", fix="Leave one out.")
    own, of_task = _values(entry, sets, task)
    trial: Callable[[], Task] = TinyImages if images else tiny_task
    if task is not None:
        trial = partial(_made, task, of_task)
        trial()
    for outcome in outcomes(_checks(entry, own, ignore, trial)):
        yield from _told(outcome)


def _made(name: str, values: Mapping[str, Any]) -> Task:
    """A task by its name, with its options."""
    task: Task = options.build(registry.load(registry.TASKS, name), values, where=f"task {name!r}")
    task.name = name
    return task


def _checks(
    entry: registry.Installed, values: Mapping[str, Any], ignore: Sequence[str], trial: Callable[[], Task]
) -> list[Check]:
    registry.load(entry.group, entry.name)
    if entry.group == registry.TASKS:
        _made(entry.name, values)
        return task_checks(partial(_made, entry.name, values))

    def plugin() -> Plugin:
        return registry.create_plugin(entry.name, values, where=f"plugin {entry.name!r}")

    # Once before the checks: a missing or invalid option is a usage error, not a failed check.
    plugin()
    return plugin_checks(plugin, task=trial, ignore=ignore)


def _values(entry: registry.Installed, sets: Sequence[str], task: str | None) -> tuple[dict[str, str], dict[str, str]]:
    """The options of the part that is checked, and those of the task that a plugin is tried on."""
    own: dict[str, str] = {}
    of_task: dict[str, str] = {}
    for each in sets:
        key, equals, value = each.partition("=")
        section, _, option = key.strip().rpartition(".")
        if equals and section in (entry.name, registry.WORDS[entry.group]):
            own[option] = value
        elif equals and task is not None and section in (task, "task"):
            of_task[option] = value
        else:
            raise UsageError(
                f"{each!r} does not name one of its options", where="--set", fix=f"Write {entry.name}.OPTION=VALUE."
            )
    return own, of_task


def _told(outcome: Outcome) -> Iterator[tuple[str, bool]]:
    if isinstance(outcome.error, UsageError):
        # Something the user has to fix first, such as missing data.
        raise outcome.error
    error, name = outcome.error, outcome.check.name.replace("-", " ")
    if error is None:
        yield f"passed  {name}{f': {outcome.note}' if outcome.note else ''}", False
        return
    told = str(error) if isinstance(error, (AssertionError, TrainerError)) else named(error)
    yield f"FAILED  {name}: {told}", True
