"""The content of a report, from a run that is ending or from the folder of an earlier one."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.data import read_text
from trainer.errors import UsageError
from trainer.runs import CONFIG, PLUGINS, entry_of, plugins_of, record_of

if TYPE_CHECKING:
    from trainer import Run

SCHEMA = 2
DATA = "report.json"
HTML = "report.html"
LOG = "metrics.jsonl"


@dataclass(frozen=True)
class Document:
    """Everything that a report shows; a field is empty if the run did not leave its file.

    `record` is the content of `run.json` with the current `status` and `reason`; `config` is the text of `config.toml`;
    `plugins` are the entries of `plugins.json`; `data` is the content of `report.json`; `history` has one entry per
    epoch.
    """

    name: str
    record: Mapping[str, Any]
    config: str
    plugins: list[Mapping[str, Any]]
    data: Mapping[str, Any]
    history: list[Mapping[str, Any]]
    problems: list[str] = field(default_factory=list)
    """Messages about files that could not be read."""


def of_run(run: Run, folder: Path) -> Document:
    """The document of a run in its teardown, before `run.json` is written."""
    return Document(
        name=_name(folder),
        record=record_of(run),
        config=_text(folder / CONFIG),
        plugins=list(plugins_of(run)),
        data=read_data(folder),
        history=list(run.history),
    )


def read(folder: Path) -> Document:
    """The document of a run's folder, for any status. Raises UsageError if its `run.json` cannot be read."""
    entry = entry_of(folder)
    if entry.status == "unreadable":
        raise UsageError(f"the run's record cannot be read: {entry.reason}", where=str(folder))
    epoch, step = entry.reached
    record = {**entry.record, "status": entry.status, "reason": entry.reason, "epoch": epoch, "step": step}
    problems: list[str] = []
    data = read_data(folder, problems)
    if (folder / LOG).is_file():
        history = list(_logged(folder / LOG, problems))
    else:
        history = [entry for entry in data.get("history", []) if isinstance(entry, dict)]
    return Document(
        name=_name(folder),
        record=record,
        config=_text(folder / CONFIG),
        plugins=[each for each in _json(folder / PLUGINS, [], problems) if isinstance(each, dict)],
        data=data,
        history=history,
        problems=problems,
    )


def read_data(folder: Path, problems: list[str] | None = None) -> dict[str, Any]:
    """The content of `report.json`; empty if there is no such file or another version wrote it."""
    data = _json(folder / DATA, {}, [] if problems is None else problems)
    if data and data.get("schema") != SCHEMA:
        (problems if problems is not None else []).append(f"{DATA} was written by another version")
        return {}
    return dict(data)


def finite(values: Iterable[Any]) -> list[float]:
    """The numbers among the values."""
    return [float(v) for v in values if isinstance(v, (int, float)) and math.isfinite(v)]


def _name(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except (OSError, UsageError):
        return ""


def _reason(error: Exception) -> str:
    return error.what if isinstance(error, UsageError) else str(error)


def _json(path: Path, empty: Any, problems: list[str]) -> Any:
    """The value in a file; `empty` if the file is missing, cannot be read, or holds another type than `empty`."""
    if not path.is_file():
        return empty
    try:
        value = json.loads(read_text(path))
        if not isinstance(value, type(empty)):
            raise ValueError(f"it does not hold a {type(empty).__name__}")
    except (OSError, UsageError, ValueError, RecursionError) as error:
        problems.append(f"{path.name} cannot be read: {_reason(error)}")
        return empty
    return value


def _logged(path: Path, problems: list[str]) -> Iterator[Mapping[str, Any]]:
    """The epochs of the log; a last line that a crash cut off is skipped."""
    try:
        lines = read_text(path).splitlines()
    except (OSError, UsageError) as error:
        problems.append(f"{path.name} cannot be read: {_reason(error)}")
        return
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            if entry["event"] == "epoch":
                yield {"epoch": entry["epoch"], "step": entry["step"], **entry["metrics"]}
        except (ValueError, KeyError, TypeError, RecursionError):
            if number < len(lines):
                problems.append(f"{path.name}: line {number} cannot be read")
