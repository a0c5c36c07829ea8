"""Rows in folds, and ranked rows without those of a fold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.decisions.thresholds import Partitions, best_thresholds, bounds_of
from trainer.evaluation import scrambled
from trainer.metrics.ranked import POINTS, Points, Ranking

Vector = NDArray[np.float64]
SHUFFLED = 1 << 20
"""Rows up to which folds are drawn by shuffling them."""


def folds_of(labels: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """A fold for each row, (rows,): every class is divided as evenly as possible, in an order drawn from the seed."""
    generator = np.random.default_rng(seed)
    found = np.empty(len(labels), np.int64)
    first = 0
    for each in np.unique(labels).tolist():
        places = np.flatnonzero(labels == each)
        # The next class continues where this one ended, so that the folds have the same size.
        found[generator.permutation(places)] = (first + np.arange(len(places))) % folds
        first += len(places)
    return found


class Folded:
    """Ranked rows without weights, in folds: how many rows of each class a fold has at or above each score."""

    def __init__(self, ranking: Ranking, folds: int, seed: int) -> None:
        self._ranking, self._folds = ranking, folds
        self._numbers: list[NDArray[np.int64]] | None = None
        self._seed = seed
        if ranking.rows <= SHUFFLED:
            positive = np.arange(int(ranking.positives + ranking.negatives)) < ranking.positives
            numbers = folds_of(positive.astype(np.int64), folds, seed)
            self._numbers = [numbers[~positive], numbers[positive]]

    def best(self, objective: str, requirements: Mapping[str, float]) -> Vector:
        """The best threshold for the rows of the other folds, (folds,); NaN if there is none."""
        if self._ranking.distinct <= POINTS:
            points, own = next(self.blocks())
            bounds = bounds_of(points.probabilities)
            true, false = (
                np.concatenate((np.zeros((self._folds, 1)), all_rows - of_fold), axis=1)
                for all_rows, of_fold in ((points.true, own[1]), (points.false, own[0]))
            )
            return best_thresholds(bounds, true, false, objective, requirements)
        choices = [
            Partitions(_WithoutFold(self, self._ranking, fold)).best(objective, requirements)
            for fold in range(self._folds)
        ]
        return np.array([np.nan if choice is None else choice.threshold for choice in choices])

    def above(self, thresholds: Vector) -> Vector:
        """The rows of class 0 and 1 of each fold above its threshold, (2, folds)."""
        found = np.zeros((2, self._folds))
        for points, own in self.blocks():
            places = np.searchsorted(-points.probabilities, -thresholds, "left")
            for fold, place in enumerate(places):
                if place:
                    found[:, fold] = own[:, fold, place - 1]
        return found

    def blocks(self) -> Iterator[tuple[Points, Vector]]:
        """The points of the ranking, with the rows of class 0 and 1 of each fold at or above each: (2, folds, n)."""
        before = np.zeros((2, self._folds))
        ended = [0, 0]
        for points in self._ranking.points():
            own = np.empty((2, self._folds, len(points)))
            for label, sums in enumerate((points.false, points.true)):
                end = int(sums[-1])
                numbers = self._numbers_of(label, ended[label], end)
                places = sums.astype(np.int64) - ended[label]
                for fold in range(self._folds):
                    counted = np.concatenate(([0], np.cumsum(numbers == fold)))
                    own[label, fold] = before[label, fold] + counted[places]
                ended[label] = end
            before = own[:, :, -1]
            yield points, own

    def _numbers_of(self, label: int, start: int, end: int) -> NDArray[Any]:
        """The folds of the rows of a class with these numbers, by falling score."""
        if self._numbers is not None:
            return self._numbers[label][start:end]
        offset = np.uint64((2 * self._seed + label) << 32)
        return (scrambled(np.arange(start, end, dtype=np.uint64) + offset) % np.uint64(self._folds)).astype(np.int64)


class _WithoutFold(Ranking):
    """The rows of a ranking that are not in a fold."""

    def __init__(self, folded: Folded, ranking: Ranking, fold: int) -> None:
        self._folded, self._fold = folded, fold
        negatives, positives = folded.above(np.full(fold + 1, -np.inf))[:, fold]
        self.distinct, self.not_numbers = ranking.distinct, 0
        self.positives, self.negatives = ranking.positives - positives, ranking.negatives - negatives
        self.rows = int(self.positives + self.negatives)

    def points(self) -> Iterator[Points]:
        for points, own in self._folded.blocks():
            false, true = own[:, self._fold]
            yield Points(points.probabilities, points.true - true, points.false - false)

    def at(self, places: NDArray[np.int64]) -> Points:
        raise NotImplementedError

    def cells(self, threshold: float) -> Vector:
        raise NotImplementedError

    def mapped(self, function: Callable[[Vector], Vector]) -> Ranking:
        raise NotImplementedError
