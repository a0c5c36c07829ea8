"""Metrics of regression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError
from trainer.metrics.base import Direction, Metric
from trainer.metrics.memory import UNLIMITED, Memory
from trainer.metrics.ranked import Part
from trainer.metrics.sorted_rows import SortedRows


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


class MedianAbsoluteError(Metric):
    """`median-absolute-error` of predictions and labels (rows,), like scikit-learn's; it keeps an error per row.

    The median of an even number of rows is the mean of the middle two. A row of weight 2 counts like two rows.
    Rows that need more memory than `keep_within` allows are in temporary files, 8 bytes each (17 with weights).
    """

    directions: ClassVar[Mapping[str, Direction]] = {"median-absolute-error": "min"}

    def __init__(self) -> None:
        self._memory = UNLIMITED
        self.reset()

    def keep_within(self, memory: Memory) -> None:
        self._memory = memory

    def reset(self) -> None:
        self._rows = SortedRows(self._memory)
        self._weight: float | None = None
        """The weight of all rows, if it is the same."""

    def update(self, predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> None:
        """Adds a batch: predictions and labels (rows,), weights (rows,) or None. Raises UsageError for other shapes."""
        predicted, actual, own = rows_of(predictions, labels, weights)
        with np.errstate(invalid="ignore"):
            self._add(np.abs(predicted[:, 0] - actual), own)

    def _add(self, errors: NDArray[np.float64], weights: NDArray[np.float64]) -> None:
        if not len(errors):
            return
        weight = float(weights[0])
        if (self._rows.rows and self._weight != weight) or not (weights == weight).all():
            self._weight = None
        elif not self._rows.rows:
            self._weight = weight
        is_one = self._weight == 1
        self._rows.add(Part(errors, np.ones(len(errors), bool), None if is_one else weights.copy()))

    def compute(self) -> dict[str, float]:
        return {"median-absolute-error": _median(self._rows, weighted=self._weight is None)}

    def state(self) -> dict[str, NDArray[Any]]:
        """`errors` and `weights`, both (rows,). Reads rows that are in temporary files back into memory."""
        parts = list(self._rows.unsorted())
        weights = [np.ones(len(part.scores)) if part.weights is None else part.weights for part in parts]
        return {"errors": np.concatenate([part.scores for part in parts]), "weights": np.concatenate(weights)}

    def add_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._add(state["errors"], state["weights"])


class PoissonDeviance(Metric):
    """`poisson-deviance`, the mean of 2 × (y log(y / m) - y + m) over labels y ≥ 0 and predicted means m > 0.

    Predictions and labels are (rows,), as in scikit-learn's `mean_poisson_deviance`. It is infinite if a predicted mean
    of 0 meets a label above 0, and NaN for a negative one.
    """

    directions: ClassVar[Mapping[str, Direction]] = {"poisson-deviance": "min"}

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._total = self._weight = 0.0

    def update(self, predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> None:
        """Adds a batch: predictions and labels (rows,), weights (rows,) or None. Raises UsageError for other shapes."""
        predicted, actual, own = rows_of(predictions, labels, weights)
        mean, is_zero = predicted[:, 0], actual == 0
        with np.errstate(all="ignore"):
            ratio = np.where(is_zero, 1.0, actual) / mean
            deviances = 2 * np.where(is_zero, mean, actual * np.log(ratio) - actual + mean)
            deviances[(mean < 0) | (actual < 0)] = np.nan
            self._total += float(own @ deviances)
        self._weight += float(own.sum())

    def compute(self) -> dict[str, float]:
        return {"poisson-deviance": self._total / self._weight if self._weight else float("nan")}

    def state(self) -> dict[str, NDArray[Any]]:
        """`sums` (2,): deviances and weights."""
        return {"sums": np.array([self._total, self._weight])}

    def add_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        total, weight = state["sums"].tolist()
        self._total, self._weight = self._total + total, self._weight + weight


def rows_of(
    predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None, *, columns: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Predictions (rows, columns), labels (rows,) and weights (rows,) as float64, without the rows of weight 0.

    Raises UsageError for other shapes.
    """
    rows = labels.size
    if predictions.size != rows * columns or (weights is not None and weights.size != rows):
        weighted = "" if weights is None else f", weights {weights.shape}"
        raise UsageError(
            f"predictions have shape {predictions.shape}, labels {labels.shape}{weighted}", where="regression metrics"
        )
    predicted = np.asarray(predictions, np.float64).reshape(rows, columns)
    actual = np.asarray(labels, np.float64).ravel()
    own = np.ones(rows) if weights is None else np.asarray(weights, np.float64).ravel()
    counted = own > 0
    return (predicted, actual, own) if counted.all() else (predicted[counted], actual[counted], own[counted])


def _median(rows: SortedRows, *, weighted: bool) -> float:
    """The weighted median; the mean of two values if half the weight is on either side. NaN without values."""
    if not rows.rows:
        return float("nan")
    if not weighted and not rows.spilled:
        return float(np.median(rows.kept().scores))
    total, nan = _passed(rows, weighted=weighted)
    if nan:
        return float("nan")
    # The first rows, from the largest error down, at which half the weight is reached, and exceeded.
    half = total / 2
    reached, exceeded = (half * (1 - 1e-12), half * (1 + 1e-12)) if weighted else ((total + 1) // 2, total // 2 + 1)
    ends: list[float] = []
    total, last = 0.0, 0.0
    for part in rows.descending():
        sums = _sums(part, total, weighted=weighted)
        total, last = float(sums[-1]), float(part.scores[-1])
        while len(ends) < 2 and total >= (bound := (reached, exceeded)[len(ends)]):
            side: Literal["left", "right"] = "right" if weighted and ends else "left"
            place = int(np.searchsorted(sums, bound, side=side))
            if place == len(sums):
                break
            ends.append(float(part.scores[place]))
        if len(ends) == 2:
            break
    ends += [last] * (2 - len(ends))
    return float((ends[0] + ends[1]) / 2)


def _passed(rows: SortedRows, *, weighted: bool) -> tuple[float, bool]:
    """The sum of the weights in the order of the errors, and whether an error is NaN."""
    total, nan = 0.0, False
    for part in rows.descending():
        total, nan = float(_sums(part, total, weighted=weighted)[-1]), nan or bool(np.isnan(part.scores[-1]))
    return total, nan


def _sums(part: Part, before: float, *, weighted: bool) -> NDArray[np.float64]:
    """Running sums of the weights, or numbers of rows, that continue those of earlier parts."""
    each = np.ones(len(part.scores)) if part.weights is None or not weighted else part.weights.copy()
    each[0] += before
    sums: NDArray[np.float64] = np.add.accumulate(each)
    return sums
