"""Ignite's supervised trainer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from ignite.engine import Events, create_supervised_trainer
from torch import nn

from benchmark.competitors import pytorch
from benchmark.worker import Clock, Job


def data_loader(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """With PyTorch's DataLoader; the step returns the loss without reading it, and a handler adds it up."""
    model = pytorch.net(job)
    engine = create_supervised_trainer(
        model,
        torch.optim.SGD(model.parameters(), lr=job.rate),
        nn.BCEWithLogitsLoss(),
        output_transform=lambda x, _y, _predicted, loss: loss.detach() * len(x),
    )
    total = torch.zeros(())

    @engine.on(Events.EPOCH_STARTED)
    def _begin() -> None:
        clock.epoch()
        total.zero_()

    @engine.on(Events.ITERATION_COMPLETED)
    def _add() -> None:
        total.add_(engine.state.output)

    @engine.on(Events.EPOCH_COMPLETED)
    def _read() -> None:
        total.item()

    engine.run(pytorch.loader(job), max_epochs=job.epochs)
    clock.end()
    return pytorch.predictor(model)
