"""How cost grows with the rows, and whether a long run gets slower: one size per process."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.competitors.ours import Rows, Timer, compute_as_for
from benchmark.worker import Clock
from trainer import Arrays, Plugin, Run, fit

FEATURES, BATCH, CHUNK = 28, 1024, 100_000


class Evaluations(Plugin):
    """Times evaluations with a clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_evaluate_begin(self, run: Run) -> None:
        """Starts the clock."""
        self.clock.epoch()

    def on_evaluate_end(self, run: Run) -> None:
        """Stops the clock."""
        self.clock.end()


def table(rows: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Random features and labels, generated in place, so that this needs no extra memory."""
    generator = np.random.default_rng(0)
    x, y = np.empty((rows, FEATURES), np.float32), np.empty(rows, np.float32)
    for start in range(0, rows, CHUNK):
        part = x[start : start + CHUNK]
        generator.standard_normal(out=part, dtype=np.float32)
        y[start : start + CHUNK] = part.sum(axis=1) > 3
    return x, y


def peak() -> int:
    """The peak memory of this process in bytes."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def by_rows(rows: int) -> dict[str, Any]:
    """Seconds per row of training (second epoch) and evaluation, and the memory in addition to data and libraries."""
    _train(*table(2 * BATCH), Clock(), epochs=1)  # triggers all imports that happen on first use
    before = peak()
    x, y = table(rows)
    clock = Clock()
    _train(x, y, clock, epochs=2)
    memory = max(0, peak() - before - x.nbytes - y.nbytes)
    evaluations = Clock()
    _train(x, y, Clock(), epochs=1, steps=1, validation=Arrays(x, y), plugins=[Evaluations(evaluations)])
    begin, end = evaluations.times
    return {"seconds": (clock.times[2] - clock.times[1]) / rows, "evaluation": (end - begin) / rows, "memory": memory}


def _train(x: Any, y: Any, clock: Clock, *, validation: Any = None, plugins: Any = (), **options: Any) -> Run:
    task = Rows(hidden=())
    task.arrays, task.validation = Arrays(x, y), validation
    compute_as_for(task, batch_size=BATCH)
    return fit(
        task,
        plugins=[Timer(clock), *plugins],
        without=task.defaults.plugins,
        batch_size=BATCH,
        learning_rate=0.1,
        runs_dir=None,
        **options,
    )


def long_run(epochs: int, folder: Path) -> dict[str, Any]:
    """Seconds per step of the tutorial's training with metrics-log, and the ratio of the last tenth to the first."""
    compute_as_for("logreg")
    clock = Clock()
    run = fit("logreg", plugins=[Timer(clock)], without=["progress"], epochs=epochs, runs_dir=folder)
    times, tenth = np.diff(clock.times[1:]), max(1, epochs // 10)
    return {
        "seconds": float(times.sum()) / (run.step - run.step // epochs),
        "growth": median(times[-tenth:]) / median(times[:tenth]),
    }


def main(path: str) -> None:
    """Runs the job in the file at `path`."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    answer = by_rows(job["rows"]) if "rows" in job else long_run(job["epochs"], Path(job["folder"]))
    Path(job["answer"]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
