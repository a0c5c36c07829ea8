"""`trainer check-devices` and `trainer doctor`: check that everything works on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from trainer.cli.completion import plugin_names, task_names
from trainer.processes import launched
from trainer.terminal import say


def check_devices(  # noqa: PLR0917  Typer passes them by name
    devices: Annotated[str, typer.Option(help="The devices, such as gpu:0,1 or cpu:0,1.", metavar="DEVICES")],
    task: Annotated[
        Optional[str],  # noqa: UP045  Typer reads the annotation at run time, on Python 3.10 too
        typer.Argument(
            help="The task to train; optional if only one is installed.", metavar="TASK", autocompletion=task_names
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="How many steps to train.", metavar="INTEGER")] = 20,
    sets: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", help="Any option, as in trainer run: task.OPTION=VALUE.", metavar="KEY=VALUE"),
    ] = None,
    config: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(help="A TOML file with options, as in trainer run; may be repeated.", metavar="FILE"),
    ] = None,
    plugin: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Use this plugin too; may be repeated.", metavar="NAME", autocompletion=plugin_names),
    ] = None,
) -> None:
    """Compares one device with several. Trains a task for some steps on each; compares gradients, weights and metrics.

    Example: trainer check-devices TASK --devices cpu:0,1
    """
    from trainer.launch.prepare import Request, prepare_run
    from trainer.proofs.devices import compare

    request = Request(
        task or only_task(), {"devices": devices}, plugins=plugin or (), sets=sets or (), config=config, runs_dir=None
    )
    launch = prepare_run(request)
    launch.choose_computing()
    found = compare(launch, steps=steps)
    say(f"{found.steps} steps on {found.several}, compared with {found.one}")
    for difference in found.differences:
        verdict = "equal up to rounding" if difference.is_small else "different"
        say(f"  {difference.kind:<9}  largest difference {difference.size:.1e} ({difference.where}): {verdict}")
    for note in found.notes:
        say(f"  note: {note}")
    if not all(difference.is_small for difference in found.differences):
        if launched().is_first:
            say("error: the devices do not give the same results", err=True)
        raise typer.Exit(1)


def only_task() -> str:
    """The only installed task. Raises UsageError if there are several, or none."""
    from trainer.catalog import registry
    from trainer.errors import UsageError, listed

    names = sorted({entry.name for entry in registry.installed(registry.TASKS)})
    if len(names) != 1:
        raise UsageError("no task was named", where="TASK", fix=f"Name one of: {listed(names, 99) or 'none'}.")
    return names[0]


def doctor() -> None:
    """Checks the installation on this machine. Lists what is installed and found; exit code 1 for a problem.

    Example: trainer doctor
    """
    from trainer.proofs.doctor import examine

    wrong = 0
    for finding in examine():
        say(f"{finding.topic:<14} {finding.text}".rstrip())
        if finding.wrong:
            wrong += 1
            say(f"{'':<14} WRONG: {finding.wrong}")
    if wrong:
        say(f"error: {wrong} {'problem' if wrong == 1 else 'problems'} found, see above", err=True)
        raise typer.Exit(1)
