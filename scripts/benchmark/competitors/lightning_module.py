"""Lightning with logger, bars and checkpoints off; its loop, its module and its optimizer handling stay."""

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
    return _fit(job, clock, pytorch.loader(job))


def in_memory(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """With slices of tensors, through a DataLoader that does not batch."""
    return _fit(job, clock, DataLoader(pytorch.Slices(job), batch_size=None))


def _fit(job: Job, clock: Clock, batches: Any) -> Callable[[Any], Any]:
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    module = Module(job, clock)
    trainer = lightning.Trainer(
        max_epochs=job.epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(job.folder),
    )
    trainer.fit(module, batches)
    return pytorch.predictor(module.net)
