"""The text of `trainer plugins show`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from trainer.catalog import registry
from trainer.config import options
from trainer.config.options import Option
from trainer.errors import UsageError, did_you_mean, listed
from trainer.events import EVENTS, Phase, Plugin
from trainer.task import Task

MEANINGS = {
    Phase.TRANSFORM: "changes what is trained",
    Phase.MEASURE: "computes metrics and logs them",
    Phase.TUNE: "chooses by those metrics",
    Phase.DECIDE: "makes requests based on what was measured and tuned",
    Phase.SAVE: "writes what is needed to resume a run",
    Phase.REPORT: "shows or records the results of the others",
}


def describe(name: str) -> Iterator[str]:
    """Lines about one plugin or task. Raises UsageError if the name is unknown or cannot be loaded."""
    entry = find(name)
    cls: Any = registry.load(entry.group, name)
    yield f"{name}  {registry.WORDS[entry.group]} of {entry.origin}, {entry.value}"
    yield ""
    yield from (f"  {line}".rstrip() for line in (inspect.getdoc(cls) or "").splitlines())
    yield ""
    yield from _of_plugin(cls) if issubclass(cls, Plugin) else _of_task(cls)
    if cls.api:
        yield f"written for version {cls.api} of the engine's API"
    found = options.options_of(cls)
    yield "options:" if found else "options: none"
    for option in found:
        flag = f"--set {name}.{option.name}=…" if entry.group == registry.PLUGINS else f"--{option.name}"
        yield f"  {flag}  ({notes_of(option)})"
        yield f"      {option.help}"
    yield f"example: {example_of(entry, found)}"


def notes_of(option: Option) -> str:
    """Type, range and default of an option, as in help texts: `integer, > 0, default 1`."""
    default = "required" if option.required else f"default {option.default_text or 'none'}"
    return ", ".join(note for note in (option.type_name, option.constraints, default) if note)


def example_of(entry: registry.Installed, found: list[Option]) -> str:
    """A command that uses a plugin or a task, with one of its options if it has any."""
    # A required option is the best example; an option without a default value would say nothing.
    required = next((each for each in found if each.required), None)
    shown = required or next((each for each in found if each.example or each.default_text), None)
    value = "VALUE" if shown is None or shown.required else shown.example or shown.default_text
    if entry.group == registry.TASKS:
        flag = "" if shown is None else f" --{shown.name} {value}" if not shown.is_switch else f" --{shown.name}"
        return f"trainer run {entry.name}{flag}"
    options_shown = "" if shown is None else f" --set {entry.name}.{shown.name}={value}"
    return f"trainer run TASK --plugin {entry.name}{options_shown}"


def events_of(cls: type[Any]) -> list[str]:
    """The events that a plugin's class listens to, in their order."""
    return [event for event in EVENTS if hasattr(cls, f"on_{event}")]


def _of_plugin(cls: type[Plugin]) -> Iterator[str]:
    yield f"phase: {cls.phase.name} ({MEANINGS[cls.phase]})    on error: {cls.on_error}"
    wishes = [f"{word} {', '.join(names)}" for word, names in (("before", cls.before), ("after", cls.after)) if names]
    if wishes:
        yield f"order within its phase: {'; '.join(wishes)}"
    yield f"events: {', '.join(events_of(cls)) or 'none'}"


def _of_task(cls: type[Task]) -> Iterator[str]:
    own = cls.defaults
    rate = "its own rate" if own.learning_rate is None else f"learning rate {own.learning_rate:g}"
    yield f"trained for {own.epochs} epochs in batches of {own.batch_size} with {own.optimizer}, {rate}"
    yield f"suggested plugins: {', '.join(own.plugins) or 'none'}"


def find(name: str) -> registry.Installed:
    """The entry point of that name; plugins come first. Raises UsageError if there is none."""
    known = {group: [entry.name for entry in registry.installed(group)] for group in registry.WORDS}
    group = next((group for group in registry.WORDS if name in known[group]), None)
    if group is None:
        names = [other for group_names in known.values() for other in group_names]
        hint = did_you_mean(name, names)
        raise UsageError(f"there is no plugin or task {name!r}", fix=f"Installed: {listed(names, 99)}. {hint}".strip())
    return registry.find(group, name)
