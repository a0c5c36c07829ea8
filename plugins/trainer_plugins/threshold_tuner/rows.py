"""The rows of an evaluation as the tuner sees them: by their calibrated probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer import Evaluation, Run
from trainer.metrics import Ranking
from trainer_plugins.decided_rows import ranked


@dataclass(frozen=True)
class Scored:
    """All rows, ranked, and the rows themselves: all that are kept, beyond memory a sample of them, or none."""

    rows: int
    ranking: Ranking
    scores: NDArray[np.float64]
    labels: NDArray[Any]
    weights: NDArray[Any] | None

    @classmethod
    def of(cls, run: Run, evaluation: Evaluation) -> Scored:
        """The newest evaluation, calibrated as the saved model does it."""
        predictions, labels, weights = evaluation.sample
        scores = np.asarray(run.calibrated(predictions), np.float64).ravel()
        return cls(evaluation.rows, ranked(run), scores, labels, weights)

    @property
    def has_all_rows(self) -> bool:
        """Whether no row is missing in the arrays."""
        return len(self.labels) == self.rows

    @property
    def differ_in_weight(self) -> bool:
        """Whether some rows count more than others."""
        return self.weights is not None and bool(len(self.weights)) and bool(np.ptp(self.weights) > 0)

    def metrics_at(self, split: str, threshold: float) -> dict[str, float]:
        """The metrics at a threshold as they are logged."""
        return {f"{split}/tuned-{name}": value for name, value in self.ranking.metrics_at(threshold).items()}
