"""Makes and keeps the processes that train a run identical: options, data, net and weights."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.config import options
from trainer.data.split_names import SPLITS
from trainer.errors import TrainerError
from trainer.runs import folder

if TYPE_CHECKING:
    from trainer.config.settings import Settings
    from trainer.data.batches import Batches
    from trainer.events import Plugin
    from trainer.run import Run
    from trainer.runs.checkpoint import Checkpoint
    from trainer.step.parameters import Parameters
    from trainer.task import Task

ROUNDING = 1e-4
"""The largest difference of weights, relative to the largest weight, that rounding can cause within an epoch."""


def asked_for(
    task: Task, settings: Settings, plugins: Sequence[Plugin], resume_from: Checkpoint | None, **flags: bool
) -> dict[str, Any]:
    """The options and versions that must be equal in all processes, flat, so that an error can name the difference."""
    about: dict[str, Any] = {**folder.versions(), **flags}
    about |= {key: value for key, value in settings.to_toml().items() if key not in ("optimizer", "threads")}
    about |= {f"optimizer.{key}": value for key, value in settings.to_toml()["optimizer"].items()}
    about |= {f"{task.name}.{key}": str(value) for key, value in options.to_toml(task).items()}
    about["plugins"] = [each.name or type(each).__name__ for each in plugins]
    for each in plugins:
        about |= {f"{each.name}.{key}": str(value) for key, value in options.to_toml(each).items()}
    about["checkpoint"] = None if resume_from is None else [resume_from.folder.name, resume_from.manifest["files"]]
    return about


def share_weights(run: Run, loss: Any) -> None:
    """Collective: checks that all processes have the same data and net, and gives them rank 0's weights.

    Raises UsageError naming the process whose rows, columns or parameters differ.
    """
    from trainer.mxnet import gluon
    from trainer.step.groups import put

    parameters = {}
    for block in (run.net, loss):
        if isinstance(block, gluon.Block):
            parameters.update(block.collect_params())
    splits = {split: _shape_of(getattr(run, split)) for split in SPLITS}
    shapes = [[str(np.dtype(parameter.dtype)), *parameter.shape] for parameter in parameters.values()]
    about = {f"the {split} split's {key}": value for split, values in splits.items() for key, value in values.items()}
    tables = run.fingerprint.tables if run.fingerprint is not None else {}
    about |= {
        f"the checksum of {name}'s column {column}": checksum
        for name, table in tables.items()
        for column, checksum in table.columns.items()
    }
    run.processes.compare({**about, "the parameters' types and shapes": shapes}, "the data and the net")
    for parameter in parameters.values():
        value = run.processes.broadcast_array(parameter.data(run.contexts[0]).asnumpy())
        put(value, parameter.list_data())


def _shape_of(batches: Batches | None) -> dict[str, Any]:
    """What must be equal in all processes about a split; of batches without a fingerprint the first row is compared."""
    if batches is None:
        return {"rows": "none"}
    first = [part.asnumpy() for part in batches.sample()]
    return {
        "rows": batches.rows,
        "batches": batches.batches_per_epoch,
        "columns": [[str(part.dtype), *part.shape[1:]] for part in first],
        "weights": "some" if batches.weighted else "none",
        "first row's checksum": [zlib.crc32(np.ascontiguousarray(part).tobytes()) for part in first],
    }


def keep_equal(run: Run, parameters: Parameters) -> None:
    """Collective: checks by checksums that all processes hold the same weights.

    Different processors may round differently; then all take rank 0's weights. Raises TrainerError naming the process
    if the difference is larger than rounding: something has changed the weights in one process only.
    """
    if run.processes.size == 1:
        return
    values = parameters.copy()
    checksum = 0
    for value in values.values():
        checksum = zlib.crc32(np.ascontiguousarray(value).tobytes(), checksum)
    if len(set(run.processes.gather(checksum))) == 1:
        return
    firsts = {name: run.processes.broadcast_array(value) for name, value in values.items()}
    apart = max(_apart(values[name], first) for name, first in firsts.items())
    everyone = run.processes.gather(apart)
    worst = max(range(len(everyone)), key=everyone.__getitem__)
    if everyone[worst] > ROUNDING:
        raise TrainerError(
            f"the weights of rank {worst} differ from rank 0's after epoch {run.epoch} (relative difference "
            f"{everyone[worst]:.2g}): a plugin or the optimizer acted differently there; random numbers for "
            "weights have to come from trainer.seeds"
        )
    parameters.assign(firsts)


def _apart(value: NDArray[Any], first: NDArray[Any]) -> float:
    """The largest difference, relative to the largest value or 1; huge if only one of the two is finite."""
    if np.array_equal(value, first, equal_nan=value.dtype.kind == "f"):
        return 0.0
    size = np.max(np.abs(value.astype(np.float64) - first)) / max(1.0, float(np.max(np.abs(first))))
    return float(size) if np.isfinite(size) else 1e300
