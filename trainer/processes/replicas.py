"""What has to be the same in all processes that train a run, and is made and kept so."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.config import options
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
"""What rounding can make of weights in an epoch, as a part of the largest."""


def asked_for(
    task: Task, settings: Settings, plugins: Sequence[Plugin], resume_from: Checkpoint | None, **flags: bool
) -> dict[str, Any]:
    """What all processes have to be asked for, flat, so that a message can name what differs."""
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
    """Makes sure that all processes have the same data and net, and gives them the first one's weights.

    Collective. Raises UsageError that names the process which has other rows, columns or parameters.
    """
    from trainer.mxnet import gluon
    from trainer.step.parameters import put

    parameters = {}
    for block in (run.net, loss):
        if isinstance(block, gluon.Block):
            parameters.update(block.collect_params())
    splits = {split: _shape_of(getattr(run, split)) for split in ("train", "validation", "test")}
    shapes = [[str(np.dtype(parameter.dtype)), *parameter.shape] for parameter in parameters.values()]
    about = {f"the {split} split's {key}": value for split, values in splits.items() for key, value in values.items()}
    run.processes.compare({**about, "the parameters' types and shapes": shapes}, "the data and the net")
    for parameter in parameters.values():
        value = run.processes.broadcast_array(parameter.data(run.contexts[0]).asnumpy())
        put(value, parameter.list_data())


def _shape_of(batches: Batches | None) -> dict[str, Any]:
    """What has to be the same of a split in all processes; its first row stands for the values."""
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
    """Collective: makes sure, by checksums, that all processes hold the same weights.

    Processors of different kinds may round differently: then the first one's weights are taken. Raises TrainerError,
    naming the process, for a difference beyond rounding: something has moved the weights in one process alone.
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
            f"rank {worst} holds other weights than rank 0 after epoch {run.epoch} (they differ by a part of "
            f"{everyone[worst]:.2g}): a plugin, or the optimizer, has done something else there; random numbers for "
            "weights have to come from trainer.seeds"
        )
    parameters.assign(firsts)


def _apart(value: NDArray[Any], first: NDArray[Any]) -> float:
    """The largest difference, relative to the largest value or 1; what is not finite in one alone is far away."""
    if np.array_equal(value, first, equal_nan=value.dtype.kind == "f"):
        return 0.0
    size = np.max(np.abs(value.astype(np.float64) - first)) / max(1.0, float(np.max(np.abs(first))))
    return float(size) if np.isfinite(size) else 1e300
