"""Rows with a predicted probability and a class: what calibrators are fitted on and reliability is measured on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
MOST = 1 << 16
"""More distinct scores are pooled into so many groups of equal weight."""


@dataclass(frozen=True)
class Scored:
    """Rows, or groups of rows of the same class and nearly the same probability."""

    probabilities: NDArray[Any]
    """Of class 1, (n,), or of each class, (n, classes)."""
    labels: NDArray[np.int64]
    """Class numbers, (n,)."""
    weights: Vector
    """Summed weights, (n,)."""
    squares: Vector
    """Summed squares of the weights, (n,): how much a mean over the rows varies."""

    @classmethod
    def of_rows(cls, probabilities: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> Scored:
        """One for each row with weight. Labels are class numbers, or one-hot if there is a column for each class."""
        several = probabilities.ndim == 2 and probabilities.shape[1] > 1
        if several and labels.shape == probabilities.shape:
            labels = labels.argmax(axis=1)
        numbers = np.ravel(labels).astype(np.int64)
        own = np.ones(len(numbers)) if weights is None else np.asarray(weights, np.float64).ravel()
        given = probabilities if several else np.ravel(probabilities)
        scored = cls(given, numbers, own, own * own)
        return scored if weights is None or own.all() else scored.take(own > 0)

    def take(self, chosen: NDArray[Any]) -> Scored:
        """Some of them: numbers, or a mask."""
        return Scored(self.probabilities[chosen], self.labels[chosen], self.weights[chosen], self.squares[chosen])

    @property
    def classes(self) -> int:
        """The number of classes."""
        return self.probabilities.shape[1] if self.probabilities.ndim == 2 else 2

    def mean(self, values: Vector) -> float:
        """The weighted mean of a value per row; NaN without weight."""
        total = float(self.weights.sum())
        return float(np.dot(self.weights, values)) / total if total else float("nan")

    def log_losses(self, probabilities: NDArray[Any], resolution: float) -> Vector:
        """Minus the logarithm of the class's probability, clipped by `resolution` as in the metric `log-loss`."""
        found = np.asarray(probabilities, np.float64)
        own = (
            found[np.arange(len(found)), self.labels]
            if found.ndim == 2
            else np.where(self.labels == 1, found, 1 - found)
        )
        losses: Vector = -np.log(own.clip(resolution, 1 - resolution))
        return losses

    def squared_errors(self, probabilities: NDArray[Any]) -> Vector:
        """The squared difference of probability and label (Brier, 1950), summed over the classes if they are several.

        For two classes it is that of class 1 alone, as in the metric `brier-score`.
        """
        found = np.asarray(probabilities, np.float64)
        if found.ndim == 1:
            off: Vector = (found - self.labels) ** 2
            return off
        rows = np.arange(len(found))
        total: Vector = np.square(found).sum(axis=1) - 2 * found[rows, self.labels] + 1
        return total


@dataclass(frozen=True)
class Pooled:
    """Ranked rows of two classes, as scores with the weights of each class: all there is to know of them."""

    probabilities: Vector
    positive: Vector
    negative: Vector

    @classmethod
    def of(cls, points: Iterable[Any], distinct: int, total: float, most: int = MOST) -> Pooled:
        """The points of a ranking. More than `most` are pooled: neighbours of about equal weight, at their mean."""
        sums = np.zeros((3, most)) if distinct > most else None
        parts: list[NDArray[np.float64]] = []
        above = np.zeros(2)
        for part in points:
            positive, negative = (
                np.diff(each, prepend=first) for each, first in zip((part.true, part.false), above, strict=True)
            )
            before = part.true + part.false - positive - negative
            above = np.array([part.true[-1], part.false[-1]])
            if sums is None:
                parts.append(np.stack([part.probabilities, positive, negative]))
                continue
            groups = np.minimum((before / total * most).astype(np.int64), most - 1)
            both = positive + negative
            for number, values in enumerate((part.probabilities * both, positive, negative)):
                sums[number] += np.bincount(groups, values, minlength=most)
        if sums is None:
            return cls(*(np.concatenate(parts, axis=1) if parts else np.empty((3, 0))))
        used = sums[1] + sums[2] > 0
        scores, positive, negative = sums[:, used]
        return cls(scores / (positive + negative), positive, negative)

    @property
    def are_counts(self) -> bool:
        """Whether the rows have no weights."""
        return all(bool((each == np.floor(each)).all()) for each in (self.positive, self.negative))

    def scored(self) -> Scored:
        """The groups of class 1, then those of class 0."""
        return _scored(self.probabilities, self.positive, self.negative, counts=self.are_counts)

    def in_folds(self, folds: int, generator: np.random.Generator) -> tuple[Scored, NDArray[np.int64]]:
        """The groups, divided at random into folds, and the fold of each part.

        Rows of one score and class cannot be told apart, so a count is divided as if each row drew its fold. With
        weights, the rows of a group stay together.
        """
        if not self.are_counts:
            scored = self.scored()
            return scored, generator.integers(0, folds, len(scored.labels))
        shares = [
            generator.multinomial(each.astype(np.int64), [1 / folds] * folds).T.astype(np.float64)
            for each in (self.positive, self.negative)
        ]
        parts = [_scored(self.probabilities, *(share[fold] for share in shares), counts=True) for fold in range(folds)]
        numbers = np.repeat(np.arange(folds), [len(part.labels) for part in parts])
        columns = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("probabilities", "labels", "weights", "squares")
        )
        return Scored(*columns), numbers


def _scored(probabilities: Vector, positive: Vector, negative: Vector, *, counts: bool) -> Scored:
    scores = np.concatenate([probabilities, probabilities])
    labels = np.repeat([1, 0], len(probabilities))
    weights = np.concatenate([positive, negative])
    kept = weights > 0
    own = weights[kept]
    return Scored(scores[kept], labels[kept], own, own if counts else own * own)
