"""From what a user said to an engine: the command line and `fit` both come here.

Later wins: the task's defaults, the configuration file, options, `--set`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trainer import cpu, devices
from trainer.catalog import registry
from trainer.catalog.class_check import check_class
from trainer.config import options
from trainer.config.settings import FLAGS, NO_KVSTORE, Settings, kebab, known_keys, read_config, scalar
from trainer.dispatch import check
from trainer.errors import UsageError, did_you_mean, listed
from trainer.events import Plugin
from trainer.processes import launched
from trainer.run import Run
from trainer.runs import folder
from trainer.runs.checkpoint import Checkpoint
from trainer.task import Defaults, Task

log = logging.getLogger("trainer")

SCHEMA = 1
DEFAULT_RUNS = Path("runs")


@dataclass
class Request:
    """What a user asked for, not yet checked. All names are in kebab-case."""

    task: str | Task | type[Task]
    options: Mapping[str, Any] = field(default_factory=dict)
    """Common settings and the task's own options: text from the command line, or values."""
    plugins: Sequence[str | Plugin] = ()
    without: Sequence[str] = ()
    sets: Sequence[str] = ()
    """`key=value` entries, where the key is a setting, `<task>.<option>`, `<plugin>.<option>` or `optimizer.<name>`."""
    config: Path | None = None
    runs_dir: Path | None = DEFAULT_RUNS
    name: str | None = None


@dataclass
class Launch:
    """A checked request: everything but the data and the net is known."""

    task: Task
    settings: Settings
    plugins: list[Plugin]
    run_folder: Path | None
    optimizer_from: str = "[optimizer]"
    """Where the optimizer's settings were given, for complaints: MXNet alone knows whether they fit."""
    continues: Checkpoint | Literal["from the start"] | None = None
    """What it goes on from, in a folder that is there already; None for a new run."""
    drops_stop: bool = False
    """Whether a request to stop that the checkpoint holds is over, since the user has asked for more."""

    def config(self) -> dict[str, Any]:
        """What `config.toml` holds: every option with the value it has."""
        return {
            "schema": SCHEMA,
            **self.settings.to_toml(),
            "task": {"name": self.task.name, **options.to_toml(self.task)},
            "plugins": {plugin.name: self._plugin(plugin) for plugin in self.plugins},
        }

    @staticmethod
    def _plugin(plugin: Plugin) -> dict[str, Any]:
        common = {} if plugin.on_error == type(plugin).on_error else {"on-error": plugin.on_error}
        return {**options.to_toml(plugin), **common}

    def choose_computing(self) -> None:
        """Decides what the settings leave open about how the CPU computes, by the size of a step.

        For whoever owns the process, as the command line does: what MXNet was imported with holds until its end, so
        this does nothing where it has been.
        """
        if cpu.is_settled():
            return
        on_cpu = devices.parse(self.settings.devices)[0] == "cpu"
        best = cpu.best_for(self.task.work(self.settings.batch_size) if on_cpu else None)
        onednn, threads = self.settings.onednn, self.settings.threads
        self._compute(
            onednn=("on" if best.onednn else "off") if onednn == "auto" else onednn,
            threads=best.threads if threads == "auto" else int(threads),
        )

    def settle_computing(self) -> None:
        """Makes MXNet compute as the settings say, and the settings say how it does; warns where it is too late."""
        asked = self.settings
        settled = cpu.settle(onednn=asked.onednn, threads=asked.threads)
        self._compute(onednn="on" if settled.onednn else "off", threads=settled.threads)
        for name in ("onednn", "threads"):
            wanted, holds = getattr(asked, name), getattr(self.settings, name)
            if wanted not in ("auto", holds):
                log.warning(
                    "%s = %s has no effect, since MXNet was imported before with %s; the last bits may differ.",
                    name,
                    wanted,
                    holds,
                )

    def _compute(self, *, onednn: str, threads: int) -> None:
        self.settings = self.settings.model_copy(update={"onednn": onednn, "threads": threads})

    def train(self, *, dry_run: bool = False, compiled: bool = True) -> Run:
        """Builds the engine and trains, or, for a dry run, computes one batch and writes nothing."""
        from trainer.processes import connect

        # Before MXNet is loaded, which reads how many threads this process may have.
        processes = connect()
        self.settle_computing()
        run_folder = None if dry_run else self.run_folder
        takes_lock = run_folder is not None and self.continues and processes.is_first
        with processes.together(), folder.locked(run_folder) if run_folder and takes_lock else nullcontext():
            from trainer.engine import Engine

            engine = Engine(
                self.task,
                self.settings,
                self.plugins,
                run_folder=run_folder,
                config=self.resolved(),
                resume_from=self.continues if isinstance(self.continues, Checkpoint) else None,
                start_over=self.continues == "from the start",
                compiled=compiled,
                processes=processes,
            )
            if self.drops_stop:
                engine.run.take_request("stop")
            return engine.dry_run() if dry_run else engine.fit()

    def resolved(self) -> dict[str, Any]:
        """The configuration with the optimizer's own learning rate filled in where nobody named one."""
        config = self.config()
        rate = float(self.settings.optimizer.build(self.optimizer_from).learning_rate)
        name = config["optimizer"].pop("name")
        config["optimizer"] = {"name": name, "learning-rate": rate, **config["optimizer"]}
        return config


