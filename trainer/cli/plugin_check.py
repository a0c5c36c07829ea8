"""`trainer plugins check`: runs the conformance kit on an installed plugin or task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


def examine(name: str, sets: Sequence[str], ignore: Sequence[str], *, images: bool) -> Iterator[tuple[str, bool]]:
    """A line for each check, and whether it failed. Raises UsageError for an unknown name or option."""
    entry = find(name)
    values = _values(entry, sets)
    for outcome in outcomes(_checks(entry, values, ignore, images=images)):
        yield from _told(outcome)


def _checks(entry: registry.Installed, values: dict[str, Any], ignore: Sequence[str], *, images: bool) -> list[Check]:
    cls = registry.load(entry.group, entry.name)

    def task() -> Task:
        made: Task = options.build(cls, values, where=f"task {entry.name!r}")
        made.name = entry.name
        return made

    def plugin() -> Plugin:
        return registry.create_plugin(entry.name, values, where=f"plugin {entry.name!r}")

    if entry.group == registry.TASKS:
        task()
        return task_checks(task)
    # Once before the checks: a missing or invalid option is a usage error, not a failed check.
    plugin()
    return plugin_checks(plugin, task=TinyImages if images else tiny_task, ignore=ignore)


def _values(entry: registry.Installed, sets: Sequence[str]) -> dict[str, str]:
    values = {}
    for each in sets:
        key, equals, value = each.partition("=")
        section, _, option = key.strip().rpartition(".")
        if not equals or section not in (entry.name, registry.WORDS[entry.group]):
            raise UsageError(
                f"{each!r} does not name one of its options", where="--set", fix=f"Write {entry.name}.OPTION=VALUE."
            )
        values[option] = value
    return values


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
