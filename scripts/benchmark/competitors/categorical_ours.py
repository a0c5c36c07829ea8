"""gluon-trainer on numbers and many categories: the step over encoded rows in memory, and `fit` with its plugins."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmark.categorical import Clock, Job
from benchmark.categorical_data import NUMBERS
from trainer import Arrays, Engine, Phase, Plugin, Run, Splits, Task, fit
from trainer.config.settings import Settings


def linear(bits: int) -> Any:
    """The net: a weight per number and per bucket, from zero."""
    from trainer.mxnet import gluon

    class Linear(gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            with self.name_scope():
                self.numbers = gluon.nn.Dense(1, in_units=NUMBERS, weight_initializer="zeros")
                self.buckets = gluon.nn.Embedding(1 << bits, 1, sparse_grad=True, weight_initializer="zeros")

        def hybrid_forward(self, F: Any, numbers: Any, ids: Any) -> Any:  # noqa: N803  Gluon's own name
            return self.numbers(numbers) + self.buckets(ids).sum(axis=1)

    return Linear()


class Rows(Task):
    """The encoded rows."""

    name = "rows"

    def __init__(self, job: Job) -> None:
        self.job = job

    def splits(self, run: Run) -> Splits:
        """All rows are for training."""
        numbers, ids, labels = self.job.arrays()
        return Splits(Arrays((numbers, ids), labels))

    def net(self) -> Any:
        """The linear model."""
        return linear(self.job.bits)

    def loss(self) -> Any:
        """On logits."""
        from trainer.mxnet import gluon

        return gluon.loss.SigmoidBinaryCrossEntropyLoss()


def sgd(job: Job) -> dict[str, Any]:
    """The optimizer's settings."""
    return {"name": "sgd", "learning_rate": job.rate}


def ftrl(job: Job) -> dict[str, Any]:
    """With the batch's mean gradient, beta / batch does what beta does with its sum. Beta is 1 for all competitors."""
    return {"name": "ftrl", "learning_rate": job.rate, "lamda1": 0.0, "beta": 1 / job.batch}


def sgd_step(job: Job, clock: Clock) -> None:
    """The engine's batches and step, with nothing between them."""
    _steps(job, clock, sgd(job))


def ftrl_step(job: Job, clock: Clock) -> None:
    """The same by FTRL."""
    _steps(job, clock, ftrl(job))


def _steps(job: Job, clock: Clock, optimizer: dict[str, Any]) -> None:
    _encode(job, clock)
    settings = {"epochs": job.passes, "batch_size": job.batch, "seed": 1, "optimizer": optimizer}
    engine = Engine(Rows(job), Settings.checked(settings))
    step, batches = engine.state.step, engine.run.train
    if step.kind != "compiled":
        raise SystemExit(f"the step is {step.kind}: {step.why}")
    for epoch in range(1, job.passes + 1):
        with clock:
            for batch in batches.epoch(epoch):
                step.forward_backward(batch)
                step.update()
            step.loss.take_sum()
        _judge(engine.run.net, clock)


class Timer(Plugin):
    """Times the epochs; the last one until everything is saved and closed."""

    phase = Phase.TRANSFORM

    def __init__(self, clock: Clock) -> None:
        self.clock, self.passed = clock, 0

    def on_epoch_begin(self, run: Run) -> None:
        """Judges the first pass between two epochs."""
        if self.passed:
            self.clock.__exit__()
            _judge(run.net, self.clock)
        self.passed += 1
        self.clock.__enter__()


def ftrl_fit(job: Job, clock: Clock) -> None:
    """`fit` of the net with its default plugins, in a folder of its own."""
    _encode(job, clock)
    numbers, ids, labels = job.arrays()
    options = {"epochs": job.passes, "batch_size": job.batch, "optimizer": ftrl(job), "seed": 1}
    loss, net = "sigmoid-binary-cross-entropy", linear(job.bits)
    fit(
        net,
        train=((numbers, ids), labels),
        loss=loss,
        plugins=[Timer(clock)],
        runs_dir=job.folder / "runs",
        **options,  # type: ignore[arg-type]
    )
    clock.__exit__()
    _judge(net, clock)


def _encode(job: Job, clock: Clock) -> None:
    """Times the way from the table's file to what is trained on, unless only the loss is wanted. Checks the ids."""
    if job.passes == 1:
        return
    from trainer.data import TableOptions, load_splits

    options = TableOptions(data=(job.data / "train.parquet",), label="label", hash_bits=job.bits)
    options.validation_split = options.test_split = 0.0
    for _ in range(2):  # the first one imports
        began = time.perf_counter()
        ids = load_splits(options, seed=1).train.ids
        clock.encoding = time.perf_counter() - began
    if ids is None or not np.array_equal(ids, job.arrays()[1]):
        raise SystemExit("the encoded rows differ from those that the others train on")


def _judge(net: Any, clock: Clock) -> None:
    if clock.loss is None:
        arrays = [net.numbers.weight, net.buckets.weight, net.numbers.bias]
        weights, buckets, bias = (array.data().asnumpy() for array in arrays)
        clock.judge(weights, buckets, float(bias[0]))
