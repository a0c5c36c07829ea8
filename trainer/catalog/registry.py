"""Finds plugins and tasks through entry points. Listing reads only metadata; a module is imported when it is used."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any, cast

from trainer.errors import UsageError, did_you_mean, listed
from trainer.events import Plugin
from trainer.task import Task

log = logging.getLogger("trainer")

PLUGINS = "trainer.plugins"
TASKS = "trainer.tasks"
WORDS = {PLUGINS: "plugin", TASKS: "task"}
COMMANDS = "trainer.commands"
"""Functions that become commands of `trainer`; see `trainer.cli.commands`."""
METRICS = "trainer.metrics"
"""Functions without arguments, or classes, that give a metric; see `trainer.metrics.metrics_for`."""
DEFAULTS = "trainer.defaults"
"""What `fit` uses for a bare net, and `trainer.sklearn`; only ours are read."""
KINDS = {**WORDS, COMMANDS: "command", METRICS: "metric", DEFAULTS: "default"}
BASES: dict[str, type] = {PLUGINS: Plugin, TASKS: Task}
OURS = "gluon-trainer"

BLOCK_LIST = "TRAINER_DISABLE_PLUGINS"
"""The environment variable that lists what must not be used: plugins, tasks or whole packages, comma-separated."""

RESERVED = frozenset({"task", "optimizer", "plugins", "schema"})
"""Names that mean something else in a configuration and in `--set`."""


@dataclass(frozen=True)
class Installed:
    """One entry point, as its distribution's metadata gives it."""

    group: str
    name: str
    value: str
    distribution: str
    version: str

    @property
    def origin(self) -> str:
        """The distribution and its version: `gluon-trainer 0.1.0`."""
        return f"{self.distribution} {self.version}".rstrip()

    @property
    def is_ours(self) -> bool:
        """Whether it comes with the engine."""
        return self.distribution == OURS

    def __str__(self) -> str:
        return f"{KINDS[self.group]} {self.name!r} ({self.origin})"


@cache
def installed(group: str) -> tuple[Installed, ...]:
    """Every installed entry point of the group, sorted by name. Imports none of them."""
    found = {Installed(group, entry.name, entry.value, *_named(entry.dist)) for entry in _entry_points(group)}
    return tuple(sorted(found, key=lambda entry: (entry.name, entry.distribution)))


def is_installed(group: str, name: str) -> bool:
    """Whether a plugin or a task of this name can be made by name; `@label` does not count."""
    return any(entry.name == name.partition("@")[0] for entry in installed(group))


@cache
def _named(distribution: metadata.Distribution | None) -> tuple[str, str]:
    """Name and version; a folder left behind by an uninstallation may have entry points and no metadata.

    Cached, because each call reads the whole METADATA file.
    """
    try:
        about: Any = distribution.metadata if distribution else {}
    except Exception:  # noqa: BLE001  the backport importlib_metadata, if it is imported, raises an error of its own
        about = {}
    return about.get("Name") or "unknown", about.get("Version") or ""


def _entry_points(group: str) -> Iterator[metadata.EntryPoint]:
    """The group's entry points; a package whose list of them cannot be read is skipped with a warning."""
    try:
        yield from metadata.entry_points(group=group)
    except Exception:  # noqa: BLE001  the standard library reads the lists of all packages or of none, and does not check syntax
        seen = set()
        for distribution in metadata.distributions():
            name = _named(distribution)[0]
            # As in an import, the first on the path hides later ones.
            if name in seen:
                continue
            seen.add(name)
            try:
                yield from distribution.entry_points.select(group=group)
            except Exception as error:  # noqa: BLE001
                log.warning("the entry points of %s cannot be read: %s", name, error)


def blocked_names() -> tuple[str, ...]:
    """The entries of the block list, as they are written there."""
    return tuple(filter(None, re.split(r"[,\s]+", os.environ.get(BLOCK_LIST, ""))))


def block_of(instance: str, group: str = PLUGINS) -> str | None:
    """The entry of the block list that blocks a plugin (by its name or an instance's) or a task, or None."""
    name = instance.partition("@")[0]
    claiming = [entry for entry in installed(group) if entry.name == name]
    words = [blocking(entry) for entry in claiming] or [word for word in blocked_names() if word == name]
    # If two packages claim a name, blocking one of them leaves the other.
    return words[0] if all(words) and words else None


def blocking(entry: Installed) -> str | None:
    """The entry of the block list that blocks one entry point, or None."""
    folded = _folded(entry.distribution)
    return next((word for word in blocked_names() if word == entry.name or _folded(word) == folded), None)


