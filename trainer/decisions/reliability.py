"""How far predicted probabilities are from the shares that are observed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.decisions.scored import Scored

Vector = NDArray[np.float64]
BINS = 15
"""As Guo et al. (2017) use."""


@dataclass(frozen=True)
class Reliability:
    """Rows in bins of about equal weight by rising probability, each (bins,)."""

    predicted: Vector
    """The mean probability."""
    observed: Vector
    """The share of rows that are of the class."""
    weights: Vector
    """The summed weights."""
    rows: Vector
    """To how many rows of equal weight the bin amounts (Kish, 1965)."""

    @classmethod
    def of(cls, rows: Scored, probabilities: NDArray[Any] | None = None, bins: int = BINS) -> Reliability:
        """That of probabilities of rows, by default their own.

        Two classes: of class 1. Several: of the likeliest class, with the share of rows that are of it. Rows of one
        probability are in one bin, so there may be fewer than `bins`.
        """
        given = np.asarray(rows.probabilities if probabilities is None else probabilities, np.float64)
        if given.ndim == 2:
            right = given.argmax(axis=1) == rows.labels
            given = given.max(axis=1)
        else:
            right = rows.labels == 1
        order = np.argsort(given, kind="stable")
        scores, hits, weights, squares = given[order], right[order], rows.weights[order], rows.squares[order]
        weighty = weights > 0
        scores, hits, weights, squares = scores[weighty], hits[weighty], weights[weighty], squares[weighty]
        if not len(scores):
            return cls(*(np.empty(0) for _ in range(4)))
        reached = np.cumsum(weights)
        numbers = np.minimum(((reached - weights / 2) / reached[-1] * bins).astype(np.int64), bins - 1)
        # Rows of equal probability are in the bin of the first of them.
        first = np.append(True, scores[1:] != scores[:-1])
        numbers = numbers[first][np.cumsum(first) - 1]
        starts = np.flatnonzero(np.append(True, numbers[1:] != numbers[:-1]))
        total = np.add.reduceat(weights, starts)
        return cls(
            np.add.reduceat(weights * scores, starts) / total,
            np.add.reduceat(weights * hits, starts) / total,
            total,
            total * total / np.add.reduceat(squares, starts),
        )

    @property
    def ece(self) -> float:
        """The expected calibration error: the root of the mean squared difference of predicted and observed shares.

        Chance makes shares of few rows differ. That part, the variance of each share, is subtracted (Kumar, Liang and
        Ma, 2019, "Verified uncertainty calibration"; Ferro and Fricker, 2012, of the Brier score). If nothing is left,
        it is 0. NaN if no bin has two rows, or a probability is.
        """
        known = self.rows > 1
        if not known.any() or np.isnan(self.predicted).any():
            return float("nan")
        observed, weights, rows = self.observed[known], self.weights[known], self.rows[known]
        squares = (self.predicted[known] - observed) ** 2 - observed * (1 - observed) / (rows - 1)
        return float(np.sqrt(max(0.0, float(np.dot(weights, squares) / weights.sum()))))

    def intervals(self, errors: float = 1.96) -> tuple[Vector, Vector]:
        """Bounds of the observed shares, of about 95 % (Wilson, 1927)."""
        square, rows = errors * errors, self.rows
        middle = (self.observed + square / (2 * rows)) / (1 + square / rows)
        half = errors * np.sqrt(self.observed * (1 - self.observed) / rows + square / (4 * rows * rows))
        half /= 1 + square / rows
        return middle - half, middle + half
