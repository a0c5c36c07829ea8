"""From what a user asked for to a launch: the command line and `fit` both come here.

Later wins: the task's defaults, the configuration file, options, `--set`.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trainer.catalog import registry
from trainer.catalog.class_check import check_class
from trainer.config import options
from trainer.config.given import Given
from trainer.config.settings import OPTIMIZER, Settings
from trainer.dispatch import check
from trainer.errors import UsageError, first_line, listed
from trainer.events import Plugin
from trainer.launch import layers
from trainer.launch.launch import Launch
from trainer.launch.order import check_order, without_sizes
from trainer.launch.solver import ITERATIONS, check_solver
from trainer.processes import launched
from trainer.runs import folder
from trainer.runs.names import DEFAULT_RUNS
from trainer.task import Task


@dataclass
class Request:
    """What a user asked for, not yet checked. All names are in kebab-case."""

    task: str | Task | type[Task]
    options: Mapping[str, Any] = field(default_factory=dict)
    """Common settings and the task's own options: text from the command line, or values."""
    plugins: Sequence[str | Plugin] = ()
    without: Sequence[str] = ()
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the optimizer, such as `momentum`."""
    sets: Sequence[str] = ()
    """`key=value` entries, where the key is a setting, `<task>.<option>`, `<plugin>.<option>` or `optimizer.<name>`."""
    config: Path | Sequence[Path] | None = None
    """Configuration files; each is laid over those before it."""
    runs_dir: Path | None = DEFAULT_RUNS
    name: str | None = None
    python: bool = False
    """Whether it comes from Python: errors then name arguments, not flags."""

    @property
    def configs(self) -> Sequence[Path]:
        """The configuration files, in their order."""
        if isinstance(self.config, (str, Path)):
            return (Path(self.config),)
        return tuple(self.config or ())


def prepare_run(request: Request) -> Launch:
    """Checks a request and builds the task, the settings and the plugins that it names.

    Raises UsageError for anything in it that does not fit. Does not import MXNet.
    """
    added, instances = _plugins_of(request)
    name, cls = _task_of(request)
    given = layers.merge(
        [
            layers.of_task(name, cls),
            *(layers.of_file(path, name) for path in request.configs),
            layers.of_flags(
                request.options,
                name,
                cls,
                optimizer=request.optimizer,
                plugins=added,
                without=request.without,
                python=request.python,
            ),
            layers.of_sets(request.sets, name),
        ],
        name,
        cls,
    )
    given = without_sizes(given)
    settings = Settings.of(given.settings, given.optimizer)
    check_solver(given, settings)
    check_order(given, settings)
    if given.settings["epochs"].origin.source == "default":
        if settings.solver != OPTIMIZER:
            given = replace(
                given, settings={**given.settings, "epochs": replace(given.settings["epochs"], value=ITERATIONS)}
            )
            settings = settings.model_copy(update={"epochs": ITERATIONS})
        settings = with_room(settings)
        if settings.epochs != given.settings["epochs"].value:
            decides = replace(given.settings["steps"], value=settings.epochs)
            given = replace(given, settings={**given.settings, "epochs": decides})
    task = _with_options(request.task, name, cls, given.task)
    suggested = {plugin for plugin, chosen in given.plugins.items() if _is_suggested(plugin, chosen, cls)}
    again = {instance.name for instance in instances}
    plugins = [
        _create(plugin, chosen)
        for plugin, chosen in given.plugins.items()
        if layers.IN_PYTHON not in chosen.options or plugin not in again
    ]
    for plugin in plugins:
        plugin.suggested = plugin.name in suggested
    _check_secrets(given.secrets, task, plugins + instances)
    run_folder = None
    if request.runs_dir is not None:
        if launched().is_first:
            folder.check_writable(request.runs_dir / name)
        run_folder = folder.folder_path(request.runs_dir, name, request.name)
    return Launch(task, settings, plugins + instances, run_folder, given)


def with_room(settings: Settings) -> Settings:
    """The settings with as many epochs as their number of steps can take, if they have one."""
    return settings.model_copy(update={"epochs": max(settings.epochs, settings.steps or 0)})


def _check_secrets(wanted: Mapping[str, str], task: Task, plugins: Sequence[Plugin]) -> None:
    """Raises UsageError for a secret option that the earlier run was given and this one was not."""
    parts: dict[str, Task | Plugin] = {"task": task, **{plugin.name: plugin for plugin in plugins}}
    for full, file in wanted.items():
        section, _, option = full.rpartition(".")
        if section in parts and option not in options.secrets_of(parts[section]):
            variable = options.variable_of(parts[section].name, option)
            raise UsageError(
                f"the secret option {full} is not in it and has to be given again",
                where=file,
                fix=f"Set {variable} in the environment, or pass --set {full}=VALUE.",
            )


def _plugins_of(request: Request) -> tuple[list[str], list[Plugin]]:
    """The plugins that are added by name, and those that were made in Python, which are checked and named here.

    `Dispatch` checks all plugins once more, but a launch can be written as a configuration before there is one.
    """
    if isinstance(request.plugins, str):
        raise UsageError(f"plugins is the text {request.plugins!r}", fix="Give a list of names and instances.")
    instances = [part for part in request.plugins if not isinstance(part, str)]
    for instance in instances:
        check(instance)
        instance.name = registry.name_of(instance)
    return [part for part in request.plugins if isinstance(part, str)], instances


def _task_of(request: Request) -> tuple[str, type[Task]]:
    """The task's name and class."""
    task = request.task
    if isinstance(task, str):
        return task, registry.load(registry.TASKS, task)
    cls = task if isinstance(task, type) else type(task)
    if not issubclass(cls, Task):
        raise UsageError(
            f"{reprlib.repr(task)} is not a task",
            fix="Give the name of one, an instance, its class, or a Gluon net with train= and loss=.",
        )
    check_class(cls, where=f"task {cls.__module__}.{cls.__name__}")
    return registry.name_of(task) if isinstance(task, Task) else registry.name_of_class(cls), cls


