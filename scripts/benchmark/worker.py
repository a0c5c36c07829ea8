"""One competitor on one workload, in a separate process: `python -m benchmark.worker JOB.json`.

The answer goes into the file that the job names, because libraries write to standard output.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.workloads import cross_entropy

CHECKED_ROWS = 100_000
"""The final loss is computed over at most this many rows."""
CHUNK = 10_000


@dataclass
class Job:
    """The input of a competitor."""

    x: NDArray[np.float32]
    """(rows, features)"""
    y: NDArray[np.float32]
    """(rows,), 0 or 1"""
    hidden: tuple[int, ...]
    batch: int
    epochs: int
    rate: float
    seed: int
    folder: Path
    """A folder to write to."""
    validation: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
    """Rows and labels to validate on after every epoch, if the training is to be a whole one."""

    @property
    def widths(self) -> list[int]:
        """Neurons of each layer, from the input to the output."""
        return [self.x.shape[1], *self.hidden, 1]


@dataclass
class Clock:
    """Records when each epoch began, and when the last one ended."""

    times: list[float] = field(default_factory=list)

    def epoch(self) -> None:
        """Call this at the start of an epoch, which is the end of the previous one."""
        self.times.append(time.perf_counter())

    end = epoch


def main(path: str) -> None:
    """Runs the job in the file at `path`."""
    given = json.loads(Path(path).read_text(encoding="utf-8"))
    x, y = (np.load(given[name]) for name in ("x", "y"))
    is_whole = "validation_x" in given
    job = Job(
        x,
        y,
        tuple(given["hidden"]),
        given["batch"],
        given["epochs"],
        given["rate"],
        given["seed"],
        Path(given["folder"]),
        (np.load(given["validation_x"]), np.load(given["validation_y"])) if is_whole else None,
    )
    clock = Clock()
    module = importlib.import_module(f"benchmark.competitors.{given['module']}")
    predict = getattr(module, given["function"])(job, clock)
    if len(clock.times) != job.epochs + 1:
        raise SystemExit(f"{given['function']} ran {len(clock.times) - 1} epochs, not {job.epochs}")
    if is_whole and given["function"].startswith("whole"):
        check_logs(job)
    each = -(-len(x) // job.batch)
    steps = each * (job.epochs - 1)
    rows = min(CHECKED_ROWS, len(x))
    logits = np.concatenate([np.asarray(predict(x[i : min(i + CHUNK, rows)])).ravel() for i in range(0, rows, CHUNK)])
    answer: dict[str, Any] = {
        "seconds": (clock.times[-1] - clock.times[1]) / steps,
        # What an ordinary epoch takes, and the last one, whose end may save and close files.
        "ordinary": float(np.median(np.diff(clock.times)[1:-1])) / each if job.epochs > 2 else None,
        "last": (clock.times[-1] - clock.times[-2]) / each,
        "loss": cross_entropy(logits, y[:rows]),
        "threads": threads(),
    }
    Path(given["answer"]).write_text(json.dumps(answer), encoding="utf-8")


def check_logs(job: Job) -> None:
    """Ends the process if the training left no TensorBoard file, or no log with a line per epoch."""
    files = [path for path in job.folder.rglob("*") if path.is_file() and path.stat().st_size]
    if not any("tfevents" in path.name for path in files):
        raise SystemExit("it wrote no TensorBoard file")
    logs = [path for path in files if path.suffix in (".csv", ".jsonl", ".log")]
    if not any(len(path.read_text(encoding="utf-8").splitlines()) >= job.epochs for path in logs):
        raise SystemExit("it wrote no log with a line per epoch")


def threads() -> str:
    """The number of threads that the measured library computes with."""
    told = os.environ.get("OMP_NUM_THREADS")
    if "trainer.mxnet" in sys.modules:
        return str(sys.modules["trainer.mxnet"].COMPUTING)
    if "mxnet" in sys.modules:
        return told or str(max(1, cores() // 2))  # MXNet assumes hyperthreads
    if "torch" in sys.modules:
        return str(sys.modules["torch"].get_num_threads())
    if "sklearn" in sys.modules:
        import threadpoolctl

        return str(max(pool["num_threads"] for pool in threadpoolctl.threadpool_info()))
    return str(cores())  # XLA's pool


def cores() -> int:
    """The number of cores available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    main(sys.argv[1])
