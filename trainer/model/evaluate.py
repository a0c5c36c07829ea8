"""Evaluates a model on labelled rows: every metric at the given and the tuned threshold, optionally with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.config.sizes import bytes_of
from trainer.decisions.resampling import interval, times_drawn
from trainer.errors import UsageError
from trainer.evaluation import Collected, MeanLoss, Rows
from trainer.metrics.evalmetric import as_metrics
from trainer.metrics.memory import Memory
from trainer.model.predict import Report, one_or_more, opened_report
from trainer.reading import free_memory, in_gb
from trainer.seeds import derive

if TYPE_CHECKING:
    from trainer.data.tables.sources import Given
    from trainer.metrics.base import Metric
    from trainer.model.interface import Encoded, RowSource
    from trainer.model.model import Model
    from trainer.mxnet import Array

GIVEN, TUNED = "given", "tuned"


@dataclass(frozen=True)
class FileEvaluation:
    """The result of `evaluate_file`: `metrics["given"]["f1"]`, and `intervals["given"]["f1"]` (low, high) if requested.

    Both thresholds' metrics include `loss`. Only `given` is present if the task has no threshold or it was not tuned.
    """

    rows: int
    thresholds: Mapping[str, float | None]
    metrics: Mapping[str, Mapping[str, float]]
    intervals: Mapping[str, Mapping[str, tuple[float, float]]]
    confidence: float
    report: Report


def evaluate_file(
    model: Model,
    source: Given,
    *,
    bootstrap: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
    skip_corrupt: bool = False,
    memory: str = "auto",
    watch: Callable[[RowSource, int], None] | None = None,
    watch_bootstrap: Callable[[int], None] | None = None,
) -> FileEvaluation:
    """Evaluates a model on a table with the label column and, if the run used weights, the weight column.

    `source` is a file, a folder or a pattern, or several of them.

    The rows are read in parts. `memory` is the most that their scores may take: a size such as 4GB, or `auto`, half of
    what is free. Beyond it, metrics that rank rows use temporary files. `bootstrap` is the number of resamples, with
    replacement, for percentile intervals (Efron, 1979) at the level `confidence`; the same seed gives the same
    intervals. Resampling needs all rows in memory: predictions, labels, weights and losses may take a quarter of
    `memory`. `skip_corrupt` leaves out corrupt images.

    Raises UsageError if the file does not fit the model, or the rows for `bootstrap` do not fit in memory.
    """
    budget = Memory(_free_half if memory == "auto" else bytes_of(memory, where="--memory"))
    metrics = as_metrics(model.task.metrics())
    half = budget.share(2)
    for metric in metrics:
        metric.keep_within(half.share(max(len(metrics), 1)))
        metric.reset()
    collected = Collected(half, losses=True) if bootstrap else None
    mean = MeanLoss()
    report = _read(model, source, watch, partial(_add, metrics, mean, collected), skip_corrupt=skip_corrupt)
    found = model.about.threshold
    thresholds: dict[str, float | None] = {GIVEN: None if found is None else found.given}
    if found is not None and found.tuned is not None:
        thresholds[TUNED] = found.tuned
    values = _values(metrics, mean, thresholds)
    intervals = {}
    if collected is not None:
        rows = collected.joined()
        intervals = _intervals(
            metrics, rows, thresholds, draws=bootstrap, confidence=confidence, seed=seed, watch=watch_bootstrap
        )
    return FileEvaluation(report.rows, thresholds, values, intervals, confidence, report)


def _free_half() -> int:
    return free_memory() // 2


def _add(metrics: Sequence[Metric], mean: MeanLoss, collected: Collected | None, rows: Rows) -> None:
    """Adds some rows to everything that is computed from them. Raises UsageError if too many are to be kept."""
    for metric in metrics:
        metric.update(rows.predictions, rows.labels, rows.weights)
    if len(rows.losses):
        mean.add(rows)
    if collected is None:
        return
    collected.add(rows)
    if not collected.fits:
        raise UsageError(
            f"the resamples need all rows in memory, more than the {in_gb(2 * collected.allowed)} of --memory allow",
            where="--bootstrap",
            fix="Pass a larger --memory, evaluate fewer rows, or leave --bootstrap out.",
        )


def _read(
    model: Model,
    source: Given,
    watch: Callable[[RowSource, int], None] | None,
    add: Callable[[Rows], None],
    *,
    skip_corrupt: bool,
) -> Report:
    """Passes the rows to `add`, part by part."""
    opened = model.interface.open(one_or_more(source), keep=(), judged=True)
    report = opened_report(opened, skip_corrupt=skip_corrupt)
    loss_of = Loss(model)
    try:
        for encoded in opened:
            assert encoded.labels is not None  # noqa: S101  requested above
            scores, losses = model.compute(encoded, loss_of.of(encoded))
            add(Rows(scores, encoded.labels, encoded.weights, losses))
            report.add(encoded)
            if watch is not None:
                watch(opened, report.rows)
    finally:
        opened.close()
    if not report.rows:
        raise UsageError("it has a header and no rows", where=opened.where)
    return report


class Loss:
    """The task's loss of each row. A loss with parameters is unusable: the model folder does not store them."""

    def __init__(self, model: Model) -> None:
        self._loss = model.task.loss()
        self._usable = not (hasattr(self._loss, "collect_params") and self._loss.collect_params().keys())

    def of(self, encoded: Encoded) -> Callable[[Any, slice], Array] | None:
        """A function of the net's outputs and the slice of `encoded` they belong to; None if the loss is unusable."""
        if not self._usable:
            return None
        from trainer.mxnet import mx
        from trainer.step.losses import column

        def compute(outputs: Any, rows: slice) -> Array:
            first = outputs[0] if isinstance(outputs, list) else outputs

            def on_device(values: NDArray[Any]) -> Array:
                return mx.nd.array(values[rows], ctx=first.context, dtype=np.float32)

            assert encoded.labels is not None  # noqa: S101  requested in _read
            weights = [] if encoded.weights is None else [column(on_device(encoded.weights), first.ndim)]
            return self._loss(outputs, on_device(encoded.labels), *weights)

        return compute


