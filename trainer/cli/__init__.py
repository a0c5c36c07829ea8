"""The command line: it parses and prints, and nothing else."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

from trainer._lazy import exports, uncollected

if TYPE_CHECKING:
    from trainer.cli.completion import metric_names, run_names
    from trainer.cli.run import request_of, task_command
    from trainer.cli.tasks import TaskGroup
    from trainer.runs.names import DEFAULT_RUNS
    from trainer.terminal import safe, say

__all__ = [
    "DEFAULT_RUNS",
    "TaskGroup",
    "main",
    "metric_names",
    "request_of",
    "run_names",
    "safe",
    "say",
    "task_command",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        "trainer.cli.completion": ("metric_names", "run_names"),
        "trainer.runs.names": ("DEFAULT_RUNS",),
        "trainer.cli.run": ("request_of", "task_command"),
        "trainer.cli.tasks": ("TaskGroup",),
        "trainer.terminal": ("safe", "say"),
    },
)


def main() -> None:
    """The console command `trainer`."""
    with uncollected():
        from trainer.cli.app import run_app

    code = run_app()
    # Everything is about to go: without this, Python would look through all of it for cycles several times.
    gc.freeze()
    sys.exit(code)
