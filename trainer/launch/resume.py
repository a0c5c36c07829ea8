"""Resumes an earlier run from its newest checkpoint, as if it had never stopped."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import trainer.environment  # noqa: F401  a plain `import mxnet` works after the import of `resume`
from trainer.atomic import shown
from trainer.catalog.registry import name_of
from trainer.config.options import secrets_of
from trainer.config.settings import read_config
from trainer.errors import UsageError, choose_from, listed
from trainer.events import Plugin
from trainer.launch.launch import Launch
from trainer.launch.prepare import Request, prepare_run, with_room
from trainer.nets.naming import NET, needs_net
from trainer.run import Run
from trainer.runs import checkpoint, folder
from trainer.runs.checkpoint import Checkpoint, CheckpointError
from trainer.runs.find import find_run, read_record
from trainer.runs.names import DEFAULT_RUNS
from trainer.task import Task

log = logging.getLogger("trainer")


def prepare_resume(
    run: str | Path,
    *,
    epochs: int | str | None = None,
    steps: int | str | None = None,
    devices: str | None = None,
    rank_timeout: float | str | None = None,
    memory: str | None = None,
    from_checkpoint: str | Path | None = None,
    task: Task | None = None,
    plugins: Sequence[Plugin] = (),
    without: Sequence[str] = (),
    sets: Sequence[str] = (),
    tables: Mapping[str, Any] | None = None,
    runs_dir: Path = DEFAULT_RUNS,
    changed_data: str = "refuse",
    to_verify: bool = False,
) -> Launch:
    """The launch that resumes a run: its own configuration, with a new end or other devices if they are given.

    `run` is the run's folder, or its name in `runs_dir`. A run without a checkpoint starts over in its folder, unless
    it has finished. `tables` are options of the task that name its data, in place of the recorded ones. `changed_data`
    is `ok` to accept other data than those that it was started with. `to_verify` also accepts a run that has ended,
    which is then not changed. Raises UsageError for a run that cannot be resumed, and FolderGone if its folder
    disappears meanwhile.
    """
    if changed_data not in ("refuse", "ok"):
        raise UsageError(f"{changed_data!r} is neither ok nor refuse", where="--changed-data", fix="Write ok.")
    path = find_run(run, runs_dir)
    options = {"epochs": epochs, "steps": steps, "devices": devices, "rank-timeout": rank_timeout, "memory": memory}
    with folder.expected(path):
        launch = _prepared(
            path,
            options={key: value for key, value in options.items() if value is not None},
            tables=tables or {},
            from_checkpoint=from_checkpoint,
            task=task,
            plugins=plugins,
            without=without,
            sets=sets,
            to_verify=to_verify,
        )
    launch.changed_data = "ok" if changed_data == "ok" else "refuse"
    return launch


def _prepared(
    path: Path,
    *,
    options: Mapping[str, Any],
    tables: Mapping[str, Any],
    from_checkpoint: str | Path | None,
    task: Task | None,
    plugins: Sequence[Plugin],
    without: Sequence[str],
    sets: Sequence[str],
    to_verify: bool,
) -> Launch:
    instances = {name_of(plugin): plugin for plugin in plugins}
    config = read_config(path / folder.CONFIG)
    name = config.get("task", {}).get("name")
    if not isinstance(name, str):
        raise UsageError("it does not name a task", where=str(path / folder.CONFIG))
    if name == NET and task is None:
        raise needs_net(path)
    for table in tables:
        if not config["task"].get(table):
            raise UsageError(
                "the run was trained without it",
                where=table.replace("-", "_"),
                fix="Leave it out, or start a new run with fit.",
            )
    launch = prepare_run(
        Request(
            task or name,
            options={**options, **tables},
            plugins=plugins,
            without=[*without, *(known for known in config.get("plugins", {}) if known in instances)],
            sets=sets,
            config=path / folder.CONFIG,
            runs_dir=None,
        )
    )
    if "steps" in options and "epochs" not in options:
        launch.settings = with_room(launch.settings)
    _check_sets(sets, launch)
    launch.run_folder = path
    launch.continues = _chosen(path, from_checkpoint)
    if not to_verify:
        _check_end(path, launch, epochs="epochs" in options, steps="steps" in options)
    return launch


def _check_sets(sets: Sequence[str], launch: Launch) -> None:
    """Raises UsageError for an option that is not secret: a resumed run keeps those."""
    parts: dict[str, Task | Plugin] = {plugin.name: plugin for plugin in launch.plugins}
    parts |= {"task": launch.task, launch.task.name: launch.task}
    for entry in sets:
        section, _, option = entry.partition("=")[0].strip().rpartition(".")
        if section not in parts or option not in secrets_of(parts[section]):
            raise UsageError(
                f"{section}.{option}".strip(".") + " is not a secret option, and a resumed run keeps its options",
                where="--set",
                fix="Leave it out, or start a new run.",
            )


def _named(path: Path, given: str | Path) -> Checkpoint:
    """The checkpoint of a run that is given by its name or its path. Raises UsageError."""
    own = (path / checkpoint.FOLDER).resolve()
    name, place = str(given), Path(given).resolve()
    if place.parent in (own, own / checkpoint.ABANDONED):
        name = place.name
    # A name means one of the run's own, wherever you are.
    elif place.is_dir() and not (checkpoint.NAME.fullmatch(name) and (own / name).is_dir()):
        raise UsageError(f"{given} is not a checkpoint of the run {shown(path)}", where="--from", fix=_other(place))
    if (own / checkpoint.ABANDONED / name / checkpoint.MANIFEST).is_file() and not (own / name).is_dir():
        raise UsageError(
            f"{name} was abandoned when the run was resumed from an older checkpoint: the logs were cut back to that "
            "point, so they no longer reach it",
            where="--from",
            fix="Resume from an older checkpoint to train those steps again. Its weights are in "
            f"{shown(path / checkpoint.FOLDER / checkpoint.ABANDONED / name / checkpoint.ARRAYS)}.",
        )
    known = [each.folder.name for each in checkpoint.complete_checkpoints(path)]
    if checkpoint.NAME.fullmatch(name) and (own / name).is_dir():
        try:
            return checkpoint.opened(path / checkpoint.FOLDER / name)
        except CheckpointError as error:
            fix = f"There are: {listed(known)}." if known else "Leave it out."
            raise UsageError(str(error), where="--from", fix=fix) from error
    hint = choose_from(name, known, label="There are")
    raise UsageError(f"there is no checkpoint {str(given)!r} that can be used", where="--from", fix=hint)


def _other(place: Path) -> str:
    """What to do about a checkpoint that belongs to another run, or a folder that is not a checkpoint."""
    if checkpoint.NAME.fullmatch(place.name) and (place.parents[1] / folder.CONFIG).is_file():
        return f"It belongs to another run: trainer resume {shown(place.parents[1])} --from {place.name}."
    return "Give the name or the path of one of its checkpoints, which are in its folder checkpoints/."


def _chosen(path: Path, given: str | Path | None) -> Checkpoint | Literal["from the start"]:
    """The newest checkpoint that is whole and exact, or the given one. Warns about those that it skips."""
    if given is not None:
        return _named(path, given)
    found = list(checkpoint.find(path))
    inexact = None
    for each in found:
        if isinstance(each, CheckpointError):
            log.warning("skipped: %s", each)
            continue
        if not each.is_exact:
            inexact = inexact or each.folder.name
            continue
        try:
            each.check()
        except CheckpointError as error:
            log.warning("skipped: %s", error)
            continue
        if inexact is not None:
            log.warning(
                "%s is newer, but was written in the middle of a step that failed; --from %s resumes from it",
                inexact,
                inexact,
            )
        return each
    if found:
        raise UsageError(
            f"none of the {len(found)} checkpoints in {path / checkpoint.FOLDER} can be used",
            fix=f"Start again with --config {path / folder.CONFIG}"
            + (f", or resume with --from {inexact}." if inexact else "."),
        )
    return "from the start"


def _check_end(path: Path, launch: Launch, *, epochs: bool, steps: bool) -> None:
    """Raises UsageError if there is nothing left to train. `epochs` and `steps` say whether that end is a new one.

    If more epochs are wanted, an earlier limit of steps that is reached no longer applies.
    """
    extended = epochs or steps
    record, settings, at = read_record(path), launch.settings, launch.continues
    status = record.get("status")
    over = status in ("finished", "stopped")
    if over and not isinstance(at, Checkpoint):
        raise UsageError(
            f"the run has {status} and has no checkpoint to resume from",
            fix=f"Start it again: trainer run {launch.task.name} --config {path / folder.CONFIG}.",
        )
    if over and not extended:
        why = f" ({record['reason']})" if record.get("reason") else ""
        other = f", or --steps with more than {settings.steps}," if settings.steps else ""
        fix = f"Pass --epochs with more than {settings.epochs}{other} to train on."
        raise UsageError(f"the run has {status}{why}", fix=fix)
    if not extended or not isinstance(at, Checkpoint):
        return
    done = int(at.manifest["epoch"])
    if settings.epochs < done or (settings.epochs == done and at.is_epoch_end):
        raise UsageError(f"the run has already reached epoch {done}", where="--epochs", fix="Ask for more.")
    if settings.steps is not None and settings.steps <= at.step:
        if not steps:
            log.warning("the limit of %d steps is reached and no longer applies", settings.steps)
            launch.settings = settings.model_copy(update={"steps": None})
            launch.drops_stop = True
            return
        raise UsageError(f"{at.step} steps are already done", where="--steps", fix="Ask for more.")
    launch.drops_stop = True


def resume(
    run: str | Path,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    devices: str | None = None,
    rank_timeout: float | None = None,
    memory: str | None = None,
    from_checkpoint: str | Path | None = None,
    task: Task | None = None,
    plugins: Sequence[Plugin] = (),
    data: Any = None,
    validation_data: Any = None,
    calibration_data: Any = None,
    test_data: Any = None,
    changed_data: Literal["refuse", "ok"] = "refuse",
) -> Run:
    """Resumes a run from its newest complete checkpoint, and returns it when training has ended.

    `run` is the run's folder. `epochs` or `steps` set a new end, counted from the start of the run. A task or plugins
    that were given as instances have to be given again, and so do tables in memory, as `data`, `validation_data`,
    `calibration_data` and `test_data`. `from_checkpoint` is the name or the path of one of the run's checkpoints. The
    result equals that of a run that never stopped, bit for bit. Data that have changed since the run was started are
    refused, unless `changed_data` is `ok`. Raises as `fit` does.
    """
    tables = {
        "data": data,
        "validation-data": validation_data,
        "calibration-data": calibration_data,
        "test-data": test_data,
    }
    return prepare_resume(
        run,
        epochs=epochs,
        steps=steps,
        devices=devices,
        rank_timeout=rank_timeout,
        memory=memory,
        from_checkpoint=from_checkpoint,
        task=task,
        plugins=plugins,
        tables={name: table for name, table in tables.items() if table is not None},
        changed_data=changed_data,
    ).train()
