"""One competitor on a table of any size, in a process of its own: `python -m benchmark.large JOB.json`.

All train the linear model of 28 numbers on the same rows. The last pass is timed; the log loss is that of the weights
after it, on rows that are in no table. Of several processes the first one answers.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from benchmark.large_data import held_out
from benchmark.passes import Passes
from benchmark.workloads import cross_entropy

EVERY_SECONDS = 0.02


@dataclass(frozen=True)
class Job:
    """The input of a competitor."""

    table: Path
    """The folder of Parquet parts."""
    rows: int
    folder: Path
    """A folder to write to."""
    passes: int = 2
    text: Path | None = None
    """The rows as Vowpal Wabbit's text, and as CSV."""
    csv: Path | None = None
    options: dict[str, Any] = field(default_factory=dict)
    """Options of `trainer run logreg`."""


@dataclass
class Clock(Passes):
    """Times each pass."""

    ready: float | None = None
    """Seconds until the first pass began."""

    def judge(self, weights: NDArray[Any], bias: float) -> None:
        """Takes the loss of a linear model: `weights` (28,)."""
        self.judge_logits(held_out().features @ weights + bias)

    def judge_logits(self, logits: NDArray[Any]) -> None:
        """Takes the loss of the logits of the rows that are judged on."""
        self.loss = cross_entropy(logits, held_out().labels)


class PrivateMemory:
    """The most memory that this process has had for itself: files that are mapped do not count."""

    def __init__(self) -> None:
        self.peak = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.look()
            time.sleep(EVERY_SECONDS)

    def look(self) -> None:
        """Takes the memory of this moment."""
        status = Path("/proc/self/status").read_text(encoding="ascii")
        found = next(line for line in status.splitlines() if line.startswith("RssAnon"))
        self.peak = max(self.peak, 1024 * int(found.split()[1]))


def main(path: str) -> None:
    """Runs the job in the file at `path`; `seconds` and `cpu` are those of a row, `private` is memory in bytes."""
    given = json.loads(Path(path).read_text(encoding="utf-8"))
    if given.get("limit"):
        # Private memory, written or not: the system refuses more.
        resource.setrlimit(resource.RLIMIT_DATA, (given["limit"], given["limit"]))
    memory = PrivateMemory()
    paths = {name: None if given.get(name) is None else Path(given[name]) for name in ("text", "csv")}
    passes, options = given.get("passes", 2), given.get("options", {})
    job = Job(Path(given["table"]), given["rows"], Path(given["folder"]), passes, options=options, **paths)
    clock = Clock()
    module = importlib.import_module(f"benchmark.competitors.{given['module']}")
    getattr(module, given["function"])(job, clock)
    memory.look()
    if os.environ.get("OMPI_COMM_WORLD_RANK", "0") != "0":
        return
    answer: dict[str, Any] = {"private": memory.peak}
    if clock.seconds:
        answer |= {"seconds": clock.seconds[-1] / job.rows, "cpu": clock.cpu[-1] / job.rows}
    if clock.loss is not None:
        answer["loss"] = clock.loss
    if clock.ready is not None:
        answer["ready"] = clock.ready
    Path(given["answer"]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
