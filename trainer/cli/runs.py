"""`trainer runs`: what was trained, and how it stands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from trainer.runs import RunEntry

DEFAULT_RUNS = Path("runs")

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_(
    runs_dir: Annotated[Path, typer.Option(help="The folder of the runs.", metavar="FOLDER")] = DEFAULT_RUNS,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a run.")] = False,
) -> None:
    """Every run with its status, and how far it came, the oldest first.

    Example: trainer runs list --runs-dir runs
    """
    import json

    from trainer.runs import entries

    found = list(entries(runs_dir))
    for entry in found:
        typer.echo(json.dumps(_summary(entry), ensure_ascii=False) if as_json else _line(entry))
    if not found and not as_json:
        typer.echo(f"no runs in {runs_dir}")


def _line(entry: RunEntry) -> str:
    told = _summary(entry)
    why = f" ({told['reason']})" if told["reason"] else ""
    return f"{told['run']}  {told['status']}{why}  epoch {told['epoch']}, step {told['step']}"


def _summary(entry: RunEntry) -> dict[str, Any]:
    """What there is to know of a run in a line."""
    record = entry.record
    epoch, step = entry.reached
    return {
        "run": f"{entry.folder.parent.name}/{entry.folder.name}",
        "status": entry.status,
        "reason": entry.reason,
        "epoch": epoch,
        "step": step,
        "started": record.get("started"),
        "metrics": record.get("metrics", {}),
    }
