"""gluon-trainer on Parquet parts, through the task `logreg`; and what its passes over files cost."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmark.large import Clock, Job
from benchmark.large_data import BATCH, LABEL, NAMES, RATE
from trainer import Phase, Plugin, Run
from trainer.data import Rows
from trainer.data.tables.plan import planned
from trainer.launch.prepare import Request, prepare_run
from trainer_plugins.logreg import LogisticRegression


class Passes(Plugin):
    """Times the epochs, and how long it took until the first one."""

    phase = Phase.TRANSFORM

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.began = time.perf_counter()

    def on_epoch_begin(self, run: Run) -> None:
        """Starts the clock."""
        if self.clock.ready is None:
            self.clock.ready = time.perf_counter() - self.began
        self.clock.__enter__()

    def on_epoch_end(self, run: Run) -> None:
        """Stops the clock."""
        self.clock.__exit__()


def train(job: Job, clock: Clock) -> None:
    """The linear model, without the plugins that a run has by default."""
    given = {"data": str(job.table), "label": LABEL, "hidden": "", "epochs": job.passes, "batch-size": BATCH}
    given |= {"optimizer": "sgd", "learning-rate": RATE, "validation-split": 0, "test-split": 0, **job.options}
    without = LogisticRegression.defaults.plugins
    launch = prepare_run(Request("logreg", given, plugins=[], without=without, runs_dir=None))
    launch.choose_computing()
    launch.settle_computing()
    from trainer.mxnet import mx  # noqa: F401  its import is not what is measured

    passes = Passes(clock)
    launch.plugins.append(passes)
    run = launch.train()
    schema = run.task.schema
    # On the scale of the table: the net gets standardised numbers.
    weights, bias = (each.data().asnumpy().astype(float) for each in run.net.collect_params().values())
    scales = [column.scales[0] for column in schema.columns]
    own = [weight / scale.deviation for weight, scale in zip(weights.reshape(-1), scales, strict=True)]
    moved = sum(weight * scale.mean for weight, scale in zip(own, scales, strict=True))
    clock.judge(np.array(own), float(bias[0]) - moved)


class Nowhere:
    """Takes encoded rows, and does nothing with them."""

    def __init__(self) -> None:
        self.width: dict[str, int] = {}

    def open(self, split: str, rows: int, layout: Any) -> None:
        """A split is going to be written."""
        self.width[split] = layout.width

    def write(self, split: str, first: int, rows: Any) -> None:
        """Rows of a split."""

    def close(self) -> Any:
        """No rows."""
        none = np.empty(0, np.float32)
        return {split: Rows(np.empty((0, width), np.float32), none, none, {}) for split, width in self.width.items()}


def pass_over_csv(job: Job, clock: Clock) -> None:
    """The three passes over the CSV file."""
    _passes(job, clock, job.csv)


def pass_over_parquet(job: Job, clock: Clock) -> None:
    """The three passes over the Parquet parts."""
    _passes(job, clock, job.table)


def _passes(job: Job, clock: Clock, path: Any) -> None:
    options = LogisticRegression(data=path, label=LABEL, hidden=())
    for _ in range(job.passes):
        with clock:
            planned(options, seed=0, memory=1).encode(Nowhere())


def read_csv_as_text(job: Job, clock: Clock) -> None:
    """What pyarrow takes to stream the CSV file, all columns as text: the measure for making the cache of it."""
    import pyarrow as pa
    from pyarrow import csv

    assert job.csv is not None
    for _ in range(job.passes):
        with clock, csv.open_csv(job.csv, convert_options=csv.ConvertOptions(column_types=_texts(pa))) as reader:
            for _batch in reader:
                pass


def _texts(pa: Any) -> dict[str, Any]:
    return dict.fromkeys([*NAMES, LABEL], pa.string())


def read_parquet(job: Job, clock: Clock) -> None:
    """What pyarrow takes to stream the Parquet parts: the measure for making the cache of them."""
    import pyarrow.dataset as ds

    for _ in range(job.passes):
        with clock:
            for _batch in ds.dataset(job.table, format="parquet").to_batches():
                pass
