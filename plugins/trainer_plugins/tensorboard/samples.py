"""Some images of an evaluation, with what the net says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Samples:
    """Rows of one evaluation, spread over all of it, as images; nothing for tasks whose inputs are none."""

    def __init__(self) -> None:
        self._rows: list[int] = []
        self._images: list[NDArray[Any]] = []
        self._none = False

    def take(self, run: Run, count: int) -> None:
        """Those of the newest batch that are wanted; of several processes, those that this one computes."""
        batch, batches = run.batch, run.validation
        if self._none or batch is None or batches is None or not batches.rows or batch.indices is None:
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
                self._none = True
                return
            self._rows += rows[chosen].tolist()
            self._images += list(pictures)

    def figure(self, run: Run) -> Figure | None:
        """The images with their classes; None where there are none, or no classes are told apart."""
        evaluation = run.evaluation
        if not self._rows or evaluation is None or evaluation.split != "validation":
            return None
        predictions, labels = evaluation.predictions, evaluation.labels
        if predictions.ndim != 2 or predictions.shape[1] < 2:
            return None
        from trainer_plugins.report.figures import pictures

        numbers = labels.argmax(axis=1) if labels.shape == predictions.shape else labels.ravel().astype(int)
        rows = self._rows
        return pictures(np.stack(self._images), predictions[rows], numbers[rows], run.task.class_names())