def values_of(metrics: list[Metric], rows: Rows, thresholds: Mapping[str, float | None]) -> dict[str, dict[str, float]]:
    """Every metric of these rows at every threshold."""
    mean = MeanLoss()
    for metric in metrics:
        metric.reset()
    _add(metrics, mean, None, rows)
    return _values(metrics, mean, thresholds)


def _values(
    metrics: Sequence[Metric], mean: MeanLoss, thresholds: Mapping[str, float | None]
) -> dict[str, dict[str, float]]:
    """Every metric at every threshold; the loss first, if it is known."""
    loss = {"loss": mean.value} if mean.rows else {}
    found = {name: dict(loss) for name in thresholds}
    for metric in metrics:
        for name, threshold in thresholds.items():
            if threshold is not None and hasattr(metric, "threshold"):
                metric.threshold = threshold
            found[name].update(metric.compute())
        # The metric was built with the given threshold.
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
    """Percentiles of every value over resamples of the rows; NaN if a value is undefined in all of them."""
    count = len(rows.labels)
    # Sorted by score, because most metrics sort each resample, and sorting sorted rows is cheap.
    rows = rows.take(np.argsort(rows.predictions, kind="stable") if rows.predictions.ndim == 1 else np.arange(count))
    generator = np.random.default_rng(derive(seed, "bootstrap", 0))
    drawn: dict[str, dict[str, list[float]]] = {name: {} for name in thresholds}
    for draw, times in enumerate(times_drawn(count, draws, generator)):
        for name, values in values_of(metrics, rows.take(np.repeat(np.arange(count), times)), thresholds).items():
            for key, value in values.items():
                drawn[name].setdefault(key, []).append(value)
        if watch is not None:
            watch(draw + 1)
    return {
        name: {key: interval(np.array(values), confidence) for key, values in by_metric.items()}
        for name, by_metric in drawn.items()
    }
