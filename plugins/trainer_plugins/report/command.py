"""`trainer report RUN`: the report of a run with any status."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from trainer.cli import DEFAULT_RUNS, run_names, say


def report(
    run: Annotated[
        str,
        typer.Argument(
            help="The run's folder, or its name in the runs folder.", metavar="RUN", autocompletion=run_names
        ),
    ],
    output: Annotated[
        Optional[Path],  # noqa: UP045  Typer reads the annotation at run time, on Python 3.10 too
        typer.Option(help="The file to write. [default: report.html in the run's folder]", metavar="FILE"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
    runs_dir: Annotated[Path, typer.Option(help="The folder to look for RUN in.", metavar="FOLDER")] = DEFAULT_RUNS,
) -> None:
    """Writes the HTML report of a run. It has curves, metrics, costs, decisions and configuration.

    Example: trainer report runs/TASK/NAME --output report.html
    """
    from dataclasses import replace

    from trainer.atomic import shown, write_atomic
    from trainer.errors import UsageError, first_line
    from trainer.runs import find_run
    from trainer_plugins.report.document import DATA, HTML, LOG, read
    from trainer_plugins.report.page import page

    folder = find_run(run, runs_dir)
    target = (output or folder / HTML).absolute()
    if output is not None:
        if target.is_dir() or not target.parent.is_dir():
            what = "it is a folder" if target.is_dir() else f"there is no folder {target.parent}"
            raise UsageError(what, where=f"--output {output}", fix="Name a file in an existing folder.")
        if target.exists() and not force:
            raise UsageError("it already exists", where=f"--output {output}", fix="Pass --force to overwrite it.")
    document = read(folder)
    try:
        text = page(document)
    except Exception as error:  # noqa: BLE001  files of strangers: their record is shown without what cannot be drawn
        problem = f"{DATA} or {LOG} is damaged, so there are no charts: {first_line(error)}"
        text = page(replace(document, data={}, history=[], problems=[*document.problems, problem]))
        say(f"note: {problem}", err=True)
    try:
        write_atomic(target, text)
    except OSError as error:
        raise UsageError(f"it cannot be written: {error.strerror or error}", where=str(target)) from error
    say(shown(target))
