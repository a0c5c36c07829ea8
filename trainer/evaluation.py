"""The evaluation of one split: predictions, labels, weights and losses of its rows, collected over batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True)
class Evaluation:
    """A net's results for one split, on the host: the source of every metric and of threshold tuning.

    `predictions` is what the task makes of the net's outputs, (rows, …); `labels` is (rows, …); `weights` (rows,) or
    None; `loss` the mean over the rows (weighted, if there are weights). If the task sets `collect` to False, for
    splits whose predictions do not fit in memory, the three arrays are empty.
    """

    split: str
    predictions: NDArray[Any]
    labels: NDArray[Any]
    weights: NDArray[Any] | None
    loss: float


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows on the host, from which metrics and the mean loss are computed."""

    predictions: NDArray[Any]
    """(rows, …)"""
    labels: NDArray[Any]
    """(rows, …)"""
    weights: NDArray[Any] | None
    """(rows,), or None if every row counts as 1."""
    losses: NDArray[Any]
    """(rows,), multiplied by the rows' weights; empty if unknown."""

    @property
    def weight(self) -> float:
        """The sum of the weights, in float64."""
        return len(self.labels) if self.weights is None else float(self.weights.sum(dtype=np.float64))

    @property
    def loss(self) -> float:
        """The sum of the losses, in float64."""
        losses = self.losses
        if self.weights is not None and losses.size == self.weights.size:
            losses = np.where(self.weights.reshape(losses.shape) == 0, 0, losses)  # 0 times NaN is NaN
        return float(losses.sum(dtype=np.float64))

    def take(self, rows: NDArray[np.int64]) -> Rows:
        """The rows with these indices, in that order; an index may repeat."""
        weights = None if self.weights is None else self.weights[rows]
        losses = self.losses[rows] if len(self.losses) else self.losses
        return Rows(self.predictions[rows], self.labels[rows], weights, losses)


def joined(parts: Sequence[Rows]) -> Rows:
    """The rows of all parts, in order; empty arrays if there are no parts."""
    if not parts:
        return Rows(np.empty(0), np.empty(0), None, np.empty(0))
    if len(parts) == 1:
        return parts[0]
    weights = [part.weights for part in parts if part.weights is not None]
    return Rows(
        np.concatenate([part.predictions for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate(weights) if weights else None,
        np.concatenate([part.losses for part in parts]),
    )


class MeanLoss:
    """The mean loss over rows that arrive in parts."""

    def __init__(self) -> None:
        self._total = self._weight = 0.0

    def add(self, rows: Rows) -> None:
        """Adds the losses of some rows."""
        self._total += rows.loss
        self._weight += rows.weight

    @property
    def value(self) -> float:
        """The mean per row, or per unit of weight; NaN without rows."""
        return self._total / self._weight if self._weight else float("nan")


@contextmanager
def evaluation_weights(run: Any) -> Iterator[None]:
    """Swaps in the weights that a plugin wants to be evaluated, and swaps them back even after an error."""
    weights = run.evaluation_weights
    if weights is None:
        yield
        return
    run.exchange_weights(weights)
    try:
        yield
    finally:
        run.exchange_weights(weights)
