"""The cost per step of the sum over processes: one of the processes that mpirun starts, or a single one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from trainer import Arrays, Engine, Plugin, Run, Splits, Task
from trainer.config.settings import Settings
from trainer.processes import connect

COLUMNS = 1000


class Wide(Task):
    """A layer of 1000 × `outputs` weights whose outputs are averaged."""

    name = "wide"

    def __init__(self, outputs: int, rows: int) -> None:
        self.outputs, self.rows = outputs, rows

    def splits(self, run: Run) -> Splits:
        """Random rows."""
        generator = np.random.default_rng(0)
        return Splits(Arrays(generator.standard_normal((self.rows, COLUMNS), np.float32), np.zeros((self.rows, 1))))

    def net(self) -> Any:
        """No bias, so that the number of parameters is round."""
        from trainer.mxnet import gluon

        return gluon.nn.Dense(self.outputs, use_bias=False)

    def loss(self) -> Any:
        """The labels are 0 for all outputs."""
        from trainer.mxnet import gluon

        class Mean(gluon.loss.L2Loss):  # type: ignore[misc]
            def hybrid_forward(self, F: Any, outputs: Any, labels: Any) -> Any:  # noqa: N803  Gluon's own name
                return F.mean(F.broadcast_sub(outputs, labels) ** 2, axis=0, exclude=True)

        return Mean()


class Steps(Plugin):
    """The time of each step, from one batch's end to the next."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.exchanged: list[float] = []
        self.spent = 0.0

    def on_batch_end(self, run: Run) -> None:
        """Waits for the update, so that a step's work is counted in that step."""
        from trainer.mxnet import mx

        mx.nd.waitall()
        self.ends.append(perf_counter())
        self.exchanged.append(self.spent)


def main(path: str) -> None:
    """Runs the job in the file at `path`: `parameters`, `batch` and `steps`."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    processes, steps = connect(), Steps()
    # Sums and agreements count, including the wait for the other process, which a step has to pay.
    for name in ("sum", "sum_now", "union"):
        setattr(processes, name, _timed(getattr(processes, name), steps))
    settings = Settings.checked(
        {
            "epochs": 1,
            "batch_size": job["batch"],
            "seed": 1,
            "optimizer": {"name": "sgd", "learning_rate": 0.001, "momentum": 0.9},
        }
    )
    rows = job["batch"] * (job["steps"] + WARM_UP)
    Engine(Wide(job["parameters"] // COLUMNS, rows), settings, [steps], processes=processes).fit()
    each = np.diff(steps.ends)[WARM_UP - 1 :]
    spent = np.diff(steps.exchanged)[WARM_UP - 1 :]
    if processes.is_first:
        answer = {"seconds": float(np.median(each))}
        if processes.size > 1:
            answer["share"] = float(np.median(spent / each))
        Path(job["answer"]).write_text(json.dumps(answer), encoding="utf-8")


WARM_UP = 5
"""Warm-up steps, which do not count."""


def _timed(function: Any, steps: Steps) -> Any:
    def timed(*arguments: Any) -> Any:
        began = perf_counter()
        result = function(*arguments)
        steps.spent += perf_counter() - began
        return result

    return timed


if __name__ == "__main__":
    main(sys.argv[1])
