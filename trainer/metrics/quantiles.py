"""Metrics of predicted quantiles, and another metric of one column of the predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError
from trainer.metrics.base import Direction, Metric
from trainer.metrics.names import Around
from trainer.metrics.regression import rows_of


class Quantiles(Metric):
    """The `pinball-loss` of predicted quantiles, and their `coverage/Q`.

    Predictions are (rows, quantiles), labels (rows,). The pinball loss is the mean over rows and quantiles, like
    scikit-learn's `mean_pinball_loss`; with several quantiles there is also `pinball-loss/Q` of each. `coverage/Q` is
    the share of rows whose label is not above the prediction, close to Q for a good one. Weights count rows.
    """

    def __init__(self, quantiles: Sequence[float]) -> None:
        if not quantiles or not all(0 < each < 1 for each in quantiles):
            raise UsageError(f"the quantiles are {tuple(quantiles)}", fix="Use numbers between 0 and 1.")
        self.quantiles = np.array(quantiles, np.float64)
        self.reset()

    @property
    def directions(self) -> Mapping[str, Direction]:  # type: ignore[override]
        return dict.fromkeys(["pinball-loss", *self._of_each()], "min")

    def _of_each(self) -> list[str]:
        return [f"pinball-loss/{each!r}" for each in self.quantiles.tolist()] if len(self.quantiles) > 1 else []

    def reset(self) -> None:
        self._weight = 0.0
        self._losses, self._below = np.zeros(len(self.quantiles)), np.zeros(len(self.quantiles))

    def update(self, predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> None:
        """Adds a batch: predictions (rows, quantiles), labels (rows,), weights (rows,) or None.

        Raises UsageError for other shapes.
        """
        predicted, actual, own = rows_of(predictions, labels, weights, columns=len(self.quantiles))
        with np.errstate(over="ignore", invalid="ignore"):
            error = actual[:, np.newaxis] - predicted
            losses = np.maximum(self.quantiles * error, (self.quantiles - 1) * error)
            self._losses += own @ losses
        self._below += own @ (error <= 0)
        self._weight += float(own.sum())

    def compute(self) -> dict[str, float]:
        weight = self._weight or float("nan")
        found = {"pinball-loss": float(self._losses.mean() / weight)}
        found |= dict(zip(self._of_each(), (self._losses / weight).tolist(), strict=False))
        shares = zip(self.quantiles.tolist(), (self._below / weight).tolist(), strict=True)
        return found | {f"coverage/{quantile!r}": share for quantile, share in shares}

    def state(self) -> dict[str, NDArray[Any]]:
        """The sums: `losses` and `below` (quantiles,), `weight` (1,)."""
        return {"losses": self._losses.copy(), "below": self._below.copy(), "weight": np.array([self._weight])}

    def add_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._losses += state["losses"]
        self._below += state["below"]
        self._weight += float(state["weight"][0])


class OfColumn(Around):
    """Another metric of one column of the predictions, such as that of the median among several quantiles."""

    def __init__(self, metric: Metric, column: int) -> None:
        super().__init__(metric)
        self._column = column

    def update(self, predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> None:
        """Adds a batch: predictions (rows, columns)."""
        super().update(predictions[:, self._column], labels, weights)