def prepare(request: Request) -> Launch:
    """Checks a request against the options of everything it names. Raises UsageError; imports no MXNet."""
    if isinstance(request.plugins, str):
        raise UsageError(f"plugins is the text {request.plugins!r}", fix="Give a list of names and instances.")
    for part in request.plugins:
        if not isinstance(part, str):
            check(part)
            # Named before the configuration is written, which has a table for each name.
            part.name = registry.name_of(part)
    if isinstance(request.task, Task):
        task_cls, task_name = type(request.task), registry.name_of(request.task)
    elif isinstance(request.task, str):
        task_cls, task_name = registry.load(registry.TASKS, request.task), request.task
    elif isinstance(request.task, type) and issubclass(request.task, Task):
        task_cls, task_name = request.task, registry.name_of_class(request.task)
    else:
        raise UsageError(
            f"{request.task!r} is not a task",
            fix="Give the name of one, an instance, its class, or a Gluon net with train= and loss=.",
        )
    check_class(task_cls, where=f"task {task_cls.__module__}.{task_cls.__name__}")
    values = _defaults(task_cls)
    if request.config is not None:
        _merge_config(values, request, task_cls, task_name)
    _merge_options(values, request.options, task_cls, task_name)
    _choose_plugins(values, request)
    _merge_sets(values, request.sets, task_cls, task_name)

    _complete_optimizer(values["optimizer"], task_cls.defaults)
    settings = Settings.checked({key: value for key, value in values.items() if key in _SETTINGS})
    task = _task(request, task_cls, task_name, values["task"])
    instances = [part for part in request.plugins if isinstance(part, Plugin)]
    plugins = [
        registry.create_plugin(name, given, where=f"plugin {name!r}") for name, given in values["plugins"].items()
    ]
    run_folder = None
    if request.runs_dir is not None:
        if launched().is_first:
            folder.check_writable(request.runs_dir / task_name)
        run_folder = folder.folder_path(request.runs_dir, task_name, request.name)
    return Launch(task, settings, plugins + instances, run_folder, _optimizer_from(request))


_SETTINGS = {kebab(name) for name in Settings.model_fields}


def _defaults(task_cls: type[Task]) -> dict[str, Any]:
    defaults = task_cls.defaults
    return {
        "epochs": defaults.epochs,
        "batch-size": defaults.batch_size,
        "seed": defaults.seed,
        "optimizer": {"name": defaults.optimizer, "weight-decay": defaults.weight_decay},
        "task": {},
        "plugins": {name: {} for name in defaults.plugins},
    }


