"""`trainer run TASK`: a command built from the task, with the task's own options and the common ones."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from trainer.bookkeeping import broken_loss
from trainer.catalog import registry
from trainer.cli.completion import plugin_names
from trainer.cli.flags import flag, once, option_flag
from trainer.cli.help import markup
from trainer.config import options
from trainer.config.settings import Settings, kebab
from trainer.config.text import as_text
from trainer.cpu import Computing
from trainer.data.split_names import SPLITS
from trainer.launch.prepare import Request, prepare_run
from trainer.requests import Decision
from trainer.run import Run
from trainer.runs.names import DEFAULT_RUNS
from trainer.task import Task
from trainer.terminal import OutputLost, drop_output, say

COMMON = "Common options"

Repeated = Optional[list[str]]  # noqa: UP045  Typer reads the annotation at run time, on Python 3.10 too


def task_command(
    name: str,
    call: Callable[[str, dict[str, Any]], None] | None = None,
    *,
    more: Sequence[inspect.Parameter] = (),
    leave_out: Collection[str] = (),
    example: str = "trainer run {name} --epochs 3",
) -> Any:
    """The command of a task: its options and the common ones. Raises UsageError if the task cannot be loaded.

    Commands other than `run` use the further parameters: `call` gets the task's name and the given values by parameter
    name; `more` are additional options, shown first; `leave_out` names common options that do not apply.
    """
    task_cls: type[Task] = registry.load(registry.TASKS, name)

    def run_task(**given: Any) -> None:
        (call or _run)(name, given)

    parameters = [
        *more,
        *(parameter for parameter in _common(task_cls) if parameter.name not in leave_out),
        *(option_flag(option, "Task options") for option in options.options_of(task_cls)),
    ]
    run_task.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run_task.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app = typer.Typer(add_completion=False, rich_markup_mode=markup())
    shown = example.format(name=name)
    app.command(name, help=f"{inspect.getdoc(task_cls) or ''}\n\nExample: {shown}")(run_task)
    built = typer.main.get_command(app)
    built.name = name
    return built


def _common(task_cls: type[Task]) -> list[inspect.Parameter]:
    defaults = task_cls.defaults
    parameters = [
        _setting("epochs", "INTEGER", Settings.model_fields["epochs"].description, defaults.epochs),
        _setting("batch_size", "INTEGER", Settings.model_fields["batch_size"].description, defaults.batch_size),
        _setting("optimizer", "NAME", "Any optimizer that MXNet registers.", defaults.optimizer),
        _setting(
            "learning_rate",
            "NUMBER",
            f"The optimizer's learning rate; an optimizer other than {defaults.optimizer} has its own default.",
            defaults.learning_rate,
        ),
        _setting("weight_decay", "NUMBER", "The optimizer's weight decay.", defaults.weight_decay),
        _setting("solver", "optimizer|lbfgs", Settings.model_fields["solver"].description, "optimizer"),
        _setting("devices", "DEVICES", Settings.model_fields["devices"].description, "cpu"),
        _setting("micro_batches", "INTEGER", Settings.model_fields["micro_batches"].description, None),
        _setting("onednn", "auto|on|off", Settings.model_fields["onednn"].description, "auto"),
        _setting("threads", "INTEGER|auto", Settings.model_fields["threads"].description, "auto"),
        _setting("seed", "INTEGER", Settings.model_fields["seed"].description, defaults.seed),
        _setting("rank_timeout", "SECONDS", Settings.model_fields["rank_timeout"].description, 600),
        _setting("memory", "SIZE", Settings.model_fields["memory"].description, "auto"),
        _setting("order", "auto|rows|windows", Settings.model_fields["order"].description, "auto"),
        _setting("block_rows", "INTEGER", Settings.model_fields["block_rows"].description, None),
        _setting("window_blocks", "INTEGER", Settings.model_fields["window_blocks"].description, None),
        _setting("steps", "INTEGER", Settings.model_fields["steps"].description, None),
    ]
    suggested = ", ".join(defaults.plugins)
    extra: dict[str, tuple[Any, Any, str, str]] = {
        "plugin": (Repeated, None, "NAME", f"Add this plugin; may be repeated. The task suggests: {suggested}."),
        "no_plugin": (Repeated, None, "NAME", "Leave this plugin out; may be repeated."),
        "set": (
            Repeated,
            None,
            "KEY=VALUE",
            "Any option by its full name: optimizer.momentum=0.9, PLUGIN.OPTION=VALUE; may be repeated.",
        ),
        "config": (
            Optional[list[Path]],  # noqa: UP045
            None,
            "FILE",
            "A TOML file with options, such as a run's config.toml; may be repeated, and a later one wins.",
        ),
        "runs_dir": (Path, DEFAULT_RUNS, "FOLDER", "Where to create the runs' folders."),
        "name": (Optional[str], None, "NAME", "The name of the run's folder, instead of time and id."),  # noqa: UP045
    }
    completions = {"plugin": plugin_names, "no_plugin": plugin_names}
    for field, (kind, default, metavar, help_text) in extra.items():
        info = typer.Option(
            f"--{kebab(field)}",
            help=help_text,
            metavar=metavar,
            rich_help_panel=COMMON,
            autocompletion=completions.get(field),
        )
        parameters.append(
            inspect.Parameter(field, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info])
        )
    dry_run = typer.Option(
        "--dry-run", help="Build everything, compute one batch, write no run.", rich_help_panel=COMMON
    )
    parameters.append(
        inspect.Parameter("dry_run", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, dry_run])
    )
    return parameters


def _setting(field: str, metavar: str, help_text: str | None, default: Any) -> inspect.Parameter:
    return flag(
        field,
        f"--{kebab(field)}",
        str,
        help_text=help_text or "",
        default=as_text(default),
        metavar=metavar,
        panel=COMMON,
    )


def _run(task: str, given: dict[str, Any]) -> None:
    dry_run = given.pop("dry_run")
    prepared = prepare_run(request_of(task, given))
    prepared.choose_computing()
    run = prepared.train(dry_run=dry_run)
    if not dry_run:
        conclude(run)
        return
    for line in _dry_summary(run):
        say(line)


def conclude(run: Run) -> None:
    """Prints the summary at the end of a run. Exits with 1 if its loss is not finite, since its weights are useless.

    The run has ended well even if nobody can read the summary.
    """
    try:
        for line in summary(run):
            say(line)
    except OutputLost as error:
        drop_output()
        say(f"WARNING: {error}; the run {run.status}{f': {run.folder}' if run.folder else ''}", err=True)
    if broken_loss(run.history):
        raise typer.Exit(1)


def request_of(task: str, given: Mapping[str, Any]) -> Request:
    """The request, from the parameters of a task's command."""
    rest = dict(given)
    return Request(
        task,
        plugins=rest.pop("plugin") or (),
        without=rest.pop("no_plugin") or (),
        sets=rest.pop("set") or (),
        config=rest.pop("config"),
        runs_dir=rest.pop("runs_dir"),
        name=rest.pop("name", None),
        options={kebab(name): once(value) for name, value in rest.items() if value is not None and value != []},
    )


