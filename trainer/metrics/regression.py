"""Numbers predicted by numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError
from trainer.metrics.base import Direction, Metric


class Regression(Metric):
    """`mean-absolute-error`, `root-mean-squared-error` and `r2`, over all elements of predictions and labels."""

    directions: ClassVar[Mapping[str, Direction]] = {
        "mean-absolute-error": "min",
        "root-mean-squared-error": "min",
        "r2": "max",
    }

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets every row."""
        self._weight = self._absolute = self._squared = self._mean = self._spread = 0.0

    def update(self, predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> None:
        """Takes in a batch; predictions and labels have the same number of elements."""
        rows = len(labels)
        predicted, actual = (np.asarray(part, np.float64).reshape(rows, -1) for part in (predictions, labels))
        if predicted.shape != actual.shape:
            raise UsageError(
                f"predictions have shape {predictions.shape}, labels {labels.shape}", where="regression metrics"
            )
        per_row = np.ones(rows) if weights is None else np.ravel(weights).astype(np.float64)
        spread = np.broadcast_to(per_row[:, None], actual.shape)
        total = float(spread.sum())
        if total == 0:
            return
        error = predicted - actual
        mean = float((spread * actual).sum() / total)
        self._merge(
            total,
            float((spread * np.abs(error)).sum()),
            float((spread * error**2).sum()),
            mean,
            float((spread * (actual - mean) ** 2).sum()),
        )

    def _merge(self, weight: float, absolute: float, squared: float, mean: float, spread: float) -> None:
        """Adds sums; the labels' spread around their mean by Chan, Golub and LeVeque (1979), which does not cancel."""
        if weight == 0:
            return
        both = self._weight + weight
        apart = mean - self._mean
        self._spread += spread + apart**2 * self._weight * weight / both
        self._mean += apart * weight / both
        self._absolute += absolute
        self._squared += squared
        self._weight = both

    def compute(self) -> dict[str, float]:
        """The values; `r2` is NaN where all labels are equal."""
        weight = self._weight or float("nan")
        return {
            "mean-absolute-error": self._absolute / weight,
            "root-mean-squared-error": float(np.sqrt(self._squared / weight)),
            "r2": 1 - self._squared / self._spread if self._spread > 0 else float("nan"),
        }

    def state(self) -> dict[str, NDArray[Any]]:
        """The sums."""
        return {"sums": np.array([self._weight, self._absolute, self._squared, self._mean, self._spread])}

    def add_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Adds the sums of another process."""
        self._merge(*state["sums"].tolist())
