"""The parts of a run that are recorded in MLflow: parameters, tags and the model."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trainer import Plugin, Run
from trainer.config import to_toml
from trainer.runs import flat


def newest_model(run_folder: Path, *, has_ended: bool = True) -> Path | None:
    """The folder with a run's weights: `model` if there is one, otherwise the newest checkpoint; None if neither.

    If the run did not shut down cleanly (`has_ended` is false), `model` may be left over from an earlier end of it, and
    the newest checkpoint counts.
    """
    if has_ended and (run_folder / "model").is_dir():
        return run_folder / "model"
    # Of two checkpoints at the same step, the later one has the longer name.
    checkpoints = [path for path in (run_folder / "checkpoints").glob("step-*") if path.is_dir()]
    return max(checkpoints, key=lambda path: path.name, default=None)


def parameters(run: Run, without: Plugin) -> dict[str, Any]:
    """Every option of the run under a flat name, except those of `without`: the URI may hold a password."""
    tree = {
        **run.settings.to_toml(),
        "task": {"name": run.task.name, **to_toml(run.task)},
        **{plugin.name: to_toml(plugin) for plugin in run.plugins if plugin is not without},
    }
    if not run.resumed:
        tree["optimizer"] = {"learning-rate": run.learning_rate, **tree["optimizer"]}
    return flat(tree)


def about(run: Run) -> dict[str, str]:
    """Tags for searching that are not options of the run."""
    packages = ("gluon-trainer", "mxnet", "numpy")
    tags = {"task": run.task.name, "version.python": sys.version.split()[0]}
    tags |= {f"version.{package}": version(package) for package in packages}
    tags["plugins"] = ", ".join(plugin.name for plugin in run.plugins)
    if run.folder is not None:
        tags["folder"] = str(run.folder)
    return tags
