"""A task under test, and the short real runs it is tried in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.config.settings import kebab
from trainer.launch.launch import Launch
from trainer.launch.prepare import Request, prepare_run
from trainer.task import Task
from trainer.testing.trials import Trial, train

STEPS = 12


@dataclass(frozen=True)
class Subject:
    """A task under test, and the settings of its runs."""

    make: Callable[[], Task]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def launch(self, **values: Any) -> Launch:
        """A run of a few steps with the task's own settings and without its plugins."""
        task = self.make()
        given = {
            "steps": STEPS,
            "epochs": 1000,
            **self.settings,
            **{kebab(name): each for name, each in values.items()},
        }
        return prepare_run(Request(task, options=given, without=list(task.defaults.plugins), runs_dir=None))

    def train(self, *, run_folder: Path | None = None, compiled: bool = True, **values: Any) -> Trial:
        """Trains a few steps. Raises BrokenPromiseError if that fails."""
        launch = self.launch(**values)
        trial = train(launch.task, launch.settings, [], run_folder=run_folder, compiled=compiled)
        return trial.survived(f"in a run with {_told(values)}" if values else "in a run")


def _told(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items())
