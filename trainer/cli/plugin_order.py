"""The text of `trainer plugins order`: which plugin handles which event, in which order, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trainer.dispatch import Dispatch, ordered
from trainer.events import EVENTS, Plugin


def explain(plugins: Sequence[Plugin]) -> Iterator[str]:
    """Each plugin with the reason for its place, then each event with the plugins that listen to it."""
    if not plugins:
        yield "the run uses no plugins"
        return
    in_order = ordered(plugins)
    names = max(len(plugin.name) for plugin in in_order)
    phases = max(len(plugin.phase.name) for plugin in in_order)
    yield "plugins, by phase; within a phase by before and after, then as listed"
    for number, plugin in enumerate(in_order, start=1):
        why = f"  {number:>2}  {plugin.name:<{names}}  {plugin.phase.name:<{phases}}  {_why(plugin, plugins)}"
        yield why.rstrip()
    yield ""
    yield "events, in the order in which they first fire"
    width = max(map(len, EVENTS))
    dispatch = Dispatch(plugins)
    for event in EVENTS:
        listening = [handler.plugin.name for handler in dispatch.hook(event).handlers]
        if listening:
            yield f"  {event:<{width}}  {', '.join(listening)}"


def _why(plugin: Plugin, plugins: Sequence[Plugin]) -> str:
    """The reason for a plugin's place in its phase; empty if it is the only one."""
    others = [other for other in plugins if other is not plugin and other.phase is plugin.phase]
    reasons = []
    for other in others:
        if _is_named(other, plugin.after):
            reasons.append(f"after {other.name}, by its own after")
        elif _is_named(plugin, other.before):
            reasons.append(f"after {other.name}, by that plugin's before")
        elif _is_named(other, plugin.before):
            reasons.append(f"before {other.name}, by its own before")
        elif _is_named(plugin, other.after):
            reasons.append(f"before {other.name}, by that plugin's after")
    free = [other for other in others if not any(f" {other.name}," in reason for reason in reasons)]
    if free:
        same = [each.name for each in plugins if each.phase is plugin.phase]
        place = same.index(plugin.name) + 1
        reasons.append(f"listed as number {place} in its phase")
    return "; ".join(reasons)


def _is_named(plugin: Plugin, names: Sequence[str]) -> bool:
    return plugin.name in names or plugin.name.partition("@")[0] in names
