"""Checkpoints: the state of a run as arrays and JSON, written completely or not at all. Nothing is pickled."""

from __future__ import annotations

import io
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import TrainerError
from trainer.files import flush_folder, write_atomic

if TYPE_CHECKING:
    from trainer.run import Run

FOLDER = "checkpoints"
ARRAYS = "arrays.npz"
STATE = "state.json"


def save(run: Run, reason: str) -> Path:
    """Writes `checkpoints/step-<n>/` and returns it; a checkpoint of the same step is replaced.

    `arrays.npz` holds the parameters (`parameter/<name>`), the optimizer's states (`optimizer/<group>/…`) and the
    arrays of the plugins' states (`plugin/<name>/…`); `state.json` the rest. Reads every parameter, so it waits for the
    device.
    """
    if run.folder is None or run.engine_step is None:
        raise TrainerError("a run without a folder cannot be saved")
    parameters = run.engine_step.parameters
    arrays: dict[str, NDArray[Any]] = {}
    for parameter in parameters.all:
        arrays[f"parameter/{parameter.name}"] = parameter.data(run.contexts[0]).asnumpy()
    optimizer = [_split(state, f"optimizer/{index}", arrays) for index, state in enumerate(parameters.states)]
    plugins = {
        plugin.name: _split(plugin.state_dict(), f"plugin/{plugin.name}", arrays) for plugin in run.dispatch.plugins
    }
    state = {
        "schema": 1,
        "reason": reason,
        "epoch": run.epoch,
        "step": run.step,
        "updates": run.updates,
        "threshold": run.threshold,
        "groups": [group.names for group in parameters.groups],
        "optimizer": optimizer,
        "optimizer_updates": run.optimizer.num_update,
        "plugins": plugins,
    }
    folder = run.folder / FOLDER / f"step-{run.step:08d}"
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        write_atomic(temporary / ARRAYS, buffer.getvalue())
        write_atomic(temporary / STATE, json.dumps(state, indent=2) + "\n")
        if folder.exists():
            replaced = temporary.with_name(f"{temporary.name}.old")
            folder.rename(replaced)
            os.replace(temporary, folder)  # noqa: PTH105
            shutil.rmtree(replaced)
        else:
            temporary.rename(folder)
        flush_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _split(value: Any, path: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """`value` as JSON, its arrays taken out into `arrays` and replaced by {"array": name}."""
    if hasattr(value, "asnumpy"):
        value = value.asnumpy()
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TrainerError(f"{path} is an array of Python objects, which only pickle could hold")
        arrays[path] = value
        return {"array": path}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): _split(part, f"{path}/{key}", arrays) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_split(part, f"{path}/{number}", arrays) for number, part in enumerate(value)]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TrainerError(f"{path} is a {type(value).__name__}; a state holds JSON values and arrays")
