"""What a loop by hand writes per epoch in a whole training: TensorBoard's scalars, and a line of a CSV file."""

from __future__ import annotations

import csv
from typing import Any

from benchmark.worker import Job

NAMES = ("train/loss", "validation/loss", "validation/accuracy")


class Table:
    """The CSV file, flushed after each line, so that it can be followed and a crash loses nothing."""

    def __init__(self, job: Job) -> None:
        self._file = (job.folder / "metrics.csv").open("w", newline="", encoding="utf-8")
        self._table = csv.writer(self._file)
        self._table.writerow(["epoch", *NAMES])

    def write(self, epoch: int, train: float, loss: float, accuracy: float) -> None:
        """Writes an epoch's training loss, and the validation's loss and accuracy."""
        self._table.writerow([epoch, train, loss, accuracy])
        self._file.flush()

    def __enter__(self) -> Table:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class Logs:
    """The CSV file, and TensorBoard's file by a `SummaryWriter`, which flushes at its own interval."""

    def __init__(self, job: Job, writer: Any) -> None:
        self._events, self._table = writer(str(job.folder / "tensorboard")), Table(job)

    def write(self, epoch: int, *values: float) -> None:
        """Writes an epoch's training loss, and the validation's loss and accuracy."""
        for name, value in zip(NAMES, values, strict=True):
            self._events.add_scalar(name, value, epoch)
        self._table.write(epoch, *values)

    def __enter__(self) -> Logs:
        return self

    def __exit__(self, *_: object) -> None:
        self._events.close()
        self._table.__exit__()
