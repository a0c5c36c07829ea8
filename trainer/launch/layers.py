"""What a user has given, one layer per source: the task's defaults, a configuration file, flags and `--set`.

Nothing is parsed here. Each value keeps its origin, so that whatever parses it later can name the place.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trainer.catalog import registry
from trainer.config.given import Given, Origin, Source
from trainer.config.options import options_of
from trainer.config.settings import FLAGS, NO_KVSTORE, Settings, kebab, known_keys, read_config, scalar
from trainer.errors import UsageError, choose_from
from trainer.task import Task
from trainer.terminal import NOTE

log = logging.getLogger("trainer")

SCHEMA = 1
"""The version of the format of `config.toml`."""
SECRETS = "secrets"
"""The key of `config.toml` that names the secret options of a run."""
IN_PYTHON = "given-in-python"
"""In the table of a plugin that only Python can make: a function, or an instance of a class that is not installed."""
SETTINGS = frozenset(map(kebab, Settings.model_fields))
"""The keys at the top of a configuration, `optimizer` included."""


@dataclass(frozen=True)
class Chosen:
    """A plugin that a layer chooses, and the options that it gives to it."""

    origin: Origin
    options: Mapping[str, Given] = field(default_factory=dict)


@dataclass(frozen=True)
class Layer:
    """What one source gives. All names are in kebab-case."""

    settings: Mapping[str, Given] = field(default_factory=dict)
    optimizer: Mapping[str, Given] = field(default_factory=dict)
    task: Mapping[str, Given] = field(default_factory=dict)
    plugins: Mapping[str, Chosen] | None = None
    """The whole list of plugins, in place of that of the layers below; None leaves theirs."""
    added: Mapping[str, Origin] = field(default_factory=dict)
    removed: Mapping[str, Origin] = field(default_factory=dict)
    plugin_options: Mapping[str, Mapping[str, Given]] = field(default_factory=dict)
    """Options of plugins that have to be in use."""
    secrets: Sequence[str] = ()
    """The secret options that a run was given, such as `my-hook.url`: its file names them without their values."""
    place: str = ""
    """The file's path, if it is the layer of one."""
    fits_one_optimizer: bool = False
    """Whether the learning rate and the optimizer's arguments are dropped if a later layer names another optimizer."""


@dataclass(frozen=True)
class Merged:
    """What all layers together give: one value per option, with its origin."""

    settings: Mapping[str, Given]
    optimizer: Mapping[str, Given]
    task: Mapping[str, Given]
    plugins: Mapping[str, Chosen]
    secrets: Mapping[str, str] = field(default_factory=dict)
    """The secret options that have to be given again, with the file that names them."""


# ---- one function per source ----------------------------------------------------------------------------------------


def of_task(name: str, cls: type[Task]) -> Layer:
    """The task's defaults and its suggested plugins."""
    defaults = cls.defaults
    origin = Origin("default", f"the defaults of task {name!r}")
    optimizer: dict[str, Any] = {kebab(key): value for key, value in defaults.optimizer_arguments.items()}
    optimizer |= {"name": defaults.optimizer, "weight-decay": defaults.weight_decay}
    if defaults.learning_rate is not None:
        optimizer["learning-rate"] = defaults.learning_rate
    settings = {"epochs": defaults.epochs, "batch-size": defaults.batch_size, "seed": defaults.seed}
    return Layer(
        settings=_given(settings, origin),
        optimizer=_given(optimizer, origin),
        plugins={plugin: Chosen(origin) for plugin in defaults.plugins},
        # A rate of 0.1 suits SGD and would wreck Adam.
        fits_one_optimizer=True,
    )


def of_file(path: Path, task: str) -> Layer:
    """A configuration file; its table of plugins, if it has one, is the whole list.

    Relative paths start from the file's folder. Raises UsageError for a file that cannot be read, for unknown keys at
    its top, and for a file of another task than `task`.
    """
    config = read_config(path)
    _check_keys(config, str(path))
    own = dict(config.get("task", {}))
    if own.pop("name", task) != task:
        raise UsageError(f"it is for another task than {task!r}", where=str(path), fix="Run the task that it names.")

    def table(name: str) -> Origin:
        return Origin("file", f"{path}: [{name}]", path.absolute().parent)

    top = Origin("file", str(path), path.absolute().parent)
    optimizer = _given(config.get("optimizer", {}), table("optimizer"))
    plugins = {
        name: Chosen(table(f"plugins.{name}"), _given(options, table(f"plugins.{name}")))
        for name, options in config.get("plugins", {}).items()
    }
    return Layer(
        settings=_given({key: value for key, value in config.items() if key in SETTINGS - {"optimizer"}}, top),
        optimizer={kebab(key): given for key, given in optimizer.items()},
        task=_given(own, table("task")),
        plugins=plugins if "plugins" in config else None,
        secrets=[str(each) for each in config.get(SECRETS, ())],
        place=str(path),
        fits_one_optimizer=True,
    )