def _merge_config(values: dict[str, Any], request: Request, task_cls: type[Task], task_name: str) -> None:
    """Lays a configuration file over the defaults; its list of plugins replaces the task's.

    Everything is checked here already, so that a complaint names the file, and paths are taken from its folder.
    """
    assert request.config is not None  # noqa: S101
    config = read_config(request.config)
    where, base = str(request.config), request.config.absolute().parent
    _check_keys(config, where)
    task = config.pop("task", {})
    if task.pop("name", task_name) != task_name:
        raise UsageError(f"it is for another task than {task_name!r}", where=where, fix="Run the task that it names.")
    values["task"] = options.parse_all(task_cls, task, where=f"{where}: [task]", base=base)
    values["optimizer"].update(_of_optimizer(config.pop("optimizer", {}), values["optimizer"]["name"], request))
    if "plugins" in config:
        # One that the user leaves out again need not even be installed.
        values["plugins"] = {
            name: {}
            if name in request.without or registry.block_of(name)
            else _plugin_from_file(name, given, f"{where}: [plugins.{name}]", base)
            for name, given in config.pop("plugins").items()
        }
    values.update(config)
    Settings.checked({key: value for key, value in values.items() if key in _SETTINGS}, where=where)


def _check_keys(config: dict[str, Any], where: str) -> None:
    """Raises UsageError for a key at the top of a file that is unknown or no table where one belongs."""
    known = sorted(_SETTINGS | {"plugins", "task", "schema"})
    for key in config:
        if key not in known:
            fix = NO_KVSTORE if "kvstore" in key else did_you_mean(key, known) or f"Known: {listed(known, 99)}."
            raise UsageError(f"there is no key {key!r}", where=where, fix=fix)
    if config.pop("schema", SCHEMA) != SCHEMA:
        raise UsageError("it was written by a newer version of this program", where=where, fix="Update gluon-trainer.")
    tables = {name: config.get(name, {}) for name in ("task", "optimizer", "plugins")}
    if isinstance(tables["plugins"], dict):
        tables |= {f"plugins.{name}": given for name, given in tables["plugins"].items()}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise UsageError(f"{name!r} is not a table", where=where, fix=f"Write it as [{name}].")


def _of_optimizer(given: Mapping[str, Any], default: str, request: Request) -> dict[str, Any]:
    """A file's optimizer; where the user asks for another one, its rate and arguments are not meant for that."""
    optimizer = {kebab(key): value for key, value in given.items()}
    sets = dict(entry.partition("=")[::2] for entry in request.sets)
    wanted = sets.get("optimizer.name", request.options.get("optimizer"))
    if wanted is None or wanted == optimizer.get("name", default):
        return optimizer
    return {key: value for key, value in optimizer.items() if key == "weight-decay"}


def _complete_optimizer(optimizer: dict[str, Any], defaults: Defaults) -> None:
    """The task's rate and arguments, which were chosen for its optimizer: 0.1 suits SGD and would wreck Adam."""
    if optimizer["name"] == defaults.optimizer:
        if defaults.learning_rate is not None:
            optimizer.setdefault("learning-rate", defaults.learning_rate)
        for name, value in defaults.optimizer_arguments.items():
            optimizer.setdefault(kebab(name), value)


def _optimizer_from(request: Request) -> str:
    if any(entry.startswith("optimizer.") for entry in request.sets):
        return "--set optimizer"
    return f"{request.config}: [optimizer]" if request.config and "optimizer" not in request.options else "--optimizer"


def _plugin_from_file(name: str, given: Mapping[str, Any], where: str, base: Path) -> dict[str, Any]:
    try:
        return registry.parse_plugin(name, given, where=where, base=base)
    except UsageError as error:
        raise UsageError(error.what, where=error.where or where, fix=error.fix) from error