def _with_options(task: str | Task | type[Task], name: str, cls: type[Task], given: Mapping[str, Given]) -> Task:
    """The task with its options; an instance has them already, so the given ones have to be the same."""
    where = f"task {name!r}"
    if isinstance(task, Task):
        options.check_instance(task, where=where)
        own = {option.name: getattr(task, option.field) for option in options.options_of(cls)}
        parsed = options.parse_all(cls, given, where=where)
        differing = [option for option, value in parsed.items() if own[option] != value]
        if differing:
            raise UsageError(
                f"the task is an instance already, so its options ({listed(differing)}) cannot be given here",
                fix="Give them to its constructor.",
            )
    else:
        try:
            task = options.build(cls, options.with_secrets(cls, name, given), where=where)
        except TypeError as error:
            raise UsageError(f"it cannot be made: {first_line(error)}", where=where, fix="Give an instance.") from error
    task.name = name
    task.check()
    return task


def _is_suggested(name: str, chosen: layers.Chosen, cls: type[Task]) -> bool:
    """Whether a plugin is in use because the task suggests it. A run's own file lists those of its task, too."""
    sources = {chosen.origin.source, *(given.origin.source for given in chosen.options.values())}
    return name in cls.defaults.plugins and sources <= {"default", "file"}


def _create(name: str, chosen: layers.Chosen) -> Plugin:
    """A plugin with its options. Raises UsageError, naming the place that chose it if it cannot be found."""
    if layers.IN_PYTHON in chosen.options:
        raise UsageError(
            f"the plugin {name!r} was given in Python, as a function or an instance, which no file can hold",
            where=chosen.origin.section,
            fix="Give it again to fit or resume, in plugins, or remove the table.",
        )
    try:
        return registry.create_plugin(name, chosen.options, where=f"plugin {name!r}")
    except UsageError as error:
        raise UsageError(error.what, where=error.where or chosen.origin.section, fix=error.fix) from error
