"""Writes the model folder at the end of a run, completely or not at all."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.atomic import digest, new_folder, write_atomic, write_json
from trainer.config import options
from trainer.data.split_names import SPLITS
from trainer.errors import TrainerError
from trainer.model import info_tables
from trainer.model.manifest import ABOUT, FOLDER, PARAMETERS, SCHEMA, SYMBOL
from trainer.runs import folder

if TYPE_CHECKING:
    from trainer.run import Run
    from trainer.step.parameters import Parameters

ROWS_AT_A_TIME = 256
"""The least batch size for prediction if the task names none; training batches may be far smaller."""


def write_model(run: Run, parameters: Parameters) -> Path:
    """Writes the folder `model` in the run's folder, with the weights used for evaluation; replaces an older one.

    For a net without a symbolic form only the parameters are saved, and `run.model_note` says why. Raises TrainerError
    if it cannot be written; the new folder is then removed, and an older one is intact.
    """
    assert run.folder is not None  # noqa: S101
    target = run.folder / FOLDER
    for leftover in run.folder.glob(f".{FOLDER}.*"):
        # Left by a process that was killed while it wrote a model.
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        with new_folder(target, replace=True) as new:
            info, tables = info_tables.divided(run.task.model_info())
            about = {**_write_net(run, parameters, new), "tables": list(tables)}
            info_tables.write(new, tables)
            names = sorted(path.name for path in new.iterdir())
            files = {name: {"bytes": (new / name).stat().st_size, "sha256": digest(new / name)} for name in names}
            write_json(
                new / ABOUT, {**about, **_about(run, parameters, {**info, **tables}), "info": info, "files": files}
            )
    except OSError as error:
        raise TrainerError(f"the model cannot be written: {error.strerror or error}") from error
    return target


def _write_net(run: Run, parameters: Parameters, temporary: Path) -> dict[str, Any]:
    """Writes the symbol and the parameters; returns their entries for `model.json`."""
    from trainer.model.symbol import NoSymbol, trace_net
    from trainer.mxnet import mx

    sample = run.train.sample()
    # Parameters of the loss are not part of the model.
    places = {place: parameter for place, parameter in parameters.named.items() if not place.startswith("loss:")}
    context = run.contexts[0]
    values = {place: parameter.data(context) for place, parameter in places.items()}
    why = ""
    try:
        symbol, names, outputs = trace_net(run.net, places, len(sample))
    except NoSymbol as reason:
        why = str(reason)
        names, outputs = [f"data{number}" for number in range(len(sample))], 1
        run.model_note = f"parameters only, no symbol: {why}"
    else:
        auxiliary = set(symbol.list_auxiliary_states())
        used = {*symbol.list_arguments(), *auxiliary}
        # MXNet's loaders refuse a parameter that the symbol does not have.
        values = {
            f"{'aux' if place in auxiliary else 'arg'}:{place}": value
            for place, value in values.items()
            if place in used
        }
        write_atomic(temporary / SYMBOL, symbol.tojson() + "\n")
    _save_arrays(mx, temporary / PARAMETERS, values)
    inputs = [
        {"name": name, "shape": list(part.shape[1:]), "dtype": np.dtype(part.dtype).name}
        for name, part in zip(names, sample, strict=True)
    ]
    return {"schema": SCHEMA, "inputs": inputs, "outputs": outputs, "symbol": not why, "symbol_why": why}


def _save_arrays(mx: Any, path: Path, values: Mapping[str, Any]) -> None:
    """Saves in MXNet's format, then reads back and compares: MXNet does not report a disk that is full on closing.

    Raises OSError.
    """
    try:
        mx.nd.save(str(path), dict(values))
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        found = mx.nd.load(str(path)) if values else {}
        whole = not values or (
            set(found) == set(values)
            and all(np.array_equal(found[name].asnumpy(), values[name].asnumpy(), equal_nan=True) for name in values)
        )
    except mx.MXNetError:
        whole = False
    if not whole:
        raise OSError(f"{path.name} differs from what was written (is the disk full?)")


def _about(run: Run, parameters: Parameters, info: Mapping[str, Any]) -> dict[str, Any]:
    task = run.task
    return {
        "task": {"name": task.name, "options": options.to_toml(task)},
        "batch_size": task.evaluation_batch_size or max(run.settings.batch_size, ROWS_AT_A_TIME),
        "threshold": _thresholds(run),
        "calibrator": run.copy_decision()["calibrator"],
        "rules": list(run.copy_decision()["rules"].values()),
        "metrics": folder.json_metrics(run.metrics),
        "card": _card(run, parameters, info),
        "seed": run.settings.seed,
        "epoch": run.epoch,
        "step": run.step,
        "versions": folder.versions(),
    }


def _thresholds(run: Run) -> dict[str, float | None] | None:
    given = getattr(run.task, "threshold", None)
    if given is None or run.threshold is None:
        return None
    return {"given": float(given), "tuned": None if run.threshold == given else float(run.threshold)}


def _card(run: Run, parameters: Parameters, info: Mapping[str, Any]) -> dict[str, Any]:
    """What the recipient of this folder wants to know."""
    splits = {split: getattr(run, split) for split in SPLITS}
    rows = {split: batches.rows for split, batches in splits.items() if batches is not None}
    task_card = dict(run.task.model_interface(info).card())
    if run.calibrator is not None:
        task_card["calibrated"] = run.calibrator.describe()
    return {
        "trained": {"began": _date(run.started), "ended": _date(time.time()), "status": run.status},
        "rows": rows,
        "parameters": sum(int(np.prod(each.shape)) for each in parameters.all),
        **task_card,
        **({"decisions": [dict(rule.card()) for rule in run.rules.values()]} if run.rules else {}),
        "limits": "It knows only its training rows: evaluate it on rows of your own before you rely on it.",
    }


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
