"""skorch's NeuralNet, without its printed table and its inner validation split."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import nn

from benchmark.competitors import pytorch
from benchmark.worker import Clock, Job


def fit(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """`NeuralNet.fit`; its default callbacks record each epoch's training loss."""

    class Timer(Callback):
        def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
            clock.epoch()

        def on_train_end(self, net: Any, **kwargs: Any) -> None:
            clock.end()

    model = pytorch.net(job)
    fitting = NeuralNet(
        model,
        criterion=nn.BCEWithLogitsLoss,
        optimizer=torch.optim.SGD,
        lr=job.rate,
        max_epochs=job.epochs,
        batch_size=job.batch,
        iterator_train__shuffle=True,
        train_split=None,
        callbacks=[Timer()],
        callbacks__print_log=None,
        verbose=0,
    )
    fitting.fit(job.x, job.y.reshape(-1, 1))
    return pytorch.predictor(fitting.module_)
