"""Judges a choice of the threshold on rows that had no part in it, and whether it beats the given threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.decisions.folds import Folded, folds_of
from trainer.decisions.resampling import interval, resampled_cells, resampled_counts, times_drawn
from trainer.decisions.thresholds import (
    OBJECTIVES,
    Counts,
    Resamples,
    fbeta,
    matthews,
)
from trainer.metrics.ranked import Ranking, at_threshold

Vector = NDArray[np.float64]
FOLDS = 5
DRAWS = 1000
"""Paired resamples that decide between two thresholds."""
NO_REQUIREMENT = {"min_precision": 0.0, "min_recall": 0.0, "max_fpr": 1.0}


@dataclass(frozen=True)
class Gain:
    """How much better the objective is with tuning than at the given threshold, out of fold.

    `low` and `high` are its paired bootstrap interval. `enough` is about how many rows would tell a difference of this
    size from 0, since an interval's width falls with the root of their number; infinite if there is no gain.
    """

    value: float
    low: float
    high: float
    enough: float

    @property
    def is_real(self) -> bool:
        """Whether the interval lies above 0."""
        return self.low > 0


@dataclass(frozen=True)
class CrossFitted:
    """Out-of-fold decisions: each row is decided by a threshold that was chosen without the rows of its fold.

    What is kept of them are numbers of rows, or sums of weights.
    """

    rows: int
    sums: Vector
    """The summed weights of the rows, (8,): 4 × class + 2 × decision + decision at the given threshold."""
    weighted: tuple[NDArray[np.int64], Vector] | None = None
    """The number of the sum that each row is in, and its weight; None if the sums are numbers of rows."""

    @property
    def cells(self) -> Vector:
        """[true −, false +, false −, true +] of the out-of-fold decisions: sums of weights."""
        return _decided(self.sums)

    def metrics(self) -> dict[str, float]:
        """The metrics of the out-of-fold decisions, as `binary_metrics_at` names them."""
        return at_threshold(*self.cells.tolist())

    def gain(
        self,
        objective: str,
        requirements: Mapping[str, float],
        *,
        confidence: float,
        generator: np.random.Generator,
    ) -> Gain | None:
        """The gain by tuning; None if the given threshold does not meet the objective's requirement on these rows."""
        judge = OBJECTIVES[objective]
        if not np.isfinite(judge(_counts(_given(self.sums)), requirements)):
            return None
        # Both meet the requirement, as far as these rows can tell: what remains is compared.
        free = {**requirements, **NO_REQUIREMENT}

        def gains(sums: Vector) -> Vector:
            return judge(_counts(_decided(sums)), free) - judge(_counts(_given(sums)), free)

        value = float(gains(self.sums))
        if value <= 0:
            return Gain(value, np.nan, np.nan, np.inf)
        drawn = (
            resampled_counts(self.sums, DRAWS, generator)
            if self.weighted is None
            else resampled_cells(*self.weighted, 8, DRAWS, generator)
        )
        found = gains(drawn)
        low, high = interval(found, confidence)
        return Gain(value, low, high, self.rows * ((high - low) / 2 / value) ** 2)


def cross_fitted(
    ranking: Ranking,
    objective: str,
    requirements: Mapping[str, float],
    *,
    given: float,
    seed: int,
    folds: int = FOLDS,
) -> CrossFitted | None:
    """Decides rows without weights by the best threshold for the other folds; None if a class has too few rows.

    Folds have the same share of each class, drawn from `seed`; beyond SHUFFLED rows the shares are equal up to chance.
    The ranking is enough for that: rows of the same class and score are as good as each other. If no threshold meets
    the requirement on the other folds, a fold is decided by the `given` threshold.
    """
    if min(ranking.positives, ranking.negatives) < folds:
        return None
    folded = Folded(ranking, folds, seed)
    thresholds = folded.best(objective, requirements)
    thresholds = np.where(np.isnan(thresholds), given, thresholds)
    # Above the higher threshold, between the two, and below: of each fold, by class.
    sums = np.zeros(8)
    at_given = folded.above(np.full(folds, given))
    at_tuned = folded.above(thresholds)
    whole = folded.above(np.full(folds, -np.inf))
    for label in (0, 1):
        both = np.minimum(at_given[label], at_tuned[label])
        sums[4 * label : 4 * label + 4] = (
            (whole[label] - np.maximum(at_given[label], at_tuned[label])).sum(),
            (at_given[label] - both).sum(),
            (at_tuned[label] - both).sum(),
            both.sum(),
        )
    return CrossFitted(ranking.rows, sums)


