"""The numbers behind the charts of a predicted number: predicted against true, residuals, and what quantiles cover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer import Numbers, Run
from trainer_plugins.report.points import Vector, own, plain

PLANE_BINS, RESIDUAL_BINS, SPREAD_BINS = 40, 40, 20
BEYOND = 0.002
"""The share of the values on each side that the axes leave out: single outliers would leave no room for the others."""
SPREAD = (0.1, 0.5, 0.9)
MIDDLE = 0.5


@dataclass(frozen=True)
class NumberCurves:
    """A net's predictions of a number; every list holds plain numbers.

    `plane` has the weighted `counts` (true, predicted) of rows in bins, whose `edges` both axes share. `residuals`
    (true minus predicted) has `edges` and the `share` of rows in each bin. Values beyond the edges count in the outer
    bins. `spread` has, for bins of equally many rows by prediction, the mean `predicted` and three quantiles of the
    residuals: `low`, `median` and `high` (10, 50 and 90 %). `coverage` has each predicted `quantile` and the `share` of
    rows whose label is not above it. `deviation` is that of the labels from their mean, `absolute` their mean absolute
    difference from their median: the errors of a net that has learned nothing. `column` is the quantile that plane,
    residuals and spread describe; None for a net that predicts one number.
    """

    plane: dict[str, Any]
    residuals: dict[str, list[float]]
    spread: dict[str, list[float]]
    coverage: dict[str, list[float]]
    deviation: float
    absolute: float
    column: float | None


def number_rows(run: Run) -> tuple[NDArray[Any], Vector, Vector, Numbers] | None:
    """Predictions (rows, columns), labels and weights (rows,) of the newest evaluation, and what the numbers are.

    Those of a sample if not all rows are kept. None unless the task predicts numbers, and for values that are not
    finite.
    """
    known, evaluation = run.task.numbers(), run.evaluation
    if known is None or evaluation is None or not evaluation.sample[1].size:
        return None
    predicted, actual, own_weights = evaluation.sample
    labels = np.asarray(actual, np.float64).ravel()
    columns = len(known.quantiles) or 1
    if predicted.size != labels.size * columns:
        return None
    predictions = np.asarray(predicted, np.float64).reshape(-1, columns)
    if not (np.isfinite(predictions).all() and np.isfinite(labels).all()):
        return None
    weights = own(labels, own_weights)
    counted = weights > 0
    return predictions[counted], labels[counted], weights[counted], known


def number_curves(
    predictions: NDArray[Any], labels: Vector, weights: Vector, quantiles: Sequence[float] = ()
) -> NumberCurves | None:
    """The curves of predictions (rows, columns), with a column for each of the `quantiles`. None without rows."""
    if not len(labels):
        return None
    column = int(np.argmin(np.abs(np.array(quantiles) - MIDDLE))) if quantiles else 0
    predicted = predictions[:, column]
    residuals = labels - predicted
    edges, residual_edges = _edges(np.concatenate([labels, predicted]), PLANE_BINS), _edges(residuals, RESIDUAL_BINS)
    cells = _bins(labels, edges) * PLANE_BINS + _bins(predicted, edges)
    counts = np.bincount(cells, weights=weights, minlength=PLANE_BINS**2).reshape(PLANE_BINS, PLANE_BINS)
    in_bins = np.bincount(_bins(residuals, residual_edges), weights=weights, minlength=RESIDUAL_BINS)
    total = float(weights.sum())
    mean = float(labels @ weights / total)
    median = weighted_quantile(labels, weights, MIDDLE)
    below = [float(weights @ (labels <= each) / total) for each in predictions.T]
    return NumberCurves(
        plane={"edges": plain(edges), "counts": [plain(row) for row in counts]},
        residuals={"edges": plain(residual_edges), "share": plain(in_bins / total)},
        spread=_spread(predicted, residuals, weights),
        coverage={"quantile": list(quantiles), "share": below} if quantiles else {},
        deviation=float(np.sqrt((labels - mean) ** 2 @ weights / total)),
        absolute=float(np.abs(labels - median) @ weights / total),
        column=quantiles[column] if quantiles else None,
    )


def weighted_quantile(values: Vector, weights: Vector, share: float) -> float:
    """The lowest value with at least that share of the weight at or below it."""
    order = np.argsort(values, kind="stable")
    sums = np.cumsum(weights[order])
    place = int(np.searchsorted(sums, share * sums[-1] * (1 - 1e-12)))
    return float(values[order][min(place, len(values) - 1)])


def _spread(predicted: Vector, residuals: Vector, weights: Vector) -> dict[str, list[float]]:
    parts = np.array_split(np.argsort(predicted, kind="stable"), min(SPREAD_BINS, max(1, len(predicted) // 10)))
    found = {
        "predicted": np.array([float(predicted[part] @ weights[part] / weights[part].sum()) for part in parts]),
        **{
            name: np.array([weighted_quantile(residuals[part], weights[part], share) for part in parts])
            for name, share in zip(("low", "median", "high"), SPREAD, strict=True)
        },
    }
    return {name: plain(values) for name, values in found.items()}


def _edges(values: Vector, bins: int) -> Vector:
    low, high = np.quantile(values, [BEYOND, 1 - BEYOND]).tolist()
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges: Vector = np.linspace(low, high, bins + 1)
    return edges


def _bins(values: Vector, edges: Vector) -> NDArray[np.int64]:
    places: NDArray[np.int64] = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return places
