"""The training rows of an earlier run, read again the way in which the run read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from trainer.config.settings import read_config
from trainer.data.arrays import Arrays
from trainer.engine_state import EngineState
from trainer.errors import UsageError
from trainer.events import altered_by
from trainer.launch.prepare import Request, prepare_run
from trainer.run import Run
from trainer.runs import folder
from trainer.runs.changed_data import check_data
from trainer.runs.find import read_record
from trainer.task import Splits, Task


@dataclass(frozen=True)
class Trained:
    """What a run was trained on."""

    task: Task
    splits: Splits
    penalties: list[str] = field(default_factory=list)
    """What changed the function that was minimized from the mean loss, in words."""

    @property
    def rows(self) -> Arrays:
        """The training rows. Raises UsageError if they were not in memory."""
        if not isinstance(self.splits.train, Arrays):
            raise UsageError("the task reads its training rows in batches")
        return self.splits.train


def read_again(path: Path) -> Trained:
    """The training rows of the run in a folder, and what was minimized.

    Raises UsageError if they cannot be read, or are not those that the run was started with.
    """
    config = path / folder.CONFIG
    if not config.is_file():
        raise UsageError(f"the training rows are known to the run's folder only, and {path} is not one")
    name = read_config(config).get("task", {}).get("name")
    if not isinstance(name, str):
        raise UsageError("it does not name a task", where=str(config))
    launch = prepare_run(Request(name, config=config, runs_dir=None))
    run = Run(launch.task, launch.settings, (), EngineState())
    splits = launch.task.splits(run)
    run.fingerprint = splits.fingerprint
    check_data(run, read_record(path).get("data"), changed_data="refuse")
    penalties = [f"the plugin {each.name!r}" for each in launch.plugins if "objective" in altered_by(each)]
    if launch.settings.optimizer.weight_decay:
        penalties.append(f"a weight decay of {launch.settings.optimizer.weight_decay:g}")
    return Trained(launch.task, splits, penalties)
