"""Finds and loads a model by a path or a run's name, and explains why if there is none."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.atomic import shown
from trainer.catalog import registry
from trainer.config import options
from trainer.errors import UsageError
from trainer.model import manifest
from trainer.model.model import Model
from trainer.model.operators import check_allowed
from trainer.nets.naming import NET
from trainer.runs.find import find_run, read_record
from trainer.runs.folder import RUN
from trainer.runs.listing import RunEntry
from trainer.runs.names import DEFAULT_RUNS

if TYPE_CHECKING:
    from trainer.mxnet import Context
    from trainer.task import Task

log = logging.getLogger("trainer")


def load_model(
    path: str | Path,
    *,
    device: str = "cpu",
    task: Task | None = None,
    net: Any = None,
    allow_operators: Collection[str] = (),
) -> Model:
    """Loads the model from a run's folder, or from a model folder that was copied elsewhere.

    `device` is `cpu`, `gpu` or `gpu:1`. If you passed `fit` a task instance that is not installed as an entry point,
    pass it here as `task` again; pass a bare net that could not be saved with its symbol as `net`. Loading runs the
    installed task's code only, never code from the folder. The net's operators that call an address or a function, or
    read a file, are therefore refused; if you trust the folder, `allow_operators` lets them in by name (`["Custom"]`).

    Raises UsageError for a run without a model, and for a folder that is damaged, of a newer version, or not a model.
    """
    return load_from(find_model(path), device=device, task=task, net=net, allow_operators=allow_operators)


def load_from(
    folder: Path,
    *,
    device: str = "cpu",
    task: Task | None = None,
    net: Any = None,
    allow_operators: Collection[str] = (),
) -> Model:
    """The model in a model folder. Raises UsageError like `load_model`."""
    if allow_operators:
        check_allowed(allow_operators)
    about = manifest.read(folder)
    built = _task(folder, about) if task is None else task
    if net is not None:
        if about.task.name != NET:
            raise UsageError(f"the model is of the task {about.task.name!r}", where="net=", fix="Leave it out.")
        built.block = net  # type: ignore[attr-defined]
    return Model(folder, about, built, _context(device), allow_operators)


def _context(device: str) -> Context:
    """The context of a single device. Raises UsageError if the name means none or several."""
    from trainer.devices import contexts

    try:
        found = contexts(device)
    except UsageError as error:
        raise UsageError(error.what, where="--device", fix=error.fix.replace("--devices", "--device")) from error
    if len(found) > 1 and device.strip() != "auto":
        raise UsageError(f"{device!r} names {len(found)} devices", where="--device", fix="A model runs on one.")
    return found[0]


def find_model(run: str | Path, runs_dir: Path = DEFAULT_RUNS) -> Path:
    """The model folder of a run (by path or name), or the path itself if it is one. Raises UsageError."""
    path = Path(run)
    if (path / manifest.ABOUT).is_file():
        _check_run(path.absolute().parent, only_warn=True)
        return path.absolute()
    found = find_run(run, runs_dir)
    _check_run(found, only_warn=(found / manifest.FOLDER / manifest.ABOUT).is_file())
    return found / manifest.FOLDER


def _check_run(path: Path, *, only_warn: bool) -> None:
    """Refuses or warns about a run that has not ended: it has no model, or that of an earlier end."""
    if not (path / RUN).is_file():
        return
    record = read_record(path)
    entry = RunEntry(path, record)
    if entry.status in ("finished", "stopped"):
        if not only_warn:
            raise UsageError(
                f"the run {shown(path)} has no model; its version of gluon-trainer may not have written one",
                where="RUN",
                fix="trainer resume with a higher --epochs continues training and writes one.",
            )
        return
    epoch, step = entry.reached
    verb = {"running": "is", "interrupted": "was"}.get(entry.status, "has")
    state = f"the run {shown(path)} {verb} {entry.status} (epoch {epoch}, step {step})"
    fix = "Wait until it ends." if entry.status == "running" else f"Resume it: trainer resume {shown(path)}"
    if not only_warn:
        raise UsageError(f"{state} and has no model", where="RUN", fix=fix)
    log.warning("%s; its model is older than that. %s", state, fix)


def _task(folder: Path, about: manifest.About) -> Task:
    """The task with its recorded options. Raises UsageError if it is not installed or its options have changed."""
    from trainer.nets.task import NetTask

    where = str(folder / manifest.ABOUT)
    try:
        cls: type[Task] = NetTask if about.task.name == NET else registry.load(registry.TASKS, about.task.name)
    except UsageError as error:
        raise UsageError(
            error.what,
            where=where,
            fix="Install the task's package or, in Python, pass the task to load_model. " + error.fix,
        ) from error
    task = options.build(cls, about.task.options, where=f"{where}: task")
    task.name = about.task.name
    return task
