"""`trainer runs`: lists, shows, compares and deletes runs."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from trainer.cli.completion import metric_names, run_names, task_names
from trainer.runs.names import DEFAULT_RUNS
from trainer.terminal import say

if TYPE_CHECKING:
    from trainer.model.significance import Significance
    from trainer.runs.listing import RunEntry

app = typer.Typer(no_args_is_help=True)

RunsDir = Annotated[Path, typer.Option(help="The folder of the runs.", metavar="FOLDER")]
Run = Annotated[
    str,
    typer.Argument(help="A run's folder, or its name in the runs folder.", metavar="RUN", autocompletion=run_names),
]
Runs = Annotated[
    list[str],
    typer.Argument(help="Folders of runs, or names in the runs folder.", metavar="RUN...", autocompletion=run_names),
]


class Order(str, Enum):
    """Which values of a metric are better."""

    auto = "auto"
    max = "max"
    min = "min"


@app.command("list")
def list_(  # noqa: PLR0917  Typer passes them by name
    runs_dir: RunsDir = DEFAULT_RUNS,
    sort: Annotated[
        Optional[str],  # noqa: UP045  Typer reads the annotation at run time, on Python 3.10 too
        typer.Option(
            help="Put the best first by this metric; or sort by started or seconds.",
            metavar="METRIC",
            autocompletion=metric_names,
        ),
    ] = None,
    order: Annotated[Order, typer.Option(help="Which values are better; auto: as the runs recorded.")] = Order.auto,
    metric: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Show this metric too; may be repeated.", metavar="METRIC", autocompletion=metric_names),
    ] = None,
    task: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Only runs of this task.", metavar="TASK", autocompletion=task_names),
    ] = None,
    status: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Only runs with this status, such as finished or crashed.", metavar="STATUS"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per run.")] = False,
) -> None:
    """Lists every run with its status, oldest first; shows a loss and the task's first metric unless you choose others.

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
            say(json.dumps(_summary(entry), ensure_ascii=False))
        return
    for line in _table(chosen, list(dict.fromkeys([*([sort] if sort else []), *(metric or ())]))) if chosen else ():
        say(line)
    if not chosen:
        say(f"no runs in {runs_dir}" if not found else f"none of the {len(found)} runs in {runs_dir} matches")