def _merge_options(values: dict[str, Any], given: Mapping[str, Any], task_cls: type[Task], task_name: str) -> None:
    own = {option.name for option in options.options_of(task_cls)}
    for name, value in given.items():
        if name in own:
            values["task"] |= options.parse_all(task_cls, {name: value}, where="--")
        elif name in FLAGS:
            section, key = FLAGS[name]
            values[section][key] = value
        elif name in _SETTINGS:
            values[name] = value
        else:
            known = sorted(own | set(FLAGS) | _SETTINGS)
            fix = NO_KVSTORE if "kvstore" in name else did_you_mean(name, known) or f"Known: {listed(known, 99)}."
            raise UsageError(f"{task_name} has no option {name!r}", fix=fix)


def _choose_plugins(values: dict[str, Any], request: Request) -> None:
    for plugin in request.plugins:
        if isinstance(plugin, str):
            values["plugins"].setdefault(plugin, {})
    for name in request.without:
        if name not in values["plugins"]:
            fix = did_you_mean(name, values["plugins"]) or f"It uses: {listed(values['plugins'])}."
            raise UsageError(f"the run does not use a plugin {name!r}", where="--no-plugin", fix=fix)
        del values["plugins"][name]
    for name in [name for name in values["plugins"] if registry.block_of(name)]:
        if name not in request.plugins:
            log.warning("the plugin %r is left out: %s names it", name, registry.BLOCK_LIST)
            del values["plugins"][name]


def _merge_sets(values: dict[str, Any], sets: Sequence[str], task_cls: type[Task], task_name: str) -> None:
    for entry in sets:
        key, equals, value = entry.partition("=")
        # A plugin's instance label may hold dots, an option's name cannot: the last dot separates.
        section, dot, name = key.strip().rpartition(".")
        where = f"--set {section}."
        if not equals:
            raise UsageError(f"{entry!r} has no value", where="--set", fix="Write it as KEY=VALUE.")
        if not dot and name in _SETTINGS - {"optimizer"}:
            values[name] = value
        elif section in ("task", task_name):
            values["task"] |= options.parse_all(task_cls, {name: value}, where=where)
        elif section == "optimizer":
            values["optimizer"][kebab(name)] = scalar(value)
        elif section in values["plugins"]:
            values["plugins"][section] |= registry.parse_plugin(section, {name: value}, where=where)
        else:
            _unknown_key(key.strip(), section, values, task_cls, task_name)


def _unknown_key(key: str, section: str, values: Mapping[str, Any], task_cls: type[Task], task_name: str) -> None:
    base = section.partition("@")[0]
    if section and registry.block_of(section):
        raise UsageError(
            f"the plugin {section!r} is left out, since {registry.BLOCK_LIST} names it",
            where="--set",
            fix="Take it out of the one or the other.",
        )
    if section and any(entry.name == base for entry in registry.installed(registry.PLUGINS)):
        raise UsageError(
            f"the run does not use the plugin {section!r}", where="--set", fix=f"Add --plugin {section} to use it."
        )
    known = known_keys() + [f"{task_name}.{option.name}" for option in options.options_of(task_cls)]
    for name in values["plugins"]:
        cls = registry.load(registry.PLUGINS, registry.split_name(name)[0])
        known += [f"{name}.{option.name}" for option in options.options_of(cls)]
    fix = NO_KVSTORE if "kvstore" in key else did_you_mean(key, known) or f"Known: {listed(known, 99)}."
    raise UsageError(f"there is no option {key!r}", where="--set", fix=fix)


def _task(request: Request, cls: type[Task], name: str, values: Mapping[str, Any]) -> Task:
    task = request.task
    if not isinstance(task, Task):
        try:
            task = options.build(cls, values, where=f"task {name!r}")
        except TypeError as error:
            raise UsageError(f"it cannot be made: {error}", where=f"task {name!r}", fix="Give an instance.") from error
    else:
        own = {option.name: getattr(task, option.field) for option in options.options_of(cls)}
        differing = [key for key, value in values.items() if own[key] != value]
        if differing:
            raise UsageError(
                f"the task is an instance already, so its options ({listed(differing)}) cannot be given here",
                fix="Give them to its constructor.",
            )
    task.name = name
    options.check_instance(task, where=f"task {name!r}")
    task.check()
    return task
