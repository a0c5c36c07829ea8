"""Plain Gluon: the tutorial notebook's loop, a loop by hand, and MXNet's Estimator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmark.worker import Clock, Job
from trainer.mxnet import autograd, gluon, mx


def notebook(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """Eager, row by row from a DataLoader, the loss read in every batch, as in the tutorial."""
    net, loss, updater = _parts(job)
    loader = _loader(job)
    for _ in range(job.epochs):
        clock.epoch()
        total = 0.0
        for data, label in loader:
            with autograd.record():
                losses = loss(net(data), label)
            losses.backward()
            updater.step(job.batch)
            total += mx.nd.sum(losses).asscalar()
    clock.end()
    return _predictor(net)


def tuned(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """Expert Gluon: a static hybridized net and loss, shuffled arrays in slices, losses not read."""
    net, loss, updater = _parts(job)
    net.hybridize(static_alloc=True, static_shape=True)
    loss.hybridize(static_alloc=True, static_shape=True)
    x, y = mx.nd.array(job.x), mx.nd.array(job.y)
    generator = np.random.default_rng(job.seed)
    for _ in range(job.epochs):
        clock.epoch()
        order = mx.nd.array(generator.permutation(len(job.y)), dtype="int32")
        shuffled_x, shuffled_y = mx.nd.take(x, order), mx.nd.take(y, order)
        total = mx.nd.zeros(1)
        for start in range(0, len(job.y), job.batch):
            data, label = shuffled_x[start : start + job.batch], shuffled_y[start : start + job.batch]
            with autograd.record():
                losses = loss(net(data), label)
            losses.backward()
            updater.step(len(label))
            total += losses.sum()
        total.asscalar()
    clock.end()
    return _predictor(net)


def estimator(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """`mxnet.gluon.contrib.estimator` with its default handlers: metrics in every batch, one log line per epoch."""
    from mxnet.gluon.contrib.estimator import Estimator
    from mxnet.gluon.contrib.estimator.event_handler import EpochBegin, TrainEnd

    class Timer(EpochBegin, TrainEnd):
        def epoch_begin(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
            clock.epoch()

        def train_end(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
            mx.nd.waitall()
            clock.end()

    net, loss, updater = _parts(job)
    net.hybridize()
    fitting = Estimator(net, loss, trainer=updater, context=mx.cpu())
    fitting.fit(_loader(job), epochs=job.epochs, event_handlers=[Timer()])
    return _predictor(net)


def _parts(job: Job) -> tuple[Any, Any, Any]:
    mx.random.seed(job.seed)
    net = gluon.nn.HybridSequential()
    for units in job.hidden:
        net.add(gluon.nn.Dense(units, activation="relu"))
    net.add(gluon.nn.Dense(1))
    net.initialize(mx.init.Xavier())
    net(mx.nd.array(job.x[:1]))
    updater = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": job.rate})
    return net, gluon.loss.SigmoidBinaryCrossEntropyLoss(), updater


def _loader(job: Job) -> Any:
    dataset = gluon.data.ArrayDataset(mx.nd.array(job.x), mx.nd.array(job.y))
    return gluon.data.DataLoader(dataset, batch_size=job.batch, shuffle=True)


def _predictor(net: Any) -> Callable[[Any], Any]:
    return lambda rows: net(mx.nd.array(rows)).asnumpy()