def _dry_summary(run: Run) -> list[str]:
    rows = {split: getattr(run, split).rows for split in SPLITS if getattr(run, split)}
    return [
        *run.task.describe(),
        f"dry run: one batch computed, loss {run.loss:.4f}; rows {rows}; {_how(run)}; no run was written",
    ]


def _how(run: Run) -> str:
    devices = ", ".join(str(context) for context in run.contexts)
    on_cpu = any(context.device_type == "cpu" for context in run.contexts)
    how = f", {Computing(run.settings.onednn == 'on', int(run.settings.threads))}" if on_cpu else ""
    how += f", rank 0 of {run.processes.size} processes" if run.processes.size > 1 else ""
    return f"{run.step_kind} step on {devices}{how}" + (f" (recorded because {run.step_why})" if run.step_why else "")


def summary(run: Run) -> list[str]:
    """The summary at the end of a run."""
    lines = [f"{run.status} after {run.epoch} epochs, {run.step} steps, {run.seconds:.1f} s; {_how(run)}"]
    broken = broken_loss(run.history)
    lines += [f"  WARNING: {broken}"] if broken else []
    lines += [_told(decision) for decision in run.decisions]
    costs: dict[str, float] = {}
    waited = 0.0
    for row in run.ledger():
        costs[str(row["plugin"])] = costs.get(str(row["plugin"]), 0.0) + float(row["seconds"])
        waited += float(row["waiting"])
    if costs:
        shares = [f"{name} {seconds:.3f} s ({seconds / run.seconds:.1%})" for name, seconds in costs.items()]
        shares += [f"waiting for the device {waited:.3f} s"] if waited else []
        lines.append(f"plugins: {', '.join(shares)}")
    if run.model_note:
        lines.append(f"model: {run.model_note}")
    lines += run.notes
    if run.folder is not None:
        lines.append(f"run: {run.folder}")
    return lines


def _told(decision: Decision) -> str:
    """A line of the decision record in words, with a warning for a plugin that failed and was switched off."""
    more = f" and {decision.count - 1} more times" if decision.count > 1 else ""
    when = f"at epoch {decision.epoch}, step {decision.step}{more}: {decision.reason}"
    if decision.action == "disable":
        return f"  WARNING: {decision.plugin} was switched off {when}"
    return f"  {decision.plugin} asked to {decision.action.replace('_', ' ')} {when}"
