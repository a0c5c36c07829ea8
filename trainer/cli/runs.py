"""`trainer runs`: what was trained, how it stands, what it was made of, and away with it."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from trainer.cli.completion import DEFAULT_RUNS, metric_names, run_names, task_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.runs.listing import RunEntry

app = typer.Typer(no_args_is_help=True)

RunsDir = Annotated[Path, typer.Option(help="The folder of the runs.", metavar="FOLDER")]
Run = Annotated[
    str,
    typer.Argument(help="A run's folder, or its name in the runs folder.", metavar="RUN", autocompletion=run_names),
]
Runs = Annotated[
    list[str],
    typer.Argument(help="Runs' folders, or names in the runs folder.", metavar="RUN...", autocompletion=run_names),
]


class Order(str, Enum):
    """What of a figure is better."""

    auto = "auto"
    max = "max"
    min = "min"


@app.command("list")
def list_(  # noqa: PLR0917  Typer passes them by name
    runs_dir: RunsDir = DEFAULT_RUNS,
    sort: Annotated[
        Optional[str],  # noqa: UP045  Typer reads the annotation at run time, on Python 3.10 too
        typer.Option(
            help="The best first by this metric; or started, or seconds.",
            metavar="METRIC",
            autocompletion=metric_names,
        ),
    ] = None,
    order: Annotated[Order, typer.Option(help="What of it is better; auto: what the runs say.")] = Order.auto,
    metric: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Show this one too; may be repeated.", metavar="METRIC", autocompletion=metric_names),
    ] = None,
    task: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Only runs of this task.", metavar="TASK", autocompletion=task_names),
    ] = None,
    status: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Only runs of this status, such as finished or crashed.", metavar="STATUS"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a run.")] = False,
) -> None:
    """Every run with its status, and how far it came, the oldest first.

    Example: trainer runs list --sort validation/loss --status finished
    """
    import json

    from trainer.runs import listing

    found = list(listing.entries(runs_dir))
    chosen = [
        entry
        for entry in found
        if (task is None or entry.folder.parent.name == task) and (status is None or entry.status == status)
    ]
    if sort is not None and chosen:
        chosen = listing.sort(chosen, sort, order.value)
    if as_json:
        for entry in chosen:
            typer.echo(json.dumps(_summary(entry), ensure_ascii=False))
        return
    shown = dict.fromkeys([*([sort] if sort else []), *(metric or ())])
    for line in _table([[*_cells(entry), *(_figure(entry, name) for name in shown)] for entry in chosen]):
        typer.echo(line)
    if not chosen:
        typer.echo(f"no runs in {runs_dir}" if not found else f"none of the {len(found)} runs in {runs_dir} is so")


@app.command("show")
def show(
    run: Run,
    runs_dir: RunsDir = DEFAULT_RUNS,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """What there is to know of a run: settings, figures, decisions, costs, versions and files.

    Example: trainer runs show runs/TASK/NAME
    """
    import json

    from trainer.cli.run_text import as_values, described
    from trainer.runs.comparison import contents
    from trainer.runs.find import find_run
    from trainer.runs.listing import entry_of

    told = contents(entry_of(find_run(run, runs_dir)))
    if as_json:
        typer.echo(json.dumps({**_summary(told.entry), **as_values(told)}, indent=2, ensure_ascii=False, default=str))
        return
    for line in described(told):
        typer.echo(line)


@app.command("compare")
def compare(
    runs: Runs,
    runs_dir: RunsDir = DEFAULT_RUNS,
    everything: Annotated[bool, typer.Option("--all", help="Show what is equal, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """The settings, versions and figures in which runs differ, side by side; * marks the best figure.

    Example: trainer runs compare runs/TASK/FIRST runs/TASK/SECOND
    """
    import json

    from trainer.cli.run_text import side_by_side
    from trainer.errors import UsageError
    from trainer.runs.comparison import compare, contents
    from trainer.runs.find import find_run
    from trainer.runs.listing import entry_of

    if len(runs) < 2:
        raise UsageError("there is nothing to compare it with", where="RUN", fix="Name two runs, or more.")
    told = [contents(entry_of(find_run(run, runs_dir))) for run in runs]
    tables: dict[str, Any] = {
        "settings": compare([each.settings for each in told], equal_too=everything),
        "versions": compare([each.versions for each in told], equal_too=everything),
        "metrics": compare([each.metrics for each in told], equal_too=everything),
    }
    if as_json:
        heads = [{"run": each.entry.name, "status": each.entry.status} for each in told]
        typer.echo(json.dumps({"runs": heads, **tables}, indent=2, ensure_ascii=False, default=str))
        return
    for line in side_by_side([each.entry for each in told], tables):
        typer.echo(line)


@app.command("remove")
def remove(
    runs: Runs,
    runs_dir: RunsDir = DEFAULT_RUNS,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Deletes runs, with their checkpoints and all else in their folders; asks first.

    Example: trainer runs remove runs/TASK/NAME
    """
    import sys

    from trainer.atomic import shown
    from trainer.cli.run_text import size_of
    from trainer.errors import UsageError
    from trainer.runs.find import find_run
    from trainer.runs.listing import check_removable
    from trainer.runs.listing import remove as remove_all

    folders = list(dict.fromkeys(find_run(run, runs_dir) for run in runs))
    for folder in folders:
        check_removable(folder)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("there is nobody to ask", where="runs remove", fix="Pass --yes to remove without asking.")
        for folder in folders:
            typer.echo(f"{shown(folder)}  {size_of(folder)}")
        if not typer.confirm(f"Remove {'this run' if len(folders) == 1 else f'these {len(folders)} runs'} for good?"):
            typer.echo("nothing was removed")
            raise typer.Exit(1)
    remove_all(folders)
    for folder in folders:
        typer.echo(f"removed {shown(folder)}")


def _cells(entry: RunEntry) -> list[str]:
    told = _summary(entry)
    why = f" ({told['reason']})" if told["reason"] else ""
    return [told["run"], f"{told['status']}{why}", f"epoch {told['epoch']}, step {told['step']}"]


def _figure(entry: RunEntry, name: str) -> str:
    from datetime import datetime, timezone

    if name == "started":
        started = entry.record.get("started")
        return datetime.fromtimestamp(started, timezone.utc).strftime("%Y-%m-%d %H:%M:%S") if started else "–"
    value = entry.seconds if name == "seconds" else entry.metrics.get(name)
    return f"{name} {'–' if value is None else f'{value:.5g}'}"


def _table(lines: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as they have to be, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _summary(entry: RunEntry) -> dict[str, Any]:
    """What there is to know of a run in a line."""
    epoch, step = entry.reached
    return {
        "run": entry.name,
        "status": entry.status,
        "reason": entry.reason,
        "epoch": epoch,
        "step": step,
        "started": entry.record.get("started"),
        "seconds": entry.seconds,
        "metrics": entry.metrics,
    }
