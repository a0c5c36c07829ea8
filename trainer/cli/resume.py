"""`trainer resume RUN`: resumes an earlier run, or proves that it can be resumed exactly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from trainer.cli.completion import run_names
from trainer.runs.names import DEFAULT_RUNS
from trainer.terminal import say

if TYPE_CHECKING:
    from trainer.launch.launch import Launch


def resume(  # noqa: PLR0917  Typer passes them by name
    run: Annotated[
        str,
        typer.Argument(
            help="The run's folder, or its name in the runs folder.", metavar="RUN", autocompletion=run_names
        ),
    ],
    epochs: Annotated[
        Optional[str],  # noqa: UP045  Typer reads the annotation at run time, on Python 3.10 too
        typer.Option(help="A new total number of epochs, to train a finished run further.", metavar="INTEGER"),
    ] = None,
    steps: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="A new total number of batches to stop after.", metavar="INTEGER"),
    ] = None,
    devices: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Use these devices instead of the earlier ones.", metavar="DEVICES"),
    ] = None,
    rank_timeout: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="With several processes: seconds without a sign of life after which one is lost.", metavar="SECONDS"
        ),
    ] = None,
    memory: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="How much memory the rows of tables, and the scores of an evaluation, may take: a size such as 4GB, "
            "or auto.",
            metavar="SIZE",
        ),
    ] = None,
    from_: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--from",
            help="The name or path of a checkpoint of this run; without it, the newest complete one.",
            metavar="CHECKPOINT",
        ),
    ] = None,
    sets: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--set",
            help="A secret option, which no file holds: PLUGIN.OPTION=VALUE.",
            metavar="KEY=VALUE",
        ),
    ] = None,
    changed_data: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="ok accepts data that have changed since the run was started; without it, they are refused.",
            metavar="ok",
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Train some steps twice, once with a save and a load in between, and compare. Changes nothing.",
        ),
    ] = False,
    runs_dir: Annotated[
        Path, typer.Option(help="The folder in which to look for RUN.", metavar="FOLDER")
    ] = DEFAULT_RUNS,
) -> None:
    """Resumes a run from its newest checkpoint. The result is the same as if the run had never stopped.

    Example: trainer resume runs/TASK/NAME --epochs 20
    """
    from trainer.cli.run import conclude
    from trainer.launch.resume import prepare_resume

    launch = prepare_resume(
        run,
        epochs=epochs,
        steps=steps,
        devices=devices,
        rank_timeout=rank_timeout,
        memory=memory,
        from_checkpoint=from_,
        sets=sets or (),
        runs_dir=runs_dir,
        changed_data=changed_data or "refuse",
        to_verify=verify,
    )
    if verify:
        _verify(launch)
        return
    say(_where(launch))
    conclude(launch.train())


def _where(launch: Launch) -> str:
    from trainer.runs.checkpoint import Checkpoint

    at = launch.continues
    if isinstance(at, Checkpoint):
        return f"resuming from {at.folder.name}: epoch {at.manifest['epoch']}, step {at.step}"
    return "there is no checkpoint, so the run starts from the beginning"


def _verify(launch: Launch) -> None:
    from trainer.proofs.resume import verify

    report = verify(launch)
    if report.differences:
        for path in report.differences[:20]:
            say(f"differs: {path}")
        say(
            f"error: a save and a load within the {report.steps} steps after step {report.start} change "
            f"{len(report.differences)} values of the state",
            err=True,
        )
        raise typer.Exit(1)
    say(
        f"verified: the {report.steps} steps after step {report.start} give the same bits with and without a save and "
        f"a load after {report.middle} of them"
    )
