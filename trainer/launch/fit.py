"""`fit`: a training from Python, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trainer.environment  # noqa: F401  a plain `import mxnet` works after the import of `fit`
from trainer.config.settings import kebab
from trainer.events import Plugin
from trainer.launch.prepare import DEFAULT_RUNS, Request, prepare_run
from trainer.run import Run
from trainer.task import Task


def fit(
    task: str | Task,
    *,
    plugins: Sequence[str | Plugin] = (),
    without: Sequence[str] = (),
    config: str | Path | None = None,
    runs_dir: str | Path | None = DEFAULT_RUNS,
    name: str | None = None,
    compiled: bool = True,
    **values: Any,
) -> Run:
    """Trains a task, by its name or as an instance, and returns the finished run.

    `plugins` adds to the task's suggestions, by name or as instances; `without` takes some of them away. `values` are
    the options of `trainer run <task>` with underscores: `fit("my-task", epochs=3, learning_rate=0.05)`.
    `runs_dir=None` writes nothing. The run has `metrics` (the newest value of each) and `history` (one dict an epoch).

    Raises UsageError for what the caller can put right, PluginError for a plugin that failed, Interrupted after
    Ctrl-C or SIGTERM.
    """
    request = Request(
        task,
        options={kebab(key): value for key, value in values.items()},
        plugins=plugins,
        without=without,
        config=None if config is None else Path(config),
        runs_dir=None if runs_dir is None else Path(runs_dir),
        name=name,
    )
    return prepare_run(request).train(compiled=compiled)
