"""One competitor on numbers and many categories, in a process of its own: `python -m benchmark.categorical JOB.json`.

All train the linear model of the numbers and a weight per bucket, from zero, on the same ids. A pass is timed after a
first one, which warms up; the log loss is that of the weights after the first pass.
"""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.categorical_data import BATCH, buckets_of
from benchmark.passes import Passes
from benchmark.worker import threads
from benchmark.workloads import cross_entropy


@dataclass(frozen=True)
class Job:
    """The input of a competitor."""

    data: Path
    """The folder with all files."""
    bits: int
    rate: float
    """The one number that is searched for: a learning rate, or what a method has in its place."""
    setting: str
    """A further choice of a competitor, such as how its rate decays; empty if it has none."""
    passes: int
    folder: Path
    """A folder to write to."""
    judged: str = "test"
    """The rows that the loss is computed on: `test`, or `validation` to choose a rate."""
    batch: int = BATCH

    def arrays(self, part: str = "train") -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
        """Numbers (rows, 13), ids (rows, 26) and labels (rows,)."""
        numbers, ids, labels = (np.load(self.data / f"{part}-{name}.npy") for name in ("numbers", "ids", "labels"))
        return numbers, buckets_of(ids, self.bits), labels


@dataclass
class Clock(Passes):
    """Times each pass, and takes the loss after the first one."""

    job: Job = field(kw_only=True)
    encoding: float | None = None

    def judge(self, weights: Any, buckets: Any, bias: float) -> None:
        """Takes the loss of a linear model, unless there is one of an earlier pass: `weights` (13,), `buckets` (n,)."""
        if self.loss is None:
            numbers, ids, labels = self.job.arrays(self.job.judged)
            logits = numbers @ np.ravel(weights) + np.ravel(buckets)[ids].sum(axis=1) + bias
            self.loss = cross_entropy(logits, labels)


def main(path: str) -> None:
    """Runs the job in the file at `path`; `seconds` and `cpu` are those of a row."""
    given = json.loads(Path(path).read_text(encoding="utf-8"))
    names = ("bits", "rate", "setting", "passes", "judged")
    job = Job(Path(given["data"]), folder=Path(given["folder"]), **{name: given[name] for name in names})
    clock = Clock(job=job)
    module = importlib.import_module(f"benchmark.competitors.{given['module']}")
    getattr(module, given["function"])(job, clock)
    if clock.loss is None or not clock.seconds:
        raise SystemExit(f"{given['function']} was not judged, or not timed")
    rows = given["rows"]
    seconds, cpu = clock.seconds[-1] / rows, clock.cpu[-1] / rows
    answer = {"seconds": seconds, "cpu": cpu, "rate": 1 / seconds, "loss": clock.loss}
    answer |= {"above": clock.loss - given["best"], "threads": getattr(module, "THREADS", None) or threads()}
    if clock.encoding is not None:
        answer["encoding"] = clock.encoding / rows
    Path(given["answer"]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
