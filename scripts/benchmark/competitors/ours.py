"""gluon-trainer by its public interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmark.worker import Clock, Job
from trainer import Arrays, Engine, Phase, Plugin, Run, Splits, fit
from trainer_plugins.logreg import LogisticRegression


class Rows(LogisticRegression):
    """The task `logreg` over the rows in `arrays`, without a validation split unless `validation` is set."""

    arrays: Any = None
    validation: Any = None

    def splits(self, run: Run) -> Splits:
        """The training rows, and for validation whatever was set."""
        self._lines = []
        return Splits(self.arrays, self.validation)


class Timer(Plugin):
    """Tells the clock; it listens to no event of a batch."""

    phase = Phase.TRANSFORM

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_epoch_begin(self, run: Run) -> None:
        """The epoch before has computed its loss, so the device is idle."""
        self.clock.epoch()

    def on_fit_end(self, run: Run) -> None:
        """Everything that the last epoch cost is over."""
        self.clock.end()


def default_plugins(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """`fit` as it comes."""
    return _predictor(fit(_task(job), plugins=[Timer(clock)], runs_dir=job.folder, **_options(job)))


def no_plugins(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """The engine alone."""
    task = _task(job)
    without = list(task.defaults.plugins)
    return _predictor(fit(task, plugins=[Timer(clock)], without=without, runs_dir=None, **_options(job)))


def step_loop(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """What the engine's loop is compared with: its own batches and step, and nothing between them."""
    from trainer.launch import Request, prepare

    options = {name.replace("_", "-"): value for name, value in _options(job).items()}
    launch = prepare(Request(_task(job), options=options, runs_dir=None))
    run = Engine(launch.task, launch.settings).run
    step, batches = run.engine_step, run.train
    assert step is not None
    assert batches is not None
    for epoch in range(1, job.epochs + 1):
        clock.epoch()
        for batch in batches.epoch(epoch):
            step.forward_backward(batch)
            step.update()
        step.loss.take_sum()
    clock.end()
    return _predictor(run)


def _task(job: Job) -> Rows:
    task = Rows(hidden=job.hidden)
    task.arrays = Arrays(job.x, job.y)
    return task


def _options(job: Job) -> dict[str, Any]:
    return {
        "epochs": job.epochs,
        "batch_size": job.batch,
        "optimizer": "sgd",
        "learning_rate": job.rate,
        "seed": job.seed,
    }


def _predictor(run: Run) -> Callable[[Any], Any]:
    from trainer._mxnet import mx

    return lambda rows: run.net(mx.nd.array(rows)).asnumpy()