class CrossFitting:
    """The choice of a threshold for rows in memory, repeated without the rows of each fold.

    Folds have the same share of each class, drawn from `seed`. If no threshold meets the requirement on the other
    folds, a fold is decided by the `given` threshold.
    """

    def __init__(
        self,
        scores: NDArray[Any],
        labels: NDArray[Any],
        weights: NDArray[Any] | None,
        objective: str,
        requirements: Mapping[str, float],
        *,
        given: float,
        seed: int,
        folds: int = FOLDS,
    ) -> None:
        self._scores = np.asarray(scores, np.float64).ravel()
        self._positive = np.asarray(labels).ravel() > 0.5
        self._weights = None if weights is None else np.asarray(weights, np.float64).ravel()
        self._objective, self._requirements, self._given = objective, requirements, given
        self._resamples = Resamples(self._scores, self._positive)
        positives = np.count_nonzero(self._positive)
        self.smallest = min(positives, len(self._positive) - positives)
        """The rows of the rarer class."""
        self.can_fold = self.smallest >= folds
        self._folds = folds
        numbers = folds_of(self._positive.astype(np.int64), folds, seed)
        self._held = [numbers == fold for fold in range(folds)] if self.can_fold else []

    def decisions(self) -> CrossFitted:
        """Each row decided by the best threshold for the rows of the other folds, which need a row of each class."""
        own = np.ones(len(self._scores)) if self._weights is None else self._weights
        decided = self._decided(self._thresholds(np.array([np.where(held, 0.0, own) for held in self._held])))
        positive, above, given = (
            each.astype(np.int64) for each in (self._positive, decided, self._scores > self._given)
        )
        cells = 4 * positive + 2 * above + given
        return CrossFitted(len(cells), np.bincount(cells, own, minlength=8).astype(np.float64), (cells, own))

    def intervals(
        self, draws: int, confidence: float, generator: np.random.Generator, found: CrossFitted | None
    ) -> tuple[tuple[float, float], dict[str, tuple[float, float]]]:
        """Intervals of the threshold and, if `found` are the rows' decisions, of each cross-fitted metric, at a level.

        The threshold's are percentiles over resamples of the rows. A metric's is for its value on new rows at the
        threshold chosen on all of these: in each resample, the cross-fitted metric is compared with what the
        resample's threshold gives on the rows themselves, and the normal interval with the bias and the deviation of
        these differences is taken (Davison and Hinkley, 1997, 5.2). All rows drawn of one row are in one fold.
        """
        thresholds, judged, true = [], [], []
        rows = len(self._scores)
        own = np.ones(rows) if self._weights is None else self._weights
        for times in times_drawn(rows, draws, generator):
            weights = own * times
            chosen = self._thresholds(np.vstack([weights, *(np.where(held, 0.0, weights) for held in self._held)]))
            thresholds.append(chosen[0])
            if found is not None:
                judged.append(self._cells(self._decided(chosen[1:]), weights))
                true.append(self._cells(self._scores > self._or_given(chosen[:1]), self._weights))
        ends = {}
        if found is not None:
            from scipy.special import ndtri

            width = float(ndtri((1 + confidence) / 2))
            of_resamples, on_rows = rates(np.array(judged)), rates(np.array(true))
            for name, value in rates(found.cells).items():
                apart = of_resamples[name] - on_rows[name]
                middle, half = float(value) - float(apart.mean()), width * float(apart.std())
                least = -1.0 if name == "matthews-correlation" else 0.0
                ends[name] = max(middle - half, least), min(middle + half, 1.0)
        return interval(np.array(thresholds), confidence), ends

    def _thresholds(self, weights: Vector) -> Vector:
        return self._resamples.thresholds(weights, self._objective, self._requirements)

    def _or_given(self, thresholds: Vector) -> Vector:
        return np.where(np.isnan(thresholds), self._given, thresholds)

    def _decided(self, thresholds: Vector) -> NDArray[np.bool_]:
        """The rows of each fold decided by its threshold."""
        decided = np.empty(len(self._scores), bool)
        for held, threshold in zip(self._held, self._or_given(thresholds), strict=True):
            decided[held] = self._scores[held] > threshold
        return decided

    def _cells(self, decided: NDArray[np.bool_], weights: Vector | None) -> Vector:
        return np.bincount(2 * self._positive + decided, weights, minlength=4).astype(np.float64)


def rates(cells: Vector) -> dict[str, Vector]:
    """The metrics between 0 and 1, and the correlation, of [true −, false +, false −, true +], (…, 4)."""
    counts = _counts(cells)
    return {
        "accuracy": OBJECTIVES["accuracy"](counts, {}),
        "f1": fbeta(counts, 1.0),
        "precision": counts.precision,
        "recall": counts.recall,
        "matthews-correlation": matthews(counts),
    }


def _counts(cells: Vector) -> Counts:
    tn, fp, fn, tp = np.moveaxis(cells, -1, 0)
    return Counts(tp=tp, fp=fp, fn=fn, tn=tn)


def _decided(sums: Vector) -> Vector:
    found: Vector = sums.reshape(*sums.shape[:-1], 4, 2).sum(axis=-1)
    return found


def _given(sums: Vector) -> Vector:
    found: Vector = sums.reshape(*sums.shape[:-1], 2, 2, 2).sum(axis=-2)
    return found.reshape(*sums.shape[:-1], 4)
