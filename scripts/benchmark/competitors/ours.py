"""gluon-trainer through its public interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmark.worker import Clock, Job
from trainer import Arrays, Phase, Plugin, Run, Splits
from trainer.launch.launch import Launch
from trainer.launch.prepare import Request, prepare_run
from trainer_plugins.logreg import LogisticRegression


class Rows(LogisticRegression):
    """The task `logreg` over the rows in `arrays`, without a validation split unless `validation` is set."""

    arrays: Any = None
    validation: Any = None

    def splits(self, run: Run) -> Splits:
        """The training rows, and for validation whatever was set."""
        self._lines = []
        return Splits(self.arrays, self.validation)

    def _columns(self) -> int:
        return int(self.arrays.features.shape[1])


class Timer(Plugin):
    """Calls the clock; listens to no event of a batch."""

    phase = Phase.TRANSFORM

    def __init__(self, clock: Clock, *, ends: bool = True) -> None:
        self.clock, self.ends = clock, ends

    def on_epoch_begin(self, run: Run) -> None:
        """Starts an epoch; the previous one has computed its loss, so the device is idle."""
        self.clock.epoch()

    def on_fit_end(self, run: Run) -> None:
        """Stops the clock after the last epoch."""
        if self.ends:
            self.clock.end()


def default_plugins(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """Trains like the command line."""
    return _predictor(_launch(job, plugins=[Timer(clock)], runs_dir=job.folder).train())


def whole(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """Trains like the command line, with validation; the clock stops when everything is written and closed."""
    launch = _launch(job, plugins=[Timer(clock, ends=False)], runs_dir=job.folder)
    assert job.validation is not None
    launch.task.validation = Arrays(*job.validation)  # type: ignore[attr-defined]
    run = launch.train()
    clock.end()
    return _predictor(run)


def no_plugins(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """The engine alone."""
    return _predictor(_launch(job, plugins=[Timer(clock)], without=Rows.defaults.plugins).train())


def step_loop(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """The baseline of the engine's loop: its batches and its step, with nothing between them."""
    launch = _launch(job)
    launch.settle_computing()
    from trainer import Engine

    engine = Engine(launch.task, launch.settings)
    step, batches = engine.state.step, engine.run.train
    for epoch in range(1, job.epochs + 1):
        clock.epoch()
        for batch in batches.epoch(epoch):
            step.forward_backward(batch)
            step.update()
        step.loss.take_sum()
    clock.end()
    return _predictor(engine.run)


def compute_as_for(task: str | LogisticRegression, **options: Any) -> None:
    """Applies the CPU settings that the command line would choose for this task; call it before importing MXNet."""
    given = {name.replace("_", "-"): value for name, value in options.items()}
    launch = prepare_run(Request(task, given, runs_dir=None))
    launch.choose_computing()
    launch.settle_computing()


def _launch(job: Job, **request: Any) -> Launch:
    task = Rows(hidden=job.hidden)
    task.arrays = Arrays(job.x, job.y)
    options = {
        "epochs": job.epochs,
        "batch-size": job.batch,
        "optimizer": "sgd",
        "learning-rate": job.rate,
        "seed": job.seed,
    }
    launch = prepare_run(Request(task, options, **{"runs_dir": None, **request}))
    launch.choose_computing()
    return launch


def _predictor(run: Run) -> Callable[[Any], Any]:
    from trainer.mxnet import mx

    return lambda rows: run.net(mx.nd.array(rows)).asnumpy()
