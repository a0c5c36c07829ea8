"""skorch's NeuralNet, without its printed table and its inner validation split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import nn

from benchmark.competitors import logs, pytorch
from benchmark.worker import Clock, Job


def fit(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """`NeuralNet.fit`; its default callbacks record each epoch's training loss."""

    predict = _fit(job, clock, train_split=None)
    clock.end()
    return predict


def whole(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """With a given validation split, the accuracy as an EpochScoring, skorch's TensorBoard, and a CSV file."""
    from skorch.callbacks import EpochScoring, TensorBoard
    from skorch.dataset import Dataset
    from skorch.helper import predefined_split
    from torch.utils.tensorboard import SummaryWriter

    class Recorder(Callback):
        def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
            last = net.history[-1]
            table.write(last["epoch"], last["train_loss"], last["valid_loss"], last["valid_accuracy"])

    def accuracy(net: Any, data: Any, labels: Any) -> float:
        positive = net.predict_proba(data)[:, 1] > 0.5
        return float((positive == np.asarray(labels).reshape(-1)).mean())

    assert job.validation is not None
    rows, labels = job.validation
    validation = Dataset(rows, labels.reshape(-1, 1))
    with logs.Table(job) as table, SummaryWriter(str(job.folder / "tensorboard")) as writer:
        scoring = EpochScoring(accuracy, name="valid_accuracy", lower_is_better=False)
        predict = _fit(
            job,
            clock,
            train_split=predefined_split(validation),
            more=[scoring, TensorBoard(writer, close_after_train=False), Recorder()],
        )
    clock.end()
    return predict


def _fit(job: Job, clock: Clock, *, train_split: Any, more: Sequence[Callback] = ()) -> Callable[[Any], Any]:
    class Timer(Callback):
        def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
            clock.epoch()

    model = pytorch.net(job)
    fitting = NeuralNet(
        model,
        criterion=nn.BCEWithLogitsLoss,
        optimizer=torch.optim.SGD,
        lr=job.rate,
        max_epochs=job.epochs,
        batch_size=job.batch,
        iterator_train__shuffle=True,
        train_split=train_split,
        callbacks=[Timer(), *more],
        callbacks__print_log=None,
        verbose=0,
    )
    fitting.fit(job.x, job.y.reshape(-1, 1))
    return pytorch.predictor(fitting.module_)
