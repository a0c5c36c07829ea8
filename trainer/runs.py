"""What the runs in a folder are, and how each of them stands."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer import checkpoint
from trainer.errors import UsageError
from trainer.folder import RUN


@dataclass(frozen=True)
class RunEntry:
    """One run, as its `run.json` tells it."""

    folder: Path
    record: Mapping[str, Any]

    @property
    def status(self) -> str:
        """`finished`, `stopped`, `interrupted`, `failed`, `running`, or `crashed`: running by its file alone."""
        status = str(self.record.get("status"))
        return "crashed" if status == "running" and not _is_alive(self.record.get("process")) else status

    @property
    def reached(self) -> tuple[int, int]:
        """Epoch and step: the record's, or those of the newest checkpoint where a run has not ended in order."""
        newest = checkpoint.complete(self.folder)[:1] if self.status in ("running", "crashed") else []
        steps = [(int(each.manifest["epoch"]), each.step) for each in newest]
        return max([(int(self.record.get("epoch") or 0), int(self.record.get("step") or 0)), *steps])

    @property
    def reason(self) -> str:
        """Why it was stopped, interrupted or failed."""
        return "its process is gone" if self.status == "crashed" else str(self.record.get("reason") or "")


def entries(runs_dir: Path) -> Iterator[RunEntry]:
    """The runs in `runs_dir` (`<task>/<run>/run.json`), the oldest first. Raises UsageError for no folder.

    A record that cannot be read stands there with the status `unreadable`.
    """
    if not runs_dir.is_dir():
        raise UsageError(f"there is no folder {runs_dir}", where="--runs-dir", fix="Name the folder of your runs.")
    found = [entry_of(path.parent) for path in runs_dir.glob(f"*/*/{RUN}") if not path.parent.name.startswith(".")]
    yield from sorted(found, key=lambda entry: (float(entry.record.get("started") or 0), str(entry.folder)))


def entry_of(folder: Path) -> RunEntry:
    """The run in a folder; one whose record cannot be read has the status `unreadable`."""
    try:
        record = json.loads((folder / RUN).read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError(f"{RUN} holds no record")
    except (OSError, ValueError) as error:
        record = {"status": "unreadable", "reason": str(error)}
    return RunEntry(folder, record)


def _is_alive(process: Any) -> bool:
    """Whether the process of a run is there: its number may long belong to another, so its start counts too.

    What runs on another machine cannot be seen from here, and is taken at its word.
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
