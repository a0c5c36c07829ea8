"""The rows of an evaluation with their predictions: all of them, their ranking, or a sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer import Evaluation, Run
from trainer.decisions import Pooled, Scored, folds_of
from trainer.metrics import BinaryClassification, MulticlassClassification
from trainer.seeds import derive

MOST = 1 << 16
"""With more rows, their ranking is used, which is pooled."""
FEWEST_SCORES = 1000
"""With fewer distinct scores, weighted rows that are only known ranked cannot be divided into folds."""


@dataclass(frozen=True)
class Newest:
    """What is known of the newest evaluation."""

    scored: Scored
    pooled: Pooled | None
    """Its ranking, if `scored` is made of that."""
    counts: NDArray[np.float64]
    """The rows of each class."""
    sampled: int
    """How many rows are used, if they are a sample; 0 otherwise."""
    resolution: float
    """How far from 0 and 1 the log loss clips probabilities."""

    def in_folds(self, run: Run, folds: int) -> tuple[Scored, NDArray[np.int64]]:
        """The rows and the fold of each. It is drawn from the seed, so it is the same in every evaluation."""
        seed = derive(run.settings.seed, "calibration")
        if self.pooled is not None:
            return self.pooled.in_folds(folds, np.random.default_rng(seed))
        return self.scored, folds_of(self.scored.labels, folds, seed)


def classes_of(run: Run) -> int:
    """How many columns its probabilities have: 1 for two classes; 0 if the predictions are not probabilities."""
    if any(isinstance(metric, BinaryClassification) for metric in run.task_metrics):
        return 1
    several = [metric for metric in run.task_metrics if isinstance(metric, MulticlassClassification)]
    judged = any("log-loss" in metric.directions for metric in several)
    return max(2, len(run.task.class_names())) if judged else 0


def newest(run: Run, evaluation: Evaluation) -> Newest:
    """The rows of an evaluation."""
    predictions, labels, weights = evaluation.sample
    dtype = predictions.dtype if predictions.dtype.kind == "f" else np.dtype(np.float64)
    resolution = float(np.finfo(dtype).eps)
    sampled = 0 if evaluation.kept else len(labels)
    if predictions.ndim < 2 or predictions.shape[1] == 1:
        ranking = None
        if not evaluation.kept or evaluation.rows > MOST:
            ranking = next((each for metric in run.task_metrics if (each := metric.ranking()) is not None), None)
        if ranking is not None and ranking.rows and not ranking.not_numbers:
            pooled = Pooled.of(ranking.points(), ranking.distinct, ranking.positives + ranking.negatives)
            if pooled.are_counts or ranking.distinct >= FEWEST_SCORES:
                scored = pooled.scored()
                counts = np.array([ranking.negatives, ranking.positives])
                return Newest(scored, pooled, counts, 0, resolution)
    scored = Scored.of_rows(predictions, labels, weights)
    counts = np.bincount(scored.labels, minlength=scored.classes).astype(np.float64)
    return Newest(scored, None, counts, sampled, resolution)
