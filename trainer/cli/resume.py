"""`trainer resume RUN`: goes on with an earlier run, or proves that it could."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from trainer.cli.completion import DEFAULT_RUNS, run_names

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
        typer.Option(help="A new number of epochs in all, to train on a run that has ended.", metavar="INTEGER"),
    ] = None,
    steps: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="A new number of batches in all to stop after.", metavar="INTEGER"),
    ] = None,
    devices: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Other devices than before.", metavar="DEVICES"),
    ] = None,
    from_: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--from", help="The name of a checkpoint; without it the newest that is complete.", metavar="CHECKPOINT"
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Train some steps twice, once through a save and a load, and compare. Changes nothing."
        ),
    ] = False,
    runs_dir: Annotated[Path, typer.Option(help="Where RUN is looked for.", metavar="FOLDER")] = DEFAULT_RUNS,
) -> None:
    """Goes on with a run from its newest complete checkpoint, as if it had never stopped.

    Example: trainer resume runs/TASK/NAME --epochs 20
    """
    from trainer.cli.run import summary
    from trainer.launch.resume import prepare_resume

    launch = prepare_resume(
        run,
        epochs=epochs,
        steps=steps,
        devices=devices,
        from_checkpoint=from_,
        runs_dir=runs_dir,
        to_verify=verify,
    )
    if verify:
        _verify(launch)
        return
    typer.echo(_where(launch))
    for line in summary(launch.train()):
        typer.echo(line)


def _where(launch: Launch) -> str:
    from trainer.runs.checkpoint import Checkpoint

    at = launch.continues
    if isinstance(at, Checkpoint):
        return f"goes on from {at.folder.name}: epoch {at.manifest['epoch']}, step {at.step}"
    return "there is no checkpoint, so the run starts from the beginning"


def _verify(launch: Launch) -> None:
    from trainer.proofs.resume import verify

    report = verify(launch)
    if report.differences:
        for path in report.differences[:20]:
            typer.echo(f"differs: {path}")
        typer.echo(
            f"error: {report.steps} steps after step {report.start} with a save and a load in between differ from the "
            f"same steps without in {len(report.differences)} places",
            err=True,
        )
        raise typer.Exit(1)
    typer.echo(
        f"verified: {report.steps} steps after step {report.start} give the same bits with a save and a load "
        f"after {report.middle} of them and without"
    )
