"""Ignite's supervised trainer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from ignite.engine import Events, create_supervised_trainer
from torch import nn

from benchmark.competitors import logs, pytorch
from benchmark.worker import Clock, Job


def whole(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """With an evaluator after every epoch, Ignite's TensorboardLogger, and a CSV file from a handler."""
    from ignite.engine import create_supervised_evaluator
    from ignite.handlers.tensorboard_logger import TensorboardLogger
    from ignite.metrics import Accuracy, Average, Loss

    model, criterion = pytorch.net(job), nn.BCEWithLogitsLoss()
    engine = create_supervised_trainer(model, torch.optim.SGD(model.parameters(), lr=job.rate), criterion)
    Average(output_transform=float).attach(engine, "loss")
    judging = create_supervised_evaluator(
        model,
        metrics={
            "accuracy": Accuracy(output_transform=lambda output: ((output[0] > 0).float(), output[1])),
            "loss": Loss(criterion),
        },
    )
    validation = pytorch.validation_loader(job)
    board = TensorboardLogger(log_dir=str(job.folder / "tensorboard"))

    @engine.on(Events.EPOCH_STARTED)
    def _begin() -> None:
        clock.epoch()

    @engine.on(Events.EPOCH_COMPLETED)
    def _judge() -> None:
        judging.run(validation)
        found = judging.state.metrics
        table.write(engine.state.epoch, engine.state.metrics["loss"], found["loss"], found["accuracy"])

    for tag, source in (("train", engine), ("validation", judging)):
        board.attach_output_handler(
            source,
            event_name=Events.EPOCH_COMPLETED,
            tag=tag,
            metric_names="all",
            global_step_transform=lambda *_: engine.state.epoch,
        )
    with logs.Table(job) as table, board:
        engine.run(pytorch.loader(job), max_epochs=job.epochs)
    clock.end()
    return pytorch.predictor(model)


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