def of_flags(
    values: Mapping[str, Any],
    task: str,
    cls: type[Task],
    *,
    optimizer: Mapping[str, Any],
    plugins: Collection[str] = (),
    without: Sequence[str] = (),
    python: bool = False,
) -> Layer:
    """The options of `trainer run <task>`, from the command line or from Python, and what `--[no-]plugin` names.

    `optimizer` has its further arguments. Raises UsageError for an option that the task does not have.
    """
    source: Source = "python" if python else "flag"
    origin = Origin(source, "" if python else "--")
    own = {option.name for option in options_of(cls)}
    tables: dict[str, dict[str, Given]] = {"task": {}, "optimizer": {}, "": {}}
    for name, value in values.items():
        if name not in own | set(FLAGS) | SETTINGS:
            raise UsageError(f"{task} has no option {name!r}", fix=_fix(name, sorted(own | set(FLAGS) | SETTINGS)))
        table, key = ("task", name) if name in own else FLAGS.get(name, ("", name))
        tables[table][key] = Given(value, name, origin)
    tables["optimizer"] |= _given(optimizer, Origin(source, "optimizer"))
    return Layer(
        settings=tables[""],
        optimizer=tables["optimizer"],
        task=tables["task"],
        added=dict.fromkeys(plugins, Origin(source, "plugins" if python else "--plugin")),
        removed=dict.fromkeys(without, Origin(source, "without" if python else "--no-plugin")),
    )


def of_sets(entries: Sequence[str], task: str) -> Layer:
    """The `KEY=VALUE` entries of `--set`; the last value of a key wins. Raises UsageError for an entry without a value.

    A key is a setting, `<task>.<option>`, `task.<option>`, `optimizer.<argument>` or `<plugin>.<option>`.
    """
    settings: dict[str, Given] = {}
    tables: dict[str, dict[str, Given]] = {"task": {}, "optimizer": {}}
    for entry in entries:
        key, equals, value = entry.partition("=")
        if not equals:
            raise UsageError(f"{entry!r} has no value", where="--set", fix="Write it as KEY=VALUE.")
        # A plugin's instance label may hold dots, an option's name cannot: the last dot separates.
        section, _, name = key.strip().rpartition(".")
        origin = Origin("set", f"--set {section}.".replace(" .", " "))
        if not section and name in SETTINGS - {"optimizer"}:
            settings[name] = Given(value, name, origin)
        elif section == "optimizer":
            tables["optimizer"][kebab(name)] = Given(scalar(value), name, origin)
        else:
            table = tables.setdefault("task" if section == task else section, {})
            table[name] = Given(value, name, origin)
    own, optimizer = tables.pop("task"), tables.pop("optimizer")
    return Layer(settings=settings, optimizer=optimizer, task=own, plugin_options=tables)


def _given(values: Mapping[str, Any], origin: Origin) -> dict[str, Given]:
    return {name: Given(value, name, origin) for name, value in values.items()}


def _check_keys(config: Mapping[str, Any], where: str) -> None:
    """Raises UsageError for an unknown key at the top of a file, a newer format, and a value in place of a table."""
    known = sorted(SETTINGS | {"plugins", "task", "schema", SECRETS})
    for key in config:
        if key not in known:
            raise UsageError(f"there is no key {key!r}", where=where, fix=_fix(key, known))
    if config.get("schema", SCHEMA) != SCHEMA:
        raise UsageError("it was written by a newer version of this program", where=where, fix="Update gluon-trainer.")


# ---- laying them over each other ------------------------------------------------------------------------------------


