"""Builds the parts of a run whose weights a solver finds from all rows, not an optimizer from batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trainer.config.settings import OPTIMIZER, Settings
from trainer.data.arrays import LARGEST, Arrays
from trainer.errors import UsageError, type_of
from trainer.events import ALTERED, Plugin, altered_by

if TYPE_CHECKING:
    from trainer.mxnet import Context
    from trainer.processes import Processes
    from trainer.run import Run
    from trainer.step import Step


def check_solver(
    settings: Settings, plugins: Sequence[Plugin], contexts: Sequence[Context], processes: Processes
) -> None:
    """Raises UsageError for plugins, devices and processes that the solver cannot work with."""
    if settings.solver == OPTIMIZER:
        return
    where = f"--solver {settings.solver}"
    for plugin in plugins:
        altered = [ALTERED[each] for each in altered_by(plugin)]
        if altered:
            raise UsageError(
                f"the plugin {plugin.name!r} changes {' and '.join(altered)}, which {settings.solver} does not allow",
                where=where,
                fix=f"Leave the plugin out, or leave {where} out.",
            )
    count = len(contexts) * processes.size
    if count > 1:
        what = f"{processes.size} processes" if processes.size > 1 else f"{len(contexts)} devices"
        raise UsageError(
            f"it computes in one process on one device, not on {what}",
            where=where,
            fix="Start one process with --devices cpu or gpu:0, or leave it out.",
        )


def optimizer_for(settings: Settings) -> Any:
    """The optimizer of the settings, or what takes its place."""
    if settings.solver == OPTIMIZER:
        return settings.optimizer.build()
    from trainer.step.lbfgs import Lbfgs

    return Lbfgs(wd=settings.optimizer.weight_decay)


def all_rows(source: Any, settings: Settings) -> int:
    """The number of training rows. Raises UsageError if they are not in memory, or do not fit into it."""
    where = f"--solver {settings.solver}"
    if not isinstance(source, Arrays):
        raise UsageError(
            f"it needs all training rows in memory, and the task gives {type_of(source)}",
            where=where,
            fix="Give Arrays or numpy arrays, or leave it out.",
        )
    size = source.row_bytes * len(source)
    if not source.is_in_memory and size > settings.memory_bytes():
        raise UsageError(
            f"it needs all training rows in memory, and they take {size / 1e9:,.1f} GB",
            where=where,
            fix="Allow that with --memory if the machine has it, or leave it out.",
        )
    if source.most_numbers > LARGEST:
        raise UsageError(
            f"it needs all training rows in one array, and MXNet's have at most {LARGEST} numbers",
            where=where,
            fix="Train on fewer rows, or leave it out.",
        )
    return len(source)


def solver_step(run: Run, loss: Any) -> Step:
    """The solver's step for a run that is built but for it."""
    from trainer.step.lbfgs import LbfgsStep

    return LbfgsStep(
        run.net,
        loss,
        optimizer=run.optimizer,
        context=run.contexts[0],
        sample=run.train.sample(),
        weighted=run.train.weighted,
    )
