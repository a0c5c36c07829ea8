"""Shell completion for names of runs and plugins. Nothing here imports MXNet or reads more than it must."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainer.runs.names import DEFAULT_RUNS, RUN


def run_names(ctx: Any, incomplete: str) -> Iterator[str]:
    """Runs by name in the runs folder, or by path once a slash is typed; the newest name is last."""
    runs_dir = Path(ctx.params.get("runs_dir") or DEFAULT_RUNS)
    if "/" not in incomplete:
        for record in sorted(runs_dir.glob(f"*/*/{RUN}")):
            name = record.parent.name
            if not name.startswith(".") and name.startswith(incomplete):
                yield name
        return
    yield from folders(incomplete)


def folders(incomplete: str) -> Iterator[str]:
    """Folders that begin with what was typed; `~` and hidden folders are left to the shell."""
    head, slash, tail = incomplete.rpartition("/")
    parent = Path(head + slash if slash else ".")
    if not parent.is_dir():
        return
    for path in sorted(parent.iterdir()):
        if path.name.startswith(tail) and path.is_dir() and not path.name.startswith("."):
            yield f"{head}{slash}{path.name}"


def plugin_names(incomplete: str) -> list[str]:
    """Installed plugins."""
    from trainer.catalog import registry

    return _starting({entry.name for entry in registry.installed(registry.PLUGINS)}, incomplete)


def plugin_and_task_names(incomplete: str) -> list[str]:
    """Installed plugins and tasks."""
    from trainer.catalog import registry

    names = {entry.name for group in registry.WORDS for entry in registry.installed(group)}
    return _starting(names, incomplete)


def task_names(incomplete: str) -> list[str]:
    """Installed tasks."""
    from trainer.catalog import registry

    return _starting({entry.name for entry in registry.installed(registry.TASKS)}, incomplete)


def _starting(names: set[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))


def metric_names(ctx: Any, incomplete: str) -> list[str]:
    """Every metric that a run in the runs folder has logged."""
    from trainer.reading import Unreadable, read_json

    names: set[str] = set()
    for path in Path(ctx.params.get("runs_dir") or DEFAULT_RUNS).glob(f"*/*/{RUN}"):
        with suppress(Unreadable, FileNotFoundError):
            record = read_json(path)
            metrics = record.get("metrics") if isinstance(record, dict) else None
            names |= set(metrics if isinstance(metrics, dict) else ())
    return _starting(names, incomplete)