def merge(layers: Sequence[Layer], task: str, cls: type[Task]) -> Merged:
    """Lays the layers over each other: a later one wins.

    Raises UsageError for a plugin that is left out and was not in use, and for options of a plugin that is not in use.
    """
    settings: dict[str, Given] = {}
    own: dict[str, Given] = {}
    for layer in layers:
        settings |= layer.settings
        own |= layer.task
    plugins = _merge_plugins(layers)
    for layer in layers:
        for name, options in layer.plugin_options.items():
            if name not in plugins:
                raise _unknown(name, next(iter(options)), plugins, task, cls)
            plugins[name] = replace(plugins[name], options={**plugins[name].options, **options})
    secrets = {name: layer.place for layer in layers for name in layer.secrets}
    return Merged(settings, _merge_optimizer(layers), own, plugins, secrets)


def _merge_optimizer(layers: Sequence[Layer]) -> dict[str, Given]:
    """The name, weight decay, learning rate and arguments, without those that were meant for another optimizer."""
    wanted = [layer.optimizer["name"].value for layer in layers if "name" in layer.optimizer][-1]
    merged: dict[str, Given] = {}
    for layer in layers:
        in_force = layer.optimizer.get("name", merged.get("name"))
        is_meant = not layer.fits_one_optimizer or (in_force is not None and in_force.value == wanted)
        merged |= {key: each for key, each in layer.optimizer.items() if is_meant or key in ("name", "weight-decay")}
    return merged


def _merge_plugins(layers: Sequence[Layer]) -> dict[str, Chosen]:
    """The plugins in use. Those on the block list are left out with a warning, unless a layer adds them by name."""
    chosen: dict[str, Chosen] = {}
    by_file = False
    for layer in layers:
        if layer.plugins is not None:
            # A file's list replaces that of the task; a file over another one changes its plugins and adds to them.
            chosen = _laid_over(chosen if layer.place and by_file else {}, layer.plugins)
            by_file = bool(layer.place)
        for name, origin in layer.added.items():
            chosen[name] = replace(chosen[name], origin=origin) if name in chosen else Chosen(origin)
        for name, origin in layer.removed.items():
            if chosen.pop(name, None) is None:
                _not_used(name, origin, chosen)
    for name in list(chosen):
        if registry.block_of(name) and not any(name in layer.added for layer in layers):
            log.warning("the plugin %r is left out: %s names it", name, registry.BLOCK_LIST)
            del chosen[name]
    return chosen


def _laid_over(below: Mapping[str, Chosen], plugins: Mapping[str, Chosen]) -> dict[str, Chosen]:
    merged = dict(below)
    for name, each in plugins.items():
        options = merged[name].options if name in merged else {}
        merged[name] = Chosen(each.origin, {**options, **each.options})
    return merged


def _not_used(name: str, origin: Origin, chosen: Collection[str]) -> None:
    """Says that a plugin that is left out was not in use. Raises UsageError for a name that no plugin has."""
    if all(each.name != name.partition("@")[0] for each in registry.installed(registry.PLUGINS)):
        fix = choose_from(name, chosen, label="It uses")
        raise UsageError(f"the run does not use a plugin {name!r}", where=origin.section, fix=fix)
    log.warning("%s: the run does not use the plugin %r anyway", origin.section, name, extra={NOTE: True})


def _unknown(section: str, name: str, plugins: Mapping[str, Chosen], task: str, cls: type[Task]) -> UsageError:
    """What to say of a key of `--set` that is neither a setting nor an option of the task or of a plugin in use."""
    if section and registry.block_of(section):
        return UsageError(
            f"the plugin {section!r} is left out, since {registry.BLOCK_LIST} names it",
            where="--set",
            fix=f"Take it out of {registry.BLOCK_LIST}, or leave out this --set.",
        )
    if section and any(entry.name == section.partition("@")[0] for entry in registry.installed(registry.PLUGINS)):
        fix = f"Add --plugin {section} to use it."
        return UsageError(f"the run does not use the plugin {section!r}", where="--set", fix=fix)
    known = known_keys() + [f"{task}.{option.name}" for option in options_of(cls)]
    for plugin in plugins:
        plugin_cls = registry.load(registry.PLUGINS, registry.split_name(plugin)[0])
        known += [f"{plugin}.{option.name}" for option in options_of(plugin_cls)]
    key = f"{section}.{name}" if section else name
    return UsageError(f"there is no option {key!r}", where="--set", fix=_fix(key, known))


def _fix(name: str, known: Collection[str]) -> str:
    """What to do about a name that is not among the known ones."""
    return NO_KVSTORE if "kvstore" in name else choose_from(name, known, label="Known", limit=99)