def _folded(distribution: str) -> str:
    """A package's name as installers compare it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def find(group: str, name: str) -> Installed:
    """The entry point of that name; ours, if another package claims it too. Imports nothing.

    Raises UsageError if there is none, if two other packages claim the name, if options cannot have that name, or if
    the block list names it.
    """
    word = KINDS[group]
    claiming = [entry for entry in installed(group) if entry.name == name]
    if not claiming:
        names = [entry.name for entry in installed(group)]
        hint = did_you_mean(name, names)
        raise UsageError(f"there is no {word} {name!r}", fix=f"Installed: {listed(names, 99)}. {hint}".strip())
    matches = [entry for entry in claiming if not blocking(entry)]
    if not matches:
        raise UsageError(
            f"it is switched off, since {BLOCK_LIST} names {blocking(claiming[0])!r}",
            where=str(claiming[0]),
            fix="Remove it from that list to use it.",
        )
    ours = [entry for entry in matches if entry.is_ours]
    if len(matches) > 1 and not ours:
        raise UsageError(claim_on(matches[0]), fix=f"Uninstall all but one of them, or name them in {BLOCK_LIST}.")
    # `plugins list` shows a package that takes one of our names; it must not stop every run that uses ours.
    entry = (ours or matches)[0]
    wrong = wrong_name(name)
    if wrong:
        raise UsageError(wrong, where=str(entry), fix=f"Fix or uninstall {entry.distribution}.")
    return entry


def claim_on(entry: Installed) -> str:
    """What is wrong with the name of an entry point if another package claims it too; otherwise empty."""
    claiming = [each for each in installed(entry.group) if each.name == entry.name and not blocking(each)]
    if len(claiming) < 2 or entry not in claiming:
        return ""
    taken = "" if entry.is_ours or not any(each.is_ours for each in claiming) else f"; that of {OURS} is used"
    origins = listed(each.origin for each in claiming)
    return f"the {KINDS[entry.group]} name {entry.name!r} is claimed by {origins}{taken}"


def wrong_name(name: str) -> str:
    """What is wrong with the name of an entry point, or empty."""
    if name in RESERVED:
        return f"{name!r} means something else in configurations"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        return f"{name!r} is not a valid name: use letters, digits, dashes and underscores"
    return ""


@cache
def load(group: str, name: str) -> type:
    """The class of a plugin or a task.

    Raises UsageError, naming distribution, version and error, if it cannot be imported or is not a plugin or a task.
    """
    entry = find(group, name)
    cls = imported(entry)
    check_loaded(cls, entry)
    return cast("type", cls)


def check_loaded(cls: Any, entry: Installed) -> None:
    """Raises UsageError, naming the distribution, if an entry point does not lead to a working plugin or task."""
    from trainer.catalog.class_check import check_class

    base = BASES[entry.group]
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise UsageError(f"{entry.value} is not a class derived from trainer.{base.__name__}", where=str(entry))
    if not dataclasses.is_dataclass(cls):
        raise UsageError(f"{entry.value} is not a dataclass", where=str(entry), fix="Decorate it with @dataclass.")
    check_class(cls, where=str(entry))


def imported(entry: Installed) -> Any:
    """The object of an entry point. Raises UsageError, naming distribution and error, if it cannot be imported."""
    try:
        return metadata.EntryPoint(entry.name, entry.value, entry.group).load()
    except (Exception, SystemExit) as error:
        # Other people's modules may raise anything while they are imported.
        raise UsageError(
            f"{entry.value} cannot be imported: {type(error).__name__}: {error}",
            where=str(entry),
            fix=f"Fix or uninstall {entry.distribution}.",
        ) from error


def our_default(name: str) -> Any:
    """The object of our own entry point of that name in the group of defaults; None if it is not installed."""
    entry = next((each for each in installed(DEFAULTS) if each.is_ours and each.name == name), None)
    return None if entry is None else imported(entry)


def split_name(instance: str) -> tuple[str, str]:
    """The plugin and the label of an instance name: `my-plugin@first` → (`my-plugin`, `first`)."""
    plugin, at, label = instance.partition("@")
    if at and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", label):
        raise UsageError(
            f"{instance!r} is not an instance name",
            fix="The label after the @ takes letters, digits, dots, dashes and underscores.",
        )
    return plugin, label


def create_plugin(instance: str, values: Mapping[str, Any], *, where: str) -> Plugin:
    """A plugin by its instance name, with its options and `on-error`, which every plugin has.

    The values are those of `trainer.config.options.build`. Raises UsageError for a plugin that cannot be loaded, and
    for options that do not fit.
    """
    from trainer.config.options import ON_ERROR, build, parse_one, with_secrets

    cls: type[Plugin] = load(PLUGINS, split_name(instance)[0])
    own = with_secrets(cls, instance, values)
    on_error = own.pop(ON_ERROR.name, None)
    plugin = build(cls, own, where=where)
    plugin.name = instance
    if on_error is not None:
        plugin.on_error = parse_one(ON_ERROR, on_error, where=where)
    return plugin


def name_of(part: Plugin | Task) -> str:
    """The name of a plugin or a task that was made in Python: its entry point's, or its class's in kebab-case."""
    return part.name or name_of_class(type(part))


def name_of_class(cls: type[Plugin | Task]) -> str:
    """The name that an instance of a plugin's or a task's class gets: its entry point's, or its own in kebab-case."""
    if cls.name:
        return cls.name
    for entry in installed(PLUGINS if issubclass(cls, Plugin) else TASKS):
        if leads_to(entry, cls):
            return entry.name
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", cls.__name__).lower()


def leads_to(entry: Installed, cls: type) -> bool:
    """Whether an entry point gives this class, if only by a module that imports it. Imports nothing itself."""
    if entry.value == f"{cls.__module__}:{cls.__qualname__}":
        return True
    module, _, path = entry.value.partition(":")
    found: Any = sys.modules.get(module.strip())
    related = cls.__module__.partition(".")[0] == module.strip().partition(".")[0]
    for name in path.partition("[")[0].strip().split("."):
        # getattr on an unrelated package might import what it gives lazily.
        found = getattr(found, name, None) if related else vars(found).get(name) if hasattr(found, "__dict__") else None
    return found is cls


def origin_of(plugin: Plugin) -> Mapping[str, str]:
    """What `plugins.json` says about the origin of a plugin."""
    name = split_name(plugin.name)[0]
    cls = type(plugin)
    about = {"class": f"{cls.__module__}:{cls.__qualname__}"}
    found = [entry for entry in installed(PLUGINS) if entry.name == name]
    entry = next((each for each in found if leads_to(each, cls)), None)
    if entry is None:
        return about
    return {**about, "distribution": entry.distribution, "version": entry.version}
