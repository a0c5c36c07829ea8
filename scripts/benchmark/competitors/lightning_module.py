"""Lightning with bars and checkpoints off, and with loggers only in a whole training; its loop, its module and its
optimizer handling stay."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import pytorch_lightning as lightning
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader

from benchmark.competitors import pytorch
from benchmark.worker import Clock, Job


class Module(lightning.LightningModule):
    """The net; its loss is added up by hand, which is cheaper than `self.log`."""

    def __init__(self, job: Job, clock: Clock) -> None:
        super().__init__()
        self.net, self.rate, self.clock = pytorch.net(job), job.rate, clock

    def on_train_epoch_start(self) -> None:
        """Resets the loss."""
        self.clock.epoch()
        self.total = torch.zeros(())

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        """Returns the loss of a batch."""
        data, label = batch
        loss = binary_cross_entropy_with_logits(self.net(data), label)
        self.total += loss.detach() * len(data)
        return loss

    def on_train_epoch_end(self) -> None:
        """Reads the epoch's loss."""
        self.total.item()

    def on_train_end(self) -> None:
        """Stops the clock."""
        self.clock.end()

    def configure_optimizers(self) -> Any:
        """Plain SGD."""
        return torch.optim.SGD(self.net.parameters(), lr=self.rate)


def data_loader(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """With PyTorch's DataLoader."""
    return _fit(job, Module(job, clock), (pytorch.loader(job),), logger=False)


def in_memory(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """With slices of tensors, through a DataLoader that does not batch."""
    return _fit(job, Module(job, clock), (DataLoader(pytorch.Slices(job), batch_size=None),), logger=False)


class Whole(Module):
    """With validation; Lightning's `self.log` sums up the metrics and gives them to the loggers."""

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        """Returns the loss of a batch."""
        data, label = batch
        loss = binary_cross_entropy_with_logits(self.net(data), label)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(data))
        return loss

    def validation_step(self, batch: Any, _: int) -> None:
        """Loss and accuracy of a batch."""
        data, label = batch
        outputs = self.net(data)
        self.log("validation/loss", binary_cross_entropy_with_logits(outputs, label), batch_size=len(data))
        self.log("validation/accuracy", ((outputs > 0) == label).float().mean(), batch_size=len(data))

    def on_train_epoch_start(self) -> None:
        """Starts an epoch."""
        self.clock.epoch()

    def on_train_epoch_end(self) -> None:
        """Nothing: `self.log` has the loss."""

    def on_train_end(self) -> None:
        """Nothing: the clock stops when the loggers have written."""


def whole(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """With PyTorch's DataLoader, validation, and Lightning's loggers for TensorBoard and CSV."""
    return _fit_whole(job, clock, pytorch.loader(job), pytorch.validation_loader(job))


def whole_in_memory(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """The same with slices of tensors; all rows are validated at once."""
    validation = DataLoader([pytorch.validation_rows(job)], batch_size=None)
    return _fit_whole(job, clock, DataLoader(pytorch.Slices(job), batch_size=None), validation)


def _fit_whole(job: Job, clock: Clock, batches: Any, validation: Any) -> Callable[[Any], Any]:
    from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

    folder = str(job.folder)
    predict = _fit(
        job,
        Whole(job, clock),
        (batches, validation),
        logger=[TensorBoardLogger(folder), CSVLogger(folder)],
        num_sanity_val_steps=0,
    )
    clock.end()
    return predict


def _fit(job: Job, module: Module, batches: Any, **more: Any) -> Callable[[Any], Any]:
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    trainer = lightning.Trainer(
        max_epochs=job.epochs,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(job.folder),
        **more,
    )
    trainer.fit(module, *batches)
    return pytorch.predictor(module.net)
