"""Some images of an evaluation with the net's predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Samples:
    """Evenly spaced rows of the newest evaluation, as images; empty if the task's inputs are not images."""

    def __init__(self) -> None:
        self._not_images = False
        self.clear()

    def clear(self) -> None:
        """Drops the images; whether inputs are images stays known."""
        self._rows: list[int] = []
        self._images: list[NDArray[Any]] = []

    def take(self, run: Run, count: int) -> None:
        """Keeps the newest batch's share of `count` rows; with several processes, only rows that this one computes."""
        batch, batches = run.batch, run.validation
        if self._not_images or batch is None or batches is None or not batches.rows or batch.indices is None:
            return
        wanted = np.unique(np.linspace(0, batches.rows - 1, count).astype(int))
        before = 0
        for shard in batch.shards:
            rows = batch.indices[before : before + shard.rows]
            before += shard.rows
            chosen = np.flatnonzero(np.isin(rows, wanted))
            if not chosen.size or not shard.inputs:
                continue
            pictures = run.task.pictures(shard.inputs[0].asnumpy()[chosen])
            if pictures is None:
                self._not_images = True
                return
            self._rows += rows[chosen].tolist()
            self._images += list(pictures)

    def figure(self, run: Run) -> Figure | None:
        """The images with their classes; None if there are no images or fewer than two classes.

        Rows beyond `--memory` are not kept: None.
        """
        evaluation = run.evaluation
        if not self._rows or evaluation is None or evaluation.split != "validation" or not evaluation.kept:
            return None
        predictions, labels = evaluation.predictions, evaluation.labels
        if predictions.ndim != 2 or predictions.shape[1] < 2:
            return None
        from trainer_plugins.report.charts import pictures

        numbers = labels.argmax(axis=1) if labels.shape == predictions.shape else labels.ravel().astype(int)
        rows = self._rows
        return pictures(np.stack(self._images), predictions[rows], numbers[rows], run.task.class_names())
