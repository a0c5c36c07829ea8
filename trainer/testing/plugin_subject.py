"""A plugin under test, and the tiny real runs it is tried in."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from trainer.catalog.registry import name_of
from trainer.config.settings import Settings
from trainer.events import Plugin
from trainer.runs.state import differences
from trainer.task import Task
from trainer.testing.checks import class_of
from trainer.testing.tiny import TinyWithThreshold, settings
from trainer.testing.trials import Trial, train

EPOCHS = 3


def tiny_task() -> Task:
    """The task for trial runs: two classes, three splits, a threshold; the last batch of an epoch has one row."""
    return TinyWithThreshold(train_rows=21, validation_rows=9, test_rows=5, calibration_rows=7)


@dataclass(frozen=True)
class Subject:
    """A plugin under test: how to create one, which task to train, and what may differ between equal runs."""

    make: Callable[[], Plugin]
    task: Callable[[], Task] = tiny_task
    files: Sequence[str] = ()
    ignore: Sequence[str] = ()

    @property
    def varying(self) -> tuple[str, ...]:
        """Patterns of what may differ between equal runs: its own `varying` and the tester's `ignore`."""
        return (*self.ignore, *class_of(self.make).varying)

    def plugin(self, label: str = "") -> Plugin:
        """A new instance, with the name that it has in a run."""
        plugin = self.make()
        plugin.name = name_of(plugin) + (f"@{label}" if label else "")
        return plugin

    def settings(self, **values: Any) -> Settings:
        """Three epochs of six batches, the last of one row."""
        return settings(**{"epochs": EPOCHS, "batch_size": 4, **values})

    def unlike(self, first: Trial, second: Trial) -> list[str]:
        """The paths at which two states differ in any bit, except those that may differ."""
        found = differences(first.state, second.state)
        return [path for path in found if not any(fnmatch(path, f"*{pattern}*") for pattern in self.varying)]

    def train(
        self,
        plugins: Sequence[Plugin],
        *,
        task: Task | None = None,
        settings: Settings | None = None,
        others: Sequence[Plugin] = (),
        run_folder: Path | None = None,
        resume: bool = False,
    ) -> Trial:
        """Trains in a new run, as `trials.train` does; by default with the subject's task and settings."""
        if run_folder is not None:
            run_folder.parent.mkdir(parents=True, exist_ok=True)
        return train(
            task or self.task(),
            settings or self.settings(),
            plugins,
            others=others,
            run_folder=run_folder,
            resume=resume,
        )


@contextmanager
def new_run_folder() -> Iterator[Path]:
    """A path for a run's folder, in a temporary folder that is deleted at the end."""
    with tempfile.TemporaryDirectory() as place:
        yield Path(place) / "runs" / "run"
