"""Metrics of regression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError
from trainer.metrics.base import Direction, Metric


class Regression(Metric):
    """`mean-absolute-error`, `root-mean-squared-error` and `r2`, over all elements of predictions and labels.

    `r2` is 1 − the sum of squared errors ÷ the sum of squared differences of the labels from their mean. It is NaN if
    all labels are equal; scikit-learn returns 1 or 0 then.
    """

    directions: ClassVar[Mapping[str, Direction]] = {
        "mean-absolute-error": "min",
        "root-mean-squared-error": "min",
        "r2": "max",
    }

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._weight = self._absolute = self._squared = self._mean = self._spread = 0.0
        self._lowest, self._highest = float("inf"), float("-inf")

    def update(self, predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> None:
        """Adds a batch: predictions and labels (rows, …) with equally many elements, weights (rows,) or None.

        Raises UsageError for other shapes.
        """
        if predictions.size != labels.size or (weights is not None and weights.size != len(labels)):
            weighted = "" if weights is None else f", weights {weights.shape}"
            raise UsageError(
                f"predictions have shape {predictions.shape}, labels {labels.shape}{weighted}",
                where="regression metrics",
            )
        predicted, actual = (np.asarray(part, np.float64).ravel() for part in (predictions, labels))
        repeats = labels.size // max(len(labels), 1)
        spread = np.ones(labels.size) if weights is None else np.repeat(np.ravel(weights).astype(np.float64), repeats)
        # A weight of 0 excludes a row, even one with NaN or infinity.
        counted = spread > 0
        predicted, actual, spread = predicted[counted], actual[counted], spread[counted]
        if not spread.size:
            return
        # A diverged net predicts infinities, which the values show; a warning would only repeat that.
        with np.errstate(over="ignore", invalid="ignore"):
            total = float(spread.sum())
            error = np.abs(predicted - actual)
            mean = float((spread * actual).sum() / total)
            sums = [(spread * part).sum() for part in (error, error**2, (actual - mean) ** 2)]
        absolute, squared, around = map(float, sums)
        self._merge((total, absolute, squared, mean, around, float(actual.min()), float(actual.max())))

    def _merge(self, sums: Sequence[float]) -> None:
        """Adds sums; the labels' spread is updated without cancellation (Chan, Golub and LeVeque, 1979)."""
        weight, absolute, squared, mean, spread, lowest, highest = sums
        if weight == 0:
            return
        both = self._weight + weight
        apart = mean - self._mean
        # Not apart**2, which raises on overflow.
        self._spread += spread + apart * apart * (self._weight * weight / both)
        self._mean += apart * weight / both
        self._absolute += absolute
        self._squared += squared
        self._weight = both
        self._lowest, self._highest = min(self._lowest, lowest), max(self._highest, highest)

    def compute(self) -> dict[str, float]:
        # For equal labels the spread is a rounding error that depends on the batches; their range is exact.
        differ = self._lowest < self._highest and self._spread > 0
        weight = self._weight or float("nan")
        return {
            "mean-absolute-error": self._absolute / weight,
            "root-mean-squared-error": float(np.sqrt(self._squared / weight)),
            "r2": 1 - self._squared / self._spread if differ else float("nan"),
        }

    def state(self) -> dict[str, NDArray[Any]]:
        """`sums` (7,): weight, absolute and squared errors; the labels' mean, spread, minimum and maximum."""
        errors = [self._weight, self._absolute, self._squared]
        return {"sums": np.array([*errors, self._mean, self._spread, self._lowest, self._highest])}

    def add_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._merge(state["sums"].tolist())
