"""Finds a run by its path or its name, and reads its record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from trainer.errors import UsageError, did_you_mean, listed
from trainer.reading import Unreadable, checked, read_json
from trainer.runs.folder import CONFIG, RUN
from trainer.runs.schemas import RUN_SCHEMA, RunRecord


def find_run(run: str | Path, runs_dir: Path) -> Path:
    """The folder of a run, given by its path, or as `name` or `task/name` in `runs_dir`.

    Raises UsageError if there is no such run, or if several tasks have a run of that name.
    """
    path = Path(run)
    if (path / CONFIG).is_file():
        return path.absolute()
    # A folder that has the run's name, such as that of its data, does not hide the run.
    if (runs_dir / path / CONFIG).is_file():
        return (runs_dir / path).absolute()
    name = path.name if len(path.parts) == 1 else None
    matches = sorted(each.parent for each in runs_dir.glob(f"*/*/{CONFIG}") if each.parent.name == name)
    if len(matches) > 1:
        names = listed(f"{each.parent.name}/{each.name}" for each in matches)
        raise UsageError(f"there are {len(matches)} runs called {str(run)!r}", where="RUN", fix=f"Name one: {names}.")
    if matches:
        return matches[0].absolute()
    known = [each.parent.name for each in sorted(runs_dir.glob(f"*/*/{RUN}")) if each.parent.name[0] != "."]
    hint = did_you_mean(path.name, known) or (f"In {runs_dir} there are: {listed(known[-5:])}." if known else "")
    if path.is_dir():
        raise UsageError(f"{path} is not the folder of a run: it has no {CONFIG}", where="RUN", fix=hint)
    raise UsageError(f"there is no run {str(run)!r}", where="RUN", fix=hint or "Give the path of a run's folder.")


def read_record(path: Path) -> Mapping[str, Any]:
    """What `run.json` says. Raises UsageError if it cannot be read."""
    try:
        return record_in(path)
    except Unreadable as error:
        raise UsageError(str(error), where=str(path / RUN)) from error


def record_in(path: Path) -> Mapping[str, Any]:
    """What `run.json` says, after checking every field that this program uses. Raises Unreadable."""
    try:
        record = read_json(path / RUN)
    except FileNotFoundError:
        raise Unreadable("there is no such file") from None
    version = record.get("schema") if isinstance(record, dict) else None
    if isinstance(version, int) and version > RUN_SCHEMA:
        raise Unreadable("it was written by a newer version of this program")
    if version != RUN_SCHEMA or isinstance(version, bool):
        raise Unreadable("it does not hold the record of a run")
    try:
        checked(RunRecord, record)
    except Unreadable as error:
        raise Unreadable(f"it is damaged: {error}") from error
    return cast("Mapping[str, Any]", record)
