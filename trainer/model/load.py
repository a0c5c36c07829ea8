"""From a path or a run's name to a model, with a word for every reason why there is none."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.atomic import shown
from trainer.catalog import registry
from trainer.config import options
from trainer.errors import UsageError
from trainer.launch.prepare import DEFAULT_RUNS
from trainer.launch.resume import find_run, read_record
from trainer.model import manifest
from trainer.model.model import Model
from trainer.nets.naming import NET
from trainer.runs.folder import RUN
from trainer.runs.listing import RunEntry

if TYPE_CHECKING:
    from trainer.mxnet import Context
    from trainer.task import Task

log = logging.getLogger("trainer")


def load_model(path: str | Path, *, device: str = "cpu", task: Task | None = None, net: Any = None) -> Model:
    """The model in a run's folder, or in a model folder that was copied elsewhere.

    `device` is `cpu`, `gpu` or `gpu:1`. A model of a task that is not installed, because it was given to `fit` as an
    instance, needs the instance again; that of a bare net needs the `net` if it has no symbol. What is read runs no
    code of the folder's, only the installed task's.

    Raises UsageError for a run without a model, and for a folder that is damaged, of a newer version, or not a model.
    """
    return load_from(find_model(path), device=device, task=task, net=net)


def load_from(folder: Path, *, device: str = "cpu", task: Task | None = None, net: Any = None) -> Model:
    """The model in a model folder. Raises UsageError as `load_model` does."""
    said = manifest.read(folder)
    built = _task(folder, said) if task is None else task
    if net is not None:
        if said.task.name != NET:
            raise UsageError(f"the model is of the task {said.task.name!r}", where="net=", fix="Leave it out.")
        built.block = net  # type: ignore[attr-defined]
    return Model(folder, said, built, _context(device))


def _context(device: str) -> Context:
    """The one context that a device's name means. Raises UsageError for none or several."""
    from trainer.devices import contexts

    try:
        found = contexts(device)
    except UsageError as error:
        raise UsageError(error.what, where="--device", fix=error.fix.replace("--devices", "--device")) from error
    if len(found) > 1 and device.strip() != "auto":
        raise UsageError(f"{device!r} names {len(found)} devices", where="--device", fix="A model takes one.")
    return found[0]


def find_model(run: str | Path, runs_dir: Path = DEFAULT_RUNS) -> Path:
    """The model folder of a run (by path or name), or the one that the path itself is. Raises UsageError."""
    path = Path(run)
    if (path / manifest.ABOUT).is_file():
        _check_run(path.absolute().parent, only_warn=True)
        return path.absolute()
    found = find_run(run, runs_dir)
    _check_run(found, only_warn=(found / manifest.FOLDER / manifest.ABOUT).is_file())
    return found / manifest.FOLDER


def _check_run(path: Path, *, only_warn: bool) -> None:
    """Says how the run stands that a model would be of: one that has not ended has none, or that of an earlier end."""
    if not (path / RUN).is_file():
        return
    record = read_record(path)
    entry = RunEntry(path, record)
    if entry.status in ("finished", "stopped"):
        if not only_warn:
            raise UsageError(
                f"the run {shown(path)} has no model; it may be of a version that wrote none",
                where="RUN",
                fix="trainer resume with a higher --epochs trains on and writes one.",
            )
        return
    epoch, step = entry.reached
    verb = {"running": "is", "interrupted": "was"}.get(entry.status, "has")
    stands = f"the run {shown(path)} {verb} {entry.status} (epoch {epoch}, step {step})"
    fix = "Wait for its end." if entry.status == "running" else f"Go on with: trainer resume {shown(path)}"
    if not only_warn:
        raise UsageError(f"{stands} and has no model", where="RUN", fix=fix)
    log.warning("%s; its model is older than that. %s", stands, fix)


def _task(folder: Path, said: manifest.About) -> Task:
    """The task, as it was. Raises UsageError where it is not installed, or has other options by now."""
    from trainer.nets.task import NetTask

    where = str(folder / manifest.ABOUT)
    try:
        cls: type[Task] = NetTask if said.task.name == NET else registry.load(registry.TASKS, said.task.name)
    except UsageError as error:
        raise UsageError(
            error.what,
            where=where,
            fix="Install the package that it comes from, or, in Python, give load_model the task. " + error.fix,
        ) from error
    task = options.build(cls, said.task.options, where=f"{where}: task")
    task.name = said.task.name
    return task
