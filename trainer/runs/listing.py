"""Lists the runs in a folder with their status, and deletes runs."""

from __future__ import annotations

import math
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainer.atomic import hidden_name
from trainer.errors import UsageError, choose_from
from trainer.reading import Unreadable
from trainer.runs import checkpoint, folder
from trainer.runs.find import record_in
from trainer.runs.folder import RUN

if TYPE_CHECKING:
    from trainer.metrics.base import Direction


@dataclass(frozen=True)
class RunEntry:
    """One run, according to its `run.json`."""

    folder: Path
    record: Mapping[str, Any]

    @property
    def status(self) -> str:
        """`finished`, `stopped`, `interrupted`, `failed`, `running`, or `crashed`: recorded as running, but dead."""
        status = str(self.record.get("status"))
        return "crashed" if status == "running" and not is_alive(self.record.get("process")) else status

    @property
    def reached(self) -> tuple[int, int]:
        """Epoch and step from the record, or from the newest checkpoint if the run did not shut down cleanly."""
        newest = checkpoint.complete_checkpoints(self.folder)[:1] if self.status in ("running", "crashed") else []
        steps = [(int(each.manifest["epoch"]), each.step) for each in newest]
        return max([(int(self.record.get("epoch") or 0), int(self.record.get("step") or 0)), *steps])

    @property
    def reason(self) -> str:
        """Why it was stopped, interrupted or failed."""
        return "its process is gone" if self.status == "crashed" else str(self.record.get("reason") or "")

    @property
    def name(self) -> str:
        """The task and the run's own name: `task/name`."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """The final metrics; None for a value that is not a number."""
        found = self.record.get("metrics")
        return found if isinstance(found, dict) else {}

    @property
    def seconds(self) -> float | None:
        """How long the run took according to its record; None if unknown."""
        started, ended = self.record.get("started"), self.record.get("ended")
        seconds = self.record.get("seconds", ended - started if started and ended else None)
        return None if seconds is None else float(seconds)


def entries(runs_dir: Path) -> Iterator[RunEntry]:
    """The runs in `runs_dir` (`<task>/<run>/run.json`), the oldest first.

    A run whose record cannot be read has the status `unreadable`. Raises UsageError if there is no such folder.
    """
    if not runs_dir.is_dir():
        raise UsageError(f"there is no folder {runs_dir}", where="--runs-dir", fix="Name the folder of your runs.")
    found = [entry_of(path.parent) for path in runs_dir.glob(f"*/*/{RUN}") if not path.parent.name.startswith(".")]
    yield from sorted(found, key=lambda entry: (float(entry.record.get("started") or 0), str(entry.folder)))


def entry_of(path: Path) -> RunEntry:
    """The run in a folder; one whose record cannot be read has the status `unreadable`."""
    try:
        record = record_in(path)
    except Unreadable as error:
        record = {"status": "unreadable", "reason": str(error)}
    return RunEntry(path, record)


def sort(found: Sequence[RunEntry], by: str, order: Literal["auto", "max", "min"] = "auto") -> list[RunEntry]:
    """Sorts runs by a metric, best first, or by `started` or `seconds`, smallest first; runs without it come last.

    `order` says which values are better if the runs' records do not. Raises UsageError for a metric that no run has.
    """
    values: dict[str, float] = {}
    for entry in found:
        own: Mapping[str, Any] = {**entry.metrics, "started": entry.record.get("started"), "seconds": entry.seconds}
        value = own.get(by)
        if isinstance(value, (int, float)) and math.isfinite(value):
            values[str(entry.folder)] = float(value)
    if not values and found:
        known = sorted({name for entry in found for name in entry.metrics} | {"started", "seconds"})
        fix = choose_from(by, known, label="There are", limit=99)
        raise UsageError(f"no run has a metric {by!r}", where="--sort", fix=fix)
    if order == "auto":
        order = "min" if by in ("started", "seconds") else direction_in(found, by) or "auto"
    if order == "auto":
        raise UsageError(
            f"it is not known whether higher or lower {by!r} is better",
            where="--sort",
            fix="Add --order max, or --order min.",
        )
    sign = -1.0 if order == "max" else 1.0
    return sorted(found, key=lambda entry: sign * values.get(str(entry.folder), sign * math.inf))


def direction_in(found: Sequence[RunEntry], name: str) -> Direction | None:
    """Whether higher or lower values of a metric are better, from the first record that says so."""
    for entry in found:
        directions = entry.record.get("directions")
        direction = directions.get(name) if isinstance(directions, dict) else None
        if direction in ("max", "min"):
            return direction  # type: ignore[no-any-return]
    # Records of older versions do not say; for losses, lower is better.
    return "min" if (name.partition("/")[2] or name) == "loss" else None


def remove(folders: Sequence[Path]) -> None:
    """Deletes the folders of runs, after checking all of them.

    Raises UsageError, before anything is deleted, for a link, for a folder that is not a run's, and for an active run.
    """
    with ExitStack() as locks:
        for path in folders:
            check_removable(path)
            try:
                locks.enter_context(folder.locked(path))
            except OSError as error:
                raise UsageError(f"{path} cannot be removed: {error.strerror or error}", where="RUN") from error
        for path in folders:
            hidden = hidden_name(path)
            try:
                # Renamed first, so that an interrupted deletion never leaves half a run.
                path.rename(hidden)
                shutil.rmtree(hidden)
            except OSError as error:
                raise UsageError(f"{path} cannot be removed: {error.strerror or error}", where="RUN") from error
            with suppress(OSError):
                path.parent.rmdir()


def check_removable(path: Path) -> None:
    """Raises UsageError for a link, for a folder that is not a run's, and for an active run."""
    if path.is_symlink():
        raise UsageError(f"{path} is a link", where="RUN", fix="Name the folder that it points to.")
    entry = entry_of(path)
    if not (path / folder.CONFIG).is_file() or not {"status", "task"} <= entry.record.keys():
        raise UsageError(f"{path} is not the folder of a run: its {RUN} does not describe a run", where="RUN")
    if entry.status == "running":
        raise UsageError(f"a run is using {path}", where="RUN", fix="Wait until it ends, or interrupt it.")


def is_alive(process: Any) -> bool:
    """Whether a process, as recorded by `folder.this_process`, is alive.

    Its ID may have been reused, so its start time counts too. A process on another machine cannot be seen from here
    and is assumed to be alive.
    """
    import psutil

    if not isinstance(process, dict):
        return False
    if process.get("host") != socket.gethostname():
        return True
    try:
        # Both come from the kernel's clock ticks, but the system clock may have been set in between.
        found = psutil.Process(int(process["pid"]))
        is_same = abs(found.create_time() - float(process["started"])) < 2
        # A zombie has ended; its parent has not collected it yet.
        return bool(is_same and found.status() != psutil.STATUS_ZOMBIE)
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False
