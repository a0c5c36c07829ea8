"""The text of `trainer plugins show`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from trainer import options, registry
from trainer.errors import UsageError, did_you_mean, listed
from trainer.events import EVENTS, Plugin


def describe(name: str) -> Iterator[str]:
    """Lines about one plugin or task. Raises UsageError where neither has that name, or it cannot be loaded."""
    entry = find(name)
    cls = registry.load(entry.group, name)
    yield f"{name}  {registry.WORDS[entry.group]} of {entry.origin}, {entry.value}"
    yield ""
    yield from (f"  {line}".rstrip() for line in (inspect.getdoc(cls) or "").splitlines())
    yield ""
    if issubclass(cls, Plugin):
        events = [event for event in EVENTS if hasattr(cls, f"on_{event}")]
        yield f"phase: {cls.phase.name}    on error: {cls.on_error}    events: {', '.join(events) or 'none'}"
    found = options.options_of(cls)
    yield "options:" if found else "options: none"
    for option in found:
        flag = f"--set {name}.{option.name}=…" if entry.group == registry.PLUGINS else f"--{option.name}"
        default = "required" if option.required else f"default {option.default_text or 'none'}"
        notes = ", ".join(note for note in (option.type_name, option.constraints, default) if note)
        yield f"  {flag}  ({notes})"
        yield f"      {option.help}"


def find(name: str) -> registry.Installed:
    """The entry point, wherever the name is known; a plugin goes first. Raises UsageError where it is not."""
    known = {group: [entry.name for entry in registry.installed(group)] for group in registry.WORDS}
    group = next((group for group in registry.WORDS if name in known[group]), None)
    if group is None:
        names = [other for group_names in known.values() for other in group_names]
        hint = did_you_mean(name, names)
        raise UsageError(f"there is no plugin or task {name!r}", fix=f"Installed: {listed(names, 99)}. {hint}".strip())
    return registry.find(group, name)
