"""A model judged by labelled rows: every metric at the given and the tuned threshold, with intervals on request."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError
from trainer.evaluation import MeanLoss, Rows, joined
from trainer.metrics import as_metric
from trainer.model.predict import Report
from trainer.seeds import derive

if TYPE_CHECKING:
    from trainer.metrics import Metric
    from trainer.model.interface import Encoded, RowSource
    from trainer.model.model import Model
    from trainer.mxnet import Array

GIVEN, TUNED = "given", "tuned"


@dataclass(frozen=True)
class Judgement:
    """What `evaluate` found: `metrics["given"]["f1"]`, and `intervals["given"]["f1"] == (low, high)` where asked for.

    `loss` stands among the metrics of both. A task that decides by no threshold has `given` alone, and so has a model
    whose threshold was not tuned.
    """

    rows: int
    thresholds: Mapping[str, float | None]
    metrics: Mapping[str, Mapping[str, float]]
    intervals: Mapping[str, Mapping[str, tuple[float, float]]]
    confidence: float
    report: Report


def evaluate_file(
    model: Model,
    source: str,
    *,
    bootstrap: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
    watch: Callable[[RowSource, int], None] | None = None,
    watch_bootstrap: Callable[[int], None] | None = None,
) -> Judgement:
    """Judges a model by the rows of a file that has the label column, and the weights where the run had some.

    Memory: the predictions, labels, weights and losses of all rows, 20 bytes a row for two classes; the rows themselves
    are read a part at a time. `bootstrap` is how many times the rows are drawn anew, with replacement, for percentile
    intervals (Efron, 1979) that hold with `confidence`; the same seed gives the same intervals.

    Raises UsageError for whatever does not fit.
    """
    rows, report = _read(model, source, watch)
    found = model.about.threshold
    thresholds: dict[str, float | None] = {GIVEN: None if found is None else found.given}
    if found is not None and found.tuned is not None:
        thresholds[TUNED] = found.tuned
    metrics = [as_metric(metric) for metric in model.task.metrics()]
    values = _judge(metrics, rows, thresholds)
    intervals = {}
    if bootstrap:
        intervals = _intervals(
            metrics, rows, thresholds, draws=bootstrap, confidence=confidence, seed=seed, watch=watch_bootstrap
        )
    return Judgement(report.rows, thresholds, values, intervals, confidence, report)


def _read(model: Model, source: str, watch: Callable[[RowSource, int], None] | None) -> tuple[Rows, Report]:
    opened = model.interface.open(source, keep=(), judged=True)
    report = Report(ignored=opened.ignored)
    parts: list[Rows] = []
    loss_of = _Loss(model)
    try:
        for encoded in opened:
            assert encoded.labels is not None  # noqa: S101  asked for
            scores, losses = model.compute(encoded, loss_of.of(encoded))
            parts.append(Rows(scores, encoded.labels, encoded.weights, losses))
            report.add(encoded)
            if watch is not None:
                watch(opened, report.rows)
    finally:
        opened.close()
    if not report.rows:
        raise UsageError("it has a header and no rows", where=opened.where)
    return joined(parts), report


class _Loss:
    """The task's loss of each row; nothing for a loss with parameters of its own, which a model does not keep."""

    def __init__(self, model: Model) -> None:
        self._loss = model.task.loss()
        self._usable = not (hasattr(self._loss, "collect_params") and self._loss.collect_params().keys())

    def of(self, encoded: Encoded) -> Callable[[Any, slice], Array] | None:
        """A function of the net's outputs and of the rows of `encoded` that they belong to."""
        if not self._usable:
            return None
        from trainer.mxnet import mx
        from trainer.step.losses import column

        def compute(outputs: Any, rows: slice) -> Array:
            first = outputs[0] if isinstance(outputs, list) else outputs

            def there(values: NDArray[Any]) -> Array:
                return mx.nd.array(values[rows], ctx=first.context, dtype=np.float32)

            assert encoded.labels is not None  # noqa: S101  asked for
            weights = [] if encoded.weights is None else [column(there(encoded.weights), first.ndim)]
            return self._loss(outputs, there(encoded.labels), *weights)

        return compute


def _judge(metrics: list[Metric], rows: Rows, thresholds: Mapping[str, float | None]) -> dict[str, dict[str, float]]:
    """Every metric at every threshold; the loss first."""
    loss = {}
    if len(rows.losses):
        mean = MeanLoss()
        mean.add(rows)
        loss["loss"] = mean.value
    found = {name: dict(loss) for name in thresholds}
    for metric in metrics:
        metric.reset()
        metric.update(rows.predictions, rows.labels, rows.weights)
        for name, threshold in thresholds.items():
            if threshold is not None and hasattr(metric, "threshold"):
                metric.threshold = threshold
            found[name].update(metric.compute())
        # What was given is what the metric was built with.
        if thresholds[GIVEN] is not None and hasattr(metric, "threshold"):
            metric.threshold = thresholds[GIVEN]
    return found


def _intervals(
    metrics: list[Metric],
    rows: Rows,
    thresholds: Mapping[str, float | None],
    *,
    draws: int,
    confidence: float,
    seed: int,
    watch: Callable[[int], None] | None,
) -> dict[str, dict[str, tuple[float, float]]]:
    """Percentiles of every value over resamples of the rows; NaN where a value is undefined in each of them."""
    count = len(rows.labels)
    # In the order of the scores, so that sorting a resample, which most metrics do, has little left to do.
    rows = rows.take(np.argsort(rows.predictions, kind="stable") if rows.predictions.ndim == 1 else np.arange(count))
    generator = np.random.default_rng(derive(seed, "bootstrap", 0))
    drawn: dict[str, dict[str, list[float]]] = {name: {} for name in thresholds}
    for draw in range(draws):
        times = np.bincount(generator.integers(0, count, count), minlength=count)
        for name, values in _judge(metrics, rows.take(np.repeat(np.arange(count), times)), thresholds).items():
            for key, value in values.items():
                drawn[name].setdefault(key, []).append(value)
        if watch is not None:
            watch(draw + 1)
    outside = (1 - confidence) / 2
    return {
        name: {key: _percentiles(np.array(values), outside) for key, values in by_metric.items()}
        for name, by_metric in drawn.items()
    }


def _percentiles(values: NDArray[np.float64], outside: float) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if not len(known):
        return math.nan, math.nan
    low, high = np.quantile(known, [outside, 1 - outside])
    return float(low), float(high)
