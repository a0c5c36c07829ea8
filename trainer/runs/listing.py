"""What the runs in a folder are, and how each of them stands."""

from __future__ import annotations

import json
import math
import secrets
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainer.errors import UsageError, choose_from
from trainer.runs import checkpoint, folder
from trainer.runs.folder import RUN

if TYPE_CHECKING:
    from trainer.metrics.base import Direction


@dataclass(frozen=True)
class RunEntry:
    """One run, as its `run.json` tells it."""

    folder: Path
    record: Mapping[str, Any]

    @property
    def status(self) -> str:
        """`finished`, `stopped`, `interrupted`, `failed`, `running`, or `crashed`: running by its file alone."""
        status = str(self.record.get("status"))
        return "crashed" if status == "running" and not is_alive(self.record.get("process")) else status

    @property
    def reached(self) -> tuple[int, int]:
        """Epoch and step: the record's, or those of the newest checkpoint where a run has not ended in order."""
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
        """The final figures; None for one that is not a number."""
        found = self.record.get("metrics")
        return found if isinstance(found, dict) else {}

    @property
    def seconds(self) -> float | None:
        """How long it took, by its record; None where that does not say."""
        started, ended = self.record.get("started"), self.record.get("ended")
        seconds = self.record.get("seconds", ended - started if started and ended else None)
        return None if seconds is None else float(seconds)


def entries(runs_dir: Path) -> Iterator[RunEntry]:
    """The runs in `runs_dir` (`<task>/<run>/run.json`), the oldest first. Raises UsageError for no folder.

    A record that cannot be read stands there with the status `unreadable`.
    """
    if not runs_dir.is_dir():
        raise UsageError(f"there is no folder {runs_dir}", where="--runs-dir", fix="Name the folder of your runs.")
    found = [entry_of(path.parent) for path in runs_dir.glob(f"*/*/{RUN}") if not path.parent.name.startswith(".")]
    yield from sorted(found, key=lambda entry: (float(entry.record.get("started") or 0), str(entry.folder)))


def entry_of(path: Path) -> RunEntry:
    """The run in a folder; one whose record cannot be read has the status `unreadable`."""
    try:
        record = json.loads((path / RUN).read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError(f"{RUN} holds no record")
    except (OSError, ValueError) as error:
        record = {"status": "unreadable", "reason": str(error)}
    return RunEntry(path, record)


def sort(found: Sequence[RunEntry], by: str, order: Literal["auto", "max", "min"] = "auto") -> list[RunEntry]:
    """The best first by a metric, or by `started` or `seconds`, the smallest first; those without it come last.

    `order` says what of it is better, where the runs' records do not. Raises UsageError for what no run has.
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
        raise UsageError(f"no run has a figure {by!r}", where="--sort", fix=fix)
    if order == "auto":
        order = "min" if by in ("started", "seconds") else direction_in(found, by) or "auto"
    if order == "auto":
        raise UsageError(
            f"whether more or less of {by!r} is better is not known",
            where="--sort",
            fix="Add --order max, or --order min.",
        )
    sign = -1.0 if order == "max" else 1.0
    return sorted(found, key=lambda entry: sign * values.get(str(entry.folder), sign * math.inf))


def direction_in(found: Sequence[RunEntry], name: str) -> Direction | None:
    """Whether more or less of a figure is better, by the first record that says so."""
    for entry in found:
        directions = entry.record.get("directions")
        direction = directions.get(name) if isinstance(directions, dict) else None
        if direction in ("max", "min"):
            return direction  # type: ignore[no-any-return]
    # Records of older versions say nothing; of losses it is known.
    return "min" if name.rpartition("/")[2] == "loss" else None


def remove(folders: Sequence[Path]) -> None:
    """Deletes the folders of runs: first all are looked at, then each goes as a whole.

    Raises UsageError for a link, for what is not a run's folder, and for a run that is going on; then nothing is gone.
    """
    with ExitStack() as locks:
        for path in folders:
            check_removable(path)
            try:
                locks.enter_context(folder.locked(path))
            except OSError as error:
                raise UsageError(f"{path} cannot be removed: {error.strerror or error}", where="RUN") from error
        for path in folders:
            hidden = path.parent / f".{path.name}.{secrets.token_hex(4)}"
            try:
                # Renamed first: whatever happens next, nobody sees half a run.
                path.rename(hidden)
                shutil.rmtree(hidden)
            except OSError as error:
                raise UsageError(f"{path} cannot be removed: {error.strerror or error}", where="RUN") from error
            with suppress(OSError):
                path.parent.rmdir()


def check_removable(path: Path) -> None:
    """Raises UsageError for a link, for what is not the folder of a run, and for a run that is going on."""
    if path.is_symlink():
        raise UsageError(f"{path} is a link", where="RUN", fix="Name the folder that it leads to.")
    entry = entry_of(path)
    if not (path / folder.CONFIG).is_file() or not {"status", "task"} <= entry.record.keys():
        raise UsageError(f"{path} is not the folder of a run: its {RUN} is no record of one", where="RUN")
    if entry.status == "running":
        raise UsageError(f"a run is going on in {path}", where="RUN", fix="Wait for its end, or interrupt it.")


def is_alive(process: Any) -> bool:
    """Whether a process, as `folder.this_process` told of it, is there.

    Its number may long belong to another, so its start counts too. What runs on another machine cannot be seen from
    here, and is taken at its word.
    """
    import psutil

    if not isinstance(process, dict):
        return False
    if process.get("host") != socket.gethostname():
        return True
    try:
        # Both come from the kernel's clock ticks, but the clock they are added to may have been set meanwhile.
        found = psutil.Process(int(process["pid"]))
        is_same = abs(found.create_time() - float(process["started"])) < 2
        # A zombie has ended; only its parent has not yet taken note.
        return bool(is_same and found.status() != psutil.STATUS_ZOMBIE)
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False
