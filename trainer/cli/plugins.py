"""`trainer plugins`: lists, describes, checks and creates plugins and tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from trainer.cli.completion import plugin_and_task_names, task_names
from trainer.terminal import say

if TYPE_CHECKING:
    from trainer.catalog.registry import Installed

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_(
    load: Annotated[
        bool, typer.Option("--load", help="Import each of them; this finds every error, and takes longer.")
    ] = False,
) -> None:
    """Lists installed plugins and tasks. Shows each one's package and any error.

    Without --load nothing is imported, and errors are found from the packages' metadata and sources only.

    Example: trainer plugins list
    """
    from trainer.catalog import registry

    blocked = set()
    for group in (registry.PLUGINS, registry.TASKS):
        entries = registry.installed(group)
        say(f"{registry.WORDS[group]}s")
        width = max((len(entry.name) for entry in entries), default=0)
        for entry in entries:
            block = registry.blocking(entry)
            notes = " (claimed twice)" * bool(registry.claim_on(entry)) + " (switched off)" * bool(block)
            say(f"  {entry.name:<{width}}  {entry.origin}{notes}")
            wrong = "" if block else _fault(entry, load=load)
            if wrong:
                say(f"  {'':<{width}}  WRONG: {wrong}")
            blocked.add(block)
        if not entries:
            say("  none")
    unknown = [name for name in registry.blocked_names() if name not in blocked]
    if unknown:
        say(f"{registry.BLOCK_LIST} lists {', '.join(unknown)}, but nothing of that name is installed", err=True)


def _fault(entry: Installed, *, load: bool) -> str:
    """What is wrong with an entry point. Built-in ones are covered by tests, so they are only checked with --load."""
    from trainer.catalog import registry
    from trainer.errors import UsageError

    claim = registry.claim_on(entry)
    if claim:
        return "" if entry.is_ours else claim
    if load:
        try:
            registry.load(entry.group, entry.name)
        except UsageError as error:
            return f"{error.what}. {error.fix}".rstrip(". ").replace("..", ".")
        return ""
    if entry.is_ours:
        return ""
    from trainer.catalog.source_check import visible_fault

    return visible_fault(entry)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="A plugin's or a task's name.", autocompletion=plugin_and_task_names)],
) -> None:
    """Describes a plugin or a task. Shows options with types, ranges and defaults, phase and events.

    Example: trainer plugins show NAME
    """
    from trainer.cli.plugin_text import describe

    for line in describe(name):
        say(line)


@app.command("check")
def check(
    name: Annotated[str, typer.Argument(help="A plugin's or a task's name.")],
    sets: Annotated[
        Optional[list[str]],  # noqa: UP045  Typer reads the annotation at run time, on Python 3.10 too
        typer.Option("--set", help="Any option, as in trainer run: NAME.OPTION=VALUE.", metavar="KEY=VALUE"),
    ] = None,
    ignore: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Values of a plugin that may differ between equal runs, such as a time.", metavar="PATTERN"),
    ] = None,
    task: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Try a plugin on this task, with --set task.OPTION=VALUE; it needs 21 to 24 training rows.",
            metavar="TASK",
            autocompletion=task_names,
        ),
    ] = None,
    images: Annotated[
        bool, typer.Option("--images", help="Try a plugin on images with three classes instead of a table with two.")
    ] = False,
) -> None:
    """Checks that a plugin or task keeps the contract. Uses tiny real runs; exit code 1 if a check fails.

    Example: trainer plugins check my-plugin --set my-plugin.every=2
    """
    from trainer.cli.plugin_check import examine

    failed = 0
    for line, has_failed in examine(name, sets or [], ignore or [], task=task, images=images):
        say(line)
        failed += has_failed
    if failed:
        say(f"error: {name} fails {failed} {'check' if failed == 1 else 'checks'}, see above", err=True)
        raise typer.Exit(1)


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="The name: lower-case letters, digits and dashes.")],
    task: Annotated[bool, typer.Option("--task", help="Write a task instead of a plugin.")] = False,
    into: Annotated[Path, typer.Option(help="Where to create the package's folder.", metavar="FOLDER")] = Path(),
) -> None:
    """Writes a small package. It installs with pip, runs, and passes its own tests without an edit.

    Example: trainer plugins new my-plugin
    """
    from trainer.atomic import shown
    from trainer.catalog.scaffold.write import write_package

    folder = write_package(name, into.absolute(), is_task=task)
    module = name.replace("-", "_")
    run = f"trainer run {name}" if task else f"trainer run TASK --plugin {name}"
    say(f"wrote {shown(folder)}: edit {module}.py, then")
    for line in (f"pip install -e '{shown(folder)}[test]'", f"pytest {shown(folder)}", run):
        say(f"  {line}")


@app.command("order")
def order(
    task: Annotated[
        Optional[str],  # noqa: UP045  Typer reads the annotation at run time, on Python 3.10 too
        typer.Argument(help="The task of the run; optional if only one is installed.", metavar="TASK"),
    ] = None,
    plugin: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="As in trainer run: use this plugin too; may be repeated.", metavar="NAME"),
    ] = None,
    no_plugin: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="As in trainer run: leave this plugin out; may be repeated.", metavar="NAME"),
    ] = None,
    sets: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", help="Any option, as in trainer run.", metavar="KEY=VALUE"),
    ] = None,
    config: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(help="A TOML file with options, as in trainer run; may be repeated.", metavar="FILE"),
    ] = None,
) -> None:
    """Shows the order of a run's plugins. Says which one handles which event, and why; trains nothing.

    Example: trainer plugins order TASK --plugin NAME
    """
    from trainer.cli.plugin_order import explain
    from trainer.cli.proofs import only_task
    from trainer.launch.prepare import Request, prepare_run

    request = Request(
        task or only_task(),
        plugins=plugin or (),
        without=no_plugin or (),
        sets=sets or (),
        config=config,
        runs_dir=None,
    )
    for line in explain(prepare_run(request).plugins):
        say(line)
