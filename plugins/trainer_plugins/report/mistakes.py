"""The worst mistakes on images: those whose wrong class has the highest probability, with their pictures."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import TrainerError

if TYPE_CHECKING:
    from trainer import Run

LARGEST = 112
"""Pixels of a picture's longer side."""


def worst_mistakes(run: Run, labels: NDArray[Any], count: int) -> list[dict[str, Any]]:
    """The worst mistakes of the newest evaluation as JSON values; empty if the task's inputs are not images.

    Loads the batches of these rows again. With several processes no process has all rows, and
    beyond `--memory` rows are not kept: the list is empty.
    """
    evaluation = run.evaluation
    batches = None if evaluation is None else getattr(run, evaluation.split, None)
    if not count or evaluation is None or not evaluation.kept or batches is None or run.processes.size > 1:
        return []
    if batches.rows is None or batches.batches_per_epoch is None:
        return []
    if run.task.pictures(np.asarray(batches.sample()[0].asnumpy())) is None:
        return []
    predictions, labels = evaluation.predictions, np.asarray(labels).ravel().astype(int)
    predicted = predictions.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    rows = wrong[np.argsort(-predictions[wrong, predicted[wrong]], kind="stable")][:count].tolist()
    try:
        pictures = {row: _picture(run, batches, row) for row in rows}
    except TrainerError:
        return []
    return [
        {
            "picture": _as_png(pictures[row]),
            "actual": int(labels[row]),
            "predicted": int(predicted[row]),
            "probability": float(predictions[row, predicted[row]]),
        }
        for row in rows
        if pictures[row] is not None
    ]


def _picture(run: Run, batches: Any, row: int) -> NDArray[np.uint8] | None:
    """One row's image, (height, width, 3): only the batch that it is in is loaded."""
    size = -(-batches.rows // batches.batches_per_epoch)
    batch = next(iter(batches.epoch(run.epoch, skip=row // size)), None)
    if batch is None or batch.indices is None or row not in batch.indices:
        return None
    place = int(np.flatnonzero(batch.indices == row)[0])
    for shard in batch.shards:
        if place < shard.rows:
            images = run.task.pictures(shard.inputs[0][place : place + 1].asnumpy())
            return None if images is None else np.asarray(images[0])
        place -= shard.rows
    return None


def _as_png(pixels: NDArray[np.uint8] | None) -> str:
    from PIL import Image

    assert pixels is not None  # noqa: S101  filtered before
    image = Image.fromarray(pixels)
    image.thumbnail((LARGEST, LARGEST))
    stream = io.BytesIO()
    image.save(stream, "png", optimize=True)
    return base64.b64encode(stream.getvalue()).decode("ascii")