@app.command("show")
def show(
    run: Run,
    runs_dir: RunsDir = DEFAULT_RUNS,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Shows one run in full. Prints settings, metrics, decisions, costs, versions and files.

    Example: trainer runs show runs/TASK/NAME
    """
    import json

    from trainer.cli.run_text import as_values, described
    from trainer.runs.comparison import contents
    from trainer.runs.find import find_run
    from trainer.runs.listing import entry_of

    told = contents(entry_of(find_run(run, runs_dir)))
    if as_json:
        say(
            json.dumps({**_summary(told.entry), **as_values(told)}, indent=2, ensure_ascii=False, default=str),
            block=True,
        )
        return
    for line in described(told):
        say(line)


@app.command("compare")
def compare(
    runs: Runs,
    runs_dir: RunsDir = DEFAULT_RUNS,
    everything: Annotated[bool, typer.Option("--all", help="Also show what is equal.")] = False,
    significance: Annotated[
        bool,
        typer.Option(
            "--significance",
            help="Judge the models of two runs again on their test rows; * is for differences beyond chance only.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Compares runs side by side. Shows the settings, versions and metrics that differ; * marks the best value.
    If runs were judged on different rows, it says so.

    Example: trainer runs compare runs/TASK/FIRST runs/TASK/SECOND --significance
    """
    import json

    from trainer.cli.run_text import side_by_side, significance_lines
    from trainer.errors import UsageError
    from trainer.runs.comparison import compare, contents, judged_elsewhere
    from trainer.runs.find import find_run
    from trainer.runs.listing import entry_of

    if len(runs) < 2:
        raise UsageError("there is only one run to compare", where="RUN", fix="Name two or more runs.")
    told = [contents(entry_of(find_run(run, runs_dir))) for run in runs]
    judged = _significance([each.entry for each in told]) if significance else None
    tables: dict[str, Any] = {
        "settings": compare([each.settings for each in told], equal_too=everything),
        "versions": compare([each.versions for each in told], equal_too=everything),
        "metrics": compare([each.metrics for each in told], equal_too=everything),
    }
    if as_json:
        heads = [{"run": each.entry.name, "status": each.entry.status} for each in told]
        values = {"runs": heads, **tables, "other_rows": judged_elsewhere(told)}
        if judged is not None:
            values["significance"] = judged.to_json()
        say(json.dumps(values, indent=2, ensure_ascii=False, default=str), block=True)
        return
    real = None if judged is None else judged.real
    for line in side_by_side([each.entry for each in told], tables, real=real):
        say(line)
    for line in [] if judged is None else significance_lines(judged):
        say(line)
    for split, (first, *others) in judged_elsewhere(told).items():
        say(f"judged on other {split} rows than {first}: {', '.join(others)}")


def _significance(entries: list[RunEntry]) -> Significance:
    """The differences of two runs on their test rows. Raises UsageError if they cannot be judged."""
    from trainer.bars import count_bar
    from trainer.errors import UsageError

    if len(entries) != 2:
        raise UsageError(
            f"differences are judged between two runs, and {len(entries)} are named",
            where="--significance",
            fix="Name two runs.",
        )
    from trainer.model.significance import DRAWS, check_same_rows, significance

    first, second = (entry.folder for entry in entries)
    check_same_rows(first, second)
    with count_bar("resamples", DRAWS) as watch:
        return significance(first, second, draws=DRAWS, watch=watch)


@app.command("remove")
def remove(
    runs: Runs,
    runs_dir: RunsDir = DEFAULT_RUNS,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Deletes runs; asks first. Removes everything in their folders, checkpoints included.

    Example: trainer runs remove runs/TASK/NAME
    """
    from trainer.atomic import shown
    from trainer.cli.confirm import confirmed
    from trainer.cli.run_text import size_of
    from trainer.runs.find import find_run
    from trainer.runs.listing import check_removable
    from trainer.runs.listing import remove as remove_all

    folders = list(dict.fromkeys(find_run(run, runs_dir) for run in runs))
    for folder in folders:
        check_removable(folder)
    if not yes:
        lines = (f"{shown(folder)}  {size_of(folder)}" for folder in folders)
        confirmed(lines, "this run" if len(folders) == 1 else f"these {len(folders)} runs", where="runs remove")
    remove_all(folders)
    for folder in folders:
        say(f"removed {shown(folder)}")


def _table(entries: list[RunEntry], chosen: list[str]) -> list[str]:
    """One line per run below a header; on a terminal, no line is wider than it."""
    import shutil
    import sys

    from trainer.cli.table import fitted

    losses = [name for name in ("validation/loss", "train/loss") if any(name in entry.metrics for entry in entries)]
    # The first metric of the newest run that has one, such as one that tuning does not flatter.
    headlines = (entry.record.get("headline", ()) for entry in reversed(entries))
    first = next((name for names in headlines for name in names if not name.endswith("/loss")), None)
    names = [name for name in chosen if name != "started"] or [*losses[:1], *([] if first is None else [first])]
    rows = [["run", "status", "epoch", "step", *names, "started (UTC)"]]
    rows += [[*_cells(entry), *(_value(entry, name) for name in names), _started(entry)] for entry in entries]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    return fitted(rows, width, cut=(1, len(rows[0]) - 1, 0))


def _cells(entry: RunEntry) -> list[str]:
    told = _summary(entry)
    why = f" ({told['reason']})" if told["reason"] else ""
    return [told["run"], f"{told['status']}{why}", str(told["epoch"]), str(told["step"])]


def _started(entry: RunEntry) -> str:
    from datetime import datetime, timezone

    started = entry.record.get("started")
    return datetime.fromtimestamp(started, timezone.utc).strftime("%Y-%m-%d %H:%M:%S") if started else "–"


def _value(entry: RunEntry, name: str) -> str:
    from trainer.runs.values import metric_text

    return metric_text(name, entry.seconds if name == "seconds" else entry.metrics.get(name))


def _summary(entry: RunEntry) -> dict[str, Any]:
    """The values of one line about a run."""
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
