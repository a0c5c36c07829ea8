"""Checkpoints: the state of a run as arrays and JSON, written completely or not at all. Nothing is pickled."""

from __future__ import annotations

import io
import json
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
    for name, value in parameters.copy().items():
        arrays[f"parameter/{name}"] = value
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
        _put(temporary, folder)
        flush_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _put(new: Path, folder: Path) -> None:
    """Gives `new` its name; what had the name before goes only once that is done."""
    if not folder.exists():
        new.rename(folder)
        return
    old = new.with_name(f"{new.name}.old")
    folder.rename(old)
    try:
        new.rename(folder)
    except BaseException:
        old.rename(folder)
        raise
    shutil.rmtree(old)


def _split(value: Any, path: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """`value` as JSON, its arrays taken out into `arrays` and replaced by {"array": name}."""
    if hasattr(value, "asnumpy"):
        value = value.asnumpy()
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TrainerError(f"{path} is an array of Python objects, which only pickle could hold")
        if path in arrays:
            raise TrainerError(f"two arrays would be called {path}: a key holds a slash")
        arrays[path] = value
        return {"array": path}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return _split_mapping(value, path, arrays)
    if isinstance(value, (list, tuple)):
        return [_split(part, f"{path}/{number}", arrays) for number, part in enumerate(value)]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TrainerError(f"{path} is a {type(value).__name__}; a state holds JSON values and arrays")


def _split_mapping(value: Mapping[Any, Any], path: str, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    for key in value:
        if not isinstance(key, str):
            raise TrainerError(f"{path} has the key {key!r}, which is not a string, as JSON would make of it")
    if set(value) == {"array"}:
        raise TrainerError(f"{path} is {{'array': …}}, which stands for an array; use another key")
    return {key: _split(part, f"{path}/{key}", arrays) for key, part in value.items()}
