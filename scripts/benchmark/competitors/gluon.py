"""Plain Gluon: the tutorial notebook's loop, a loop by hand, and MXNet's Estimator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmark.competitors import logs
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


def _tuned_parts(job: Job) -> tuple[Any, Any, Callable[[], Any]]:
    """The static hybridized net and loss, and a function that trains an epoch and returns its summed losses."""
    net, loss, updater = _parts(job)
    net.hybridize(static_alloc=True, static_shape=True)
    loss.hybridize(static_alloc=True, static_shape=True)
    x, y = mx.nd.array(job.x), mx.nd.array(job.y)
    generator = np.random.default_rng(job.seed)

    def epoch_of_slices() -> Any:
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
        return total

    return net, loss, epoch_of_slices


def tuned(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """Expert Gluon: a static hybridized net and loss, shuffled arrays in slices, losses not read."""
    net, _, epoch_of_slices = _tuned_parts(job)
    for _ in range(job.epochs):
        clock.epoch()
        total = epoch_of_slices()
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


def whole(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """The loop by hand with validation; tensorboardX, since MXNet's own mxboard is retired."""
    from tensorboardX import SummaryWriter

    net, loss, epoch_of_slices = _tuned_parts(job)
    assert job.validation is not None
    rows, labels = (mx.nd.array(part) for part in job.validation)
    with logs.Logs(job, SummaryWriter) as log:
        for epoch in range(job.epochs):
            clock.epoch()
            total = epoch_of_slices()
            outputs = net(rows)
            judged = loss(outputs, labels).mean().asscalar()
            accuracy = ((outputs.reshape(-1) > 0) == labels).mean().asscalar()
            log.write(epoch, total.asscalar() / len(job.y), judged, accuracy)
    clock.end()
    return _predictor(net)


def whole_estimator(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """Estimator with its validation handler, and a handler that writes the metrics; it has none for TensorBoard."""
    from mxnet.gluon.contrib.estimator import Estimator
    from mxnet.gluon.contrib.estimator.event_handler import EpochBegin, EpochEnd
    from tensorboardX import SummaryWriter

    class Recorder(EpochBegin, EpochEnd):
        priority = np.inf  # after the validation
        epoch = 0

        def epoch_begin(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
            clock.epoch()

        def epoch_end(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
            train = [metric.get()[1] for metric in estimator.train_metrics if isinstance(metric, mx.metric.Loss)]
            judged = [metric.get()[1] for metric in estimator.val_metrics if isinstance(metric, mx.metric.Loss)]
            right = [metric.get()[1] for metric in estimator.val_metrics if not isinstance(metric, mx.metric.Loss)]
            log.write(self.epoch, *train, *judged, *right)
            self.epoch += 1

    net, loss, updater = _parts(job)
    net.hybridize()
    accuracy = mx.metric.CustomMetric(lambda label, output: float(((output.ravel() > 0) == label).mean()), "accuracy")
    fitting = Estimator(net, loss, trainer=updater, context=mx.cpu(), train_metrics=[accuracy, mx.metric.Loss()])
    assert job.validation is not None
    rows = gluon.data.ArrayDataset(*(mx.nd.array(part) for part in job.validation))
    validation = gluon.data.DataLoader(rows, batch_size=job.batch)
    with logs.Logs(job, SummaryWriter) as log:
        fitting.fit(_loader(job), val_data=validation, epochs=job.epochs, event_handlers=[Recorder()])
        mx.nd.waitall()
    clock.end()
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
