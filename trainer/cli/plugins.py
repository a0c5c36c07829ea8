"""`trainer plugins`: what is installed, and what each one offers."""

from __future__ import annotations

from typing import Annotated

import typer

from trainer.cli.complete import plugin_and_task_names

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_() -> None:
    """Every installed plugin and task, with the package that it comes from. Reads metadata alone.

    Example: trainer plugins list
    """
    from trainer import registry

    for group in (registry.PLUGINS, registry.TASKS):
        entries = registry.installed(group)
        typer.echo(f"{registry.WORDS[group]}s")
        width = max((len(entry.name) for entry in entries), default=0)
        for entry in entries:
            twice = " (claimed twice)" if [e.name for e in entries].count(entry.name) > 1 else ""
            typer.echo(f"  {entry.name:<{width}}  {entry.origin}{twice}")
        if not entries:
            typer.echo("  none")


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="A plugin's or a task's name.", autocompletion=plugin_and_task_names)],
) -> None:
    """What a plugin or a task does: its options with types, ranges and defaults, its phase and its events.

    Example: trainer plugins show PLUGIN
    """
    from trainer.cli.show import describe

    for line in describe(name):
        typer.echo(line)
