"""Goes on with an earlier run from its newest checkpoint, as if it had never stopped; and proves that it would."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from trainer.catalog.registry import name_of
from trainer.config.settings import read_config
from trainer.errors import UsageError, did_you_mean, listed
from trainer.events import Plugin
from trainer.launch.prepare import DEFAULT_RUNS, Launch, Request, prepare
from trainer.nets.naming import NET, needs_net
from trainer.run import Run
from trainer.runs import checkpoint, folder
from trainer.runs.checkpoint import Checkpoint, CheckpointError
from trainer.task import Task

log = logging.getLogger("trainer")


def prepare_resume(
    run: str | Path,
    *,
    epochs: int | str | None = None,
    steps: int | str | None = None,
    devices: str | None = None,
    from_checkpoint: str | None = None,
    task: Task | None = None,
    plugins: Sequence[Plugin] = (),
    without: Sequence[str] = (),
    runs_dir: Path = DEFAULT_RUNS,
    to_verify: bool = False,
) -> Launch:
    """What it takes to go on with a run: its own configuration, with a new end or other devices where they are given.

    `run` is the run's folder, or its name in `runs_dir`. Without a checkpoint the run starts over in its folder, unless
    it has finished. `to_verify` leaves the run alone, so it may have ended. Raises UsageError for what cannot be
    continued.
    """
    path = find_run(run, runs_dir)
    options = {"epochs": epochs, "steps": steps, "devices": devices}
    instances = {name_of(plugin): plugin for plugin in plugins}
    config = read_config(path / folder.CONFIG)
    name = config.get("task", {}).get("name")
    if not isinstance(name, str):
        raise UsageError("it names no task", where=str(path / folder.CONFIG))
    if name == NET and task is None:
        raise needs_net(path)
    launch = prepare(
        Request(
            task or name,
            options={key: value for key, value in options.items() if value is not None},
            plugins=plugins,
            without=[*without, *(known for known in config.get("plugins", {}) if known in instances)],
            config=path / folder.CONFIG,
            runs_dir=None,
        )
    )
    launch.run_folder = path
    launch.continues = _chosen(path, from_checkpoint)
    if not to_verify:
        _check_end(path, launch, extended=epochs is not None or steps is not None)
    return launch


def find_run(run: str | Path, runs_dir: Path = DEFAULT_RUNS) -> Path:
    """The folder of a run, given by its path, or as `name` or `task/name` in `runs_dir`.

    Raises UsageError where there is none, and where several tasks have a run of that name.
    """
    path = Path(run)
    if not path.is_dir() and (runs_dir / path / folder.RUN).is_file():
        path = runs_dir / path
    elif not path.is_dir() and path.name == str(run):
        matches = sorted(each.parent for each in runs_dir.glob(f"*/*/{folder.RUN}") if each.parent.name == path.name)
        if len(matches) > 1:
            names = listed(f"{each.parent.name}/{each.name}" for each in matches)
            raise UsageError(
                f"there are {len(matches)} runs called {str(run)!r}", where="RUN", fix=f"Name one: {names}."
            )
        path = next(iter(matches), path)
    if (path / folder.CONFIG).is_file():
        return path.absolute()
    if path.is_dir():
        raise UsageError(f"{path} is not the folder of a run: it has no {folder.CONFIG}", where="RUN")
    known = [found.parent.name for found in sorted(runs_dir.glob(f"*/*/{folder.RUN}"))]
    hint = did_you_mean(path.name, known) or (f"In {runs_dir} there are: {listed(known[-5:])}." if known else "")
    raise UsageError(f"there is no run {str(run)!r}", where="RUN", fix=hint or "Give the path of a run's folder.")


def _chosen(path: Path, name: str | None) -> Checkpoint | Literal["from the start"]:
    """The newest checkpoint that is whole and exact, or the one that was asked for; says which were passed over."""
    found = list(checkpoint.find(path))
    if name is not None:
        named = {each.folder.name: each for each in found if isinstance(each, Checkpoint)}
        if name not in named:
            hint = did_you_mean(name, named) or f"There are: {listed(named) or 'none'}."
            raise UsageError(f"there is no checkpoint {name!r} that can be used", where="--from", fix=hint)
        return named[name]
    inexact = None
    for each in found:
        if isinstance(each, CheckpointError):
            log.warning("passed over: %s", each)
            continue
        if not each.is_exact:
            inexact = inexact or each.folder.name
            continue
        try:
            each.read()
        except CheckpointError as error:
            log.warning("passed over: %s", error)
            continue
        if inexact is not None:
            log.warning(
                "%s is newer, but was written in the middle of a step that failed; --from %s goes on from it",
                inexact,
                inexact,
            )
        return each
    if found:
        raise UsageError(
            f"none of the {len(found)} checkpoints in {path / checkpoint.FOLDER} can be used",
            fix=f"Run {path / folder.CONFIG} anew with --config"
            + (f", or go on with --from {inexact}." if inexact else "."),
        )
    return "from the start"


def _check_end(path: Path, launch: Launch, *, extended: bool) -> None:
    """Raises UsageError where there is nothing left to train."""
    record, settings, at = read_record(path), launch.settings, launch.continues
    status = record.get("status")
    over = status in ("finished", "stopped")
    if over and not isinstance(at, Checkpoint):
        raise UsageError(
            f"the run has {status} and has no checkpoint to go on from",
            fix=f"Run it anew: trainer run {launch.task.name} --config {path / folder.CONFIG}.",
        )
    if over and not extended:
        why = f" ({record['reason']})" if record.get("reason") else ""
        steps = f", or --steps with more than {settings.steps}," if settings.steps else ""
        fix = f"Pass --epochs with more than {settings.epochs}{steps} to go on."
        raise UsageError(f"the run has {status}{why}", fix=fix)
    if not extended or not isinstance(at, Checkpoint):
        return
    done = int(at.manifest["epoch"])
    if settings.epochs < done or (settings.epochs == done and at.is_epoch_end):
        raise UsageError(f"the run has come to epoch {done} already", where="--epochs", fix="Ask for more.")
    if settings.steps is not None and settings.steps <= at.step:
        raise UsageError(f"{at.step} steps are done already", where="--steps", fix="Ask for more.")
    launch.drops_stop = True


def read_record(path: Path) -> Mapping[str, Any]:
    """What `run.json` says. Raises UsageError where it cannot be read."""
    try:
        record = json.loads((path / folder.RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"it cannot be read: {error}", where=str(path / folder.RUN)) from error
    if not isinstance(record, dict):
        raise UsageError("it holds no record of a run", where=str(path / folder.RUN))
    return record


def resume(
    run: str | Path,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    devices: str | None = None,
    from_checkpoint: str | None = None,
    task: Task | None = None,
    plugins: Sequence[Plugin] = (),
) -> Run:
    """Goes on with a run from its newest complete checkpoint, and returns it when it is over.

    `run` is the folder. `epochs` or `steps` give it a new end. A task or plugins that were given as instances have to
    be given again. The result equals that of a run that never stopped, bit for bit. Raises as `fit` does.
    """
    return prepare_resume(
        run,
        epochs=epochs,
        steps=steps,
        devices=devices,
        from_checkpoint=from_checkpoint,
        task=task,
        plugins=plugins,
    ).train()
