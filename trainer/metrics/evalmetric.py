"""An adapter for MXNet's own metrics."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from trainer.errors import TrainerError, UsageError
from trainer.metrics.base import Direction, Metric

KNOWN: Mapping[str, Direction] = {
    **dict.fromkeys(("accuracy", "f1", "mcc", "pcc", "pearsonr", "pearsonr-correlation"), "max"),
    **dict.fromkeys(("loss", "mae", "mse", "rmse", "perplexity", "cross-entropy", "nll", "nll-loss"), "min"),
}


class EvalMetricAdapter(Metric):
    """Wraps an `mx.metric.EvalMetric`.

    Its values may depend on the division into batches: `mx.metric.F1` averages over batches. Weights are ignored,
    because MXNet's metrics take none.
    """

    def __init__(self, metric: Any) -> None:
        self._metric = metric

    @property
    def directions(self) -> Mapping[str, Direction]:  # type: ignore[override]
        """Directions of well-known names."""
        names = [_kebab(name) for name, _ in self._metric.get_name_value()]
        known: dict[str, Direction] = {name: KNOWN[name] for name in names if name in KNOWN}
        return known | {name: "max" for name in names if name.startswith("top-k-accuracy")}

    def reset(self) -> None:
        self._metric.reset()

    def update(self, predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> None:
        """Passes one batch to the metric as float32 arrays of the same shapes."""
        from trainer.mxnet import mx

        self._metric.update([mx.nd.array(labels)], [mx.nd.array(predictions)])

    def compute(self) -> dict[str, float]:
        """MXNet's values under its names in kebab-case."""
        return {_kebab(name): float(value) for name, value in self._metric.get_name_value()}

    def state(self) -> dict[str, NDArray[Any]]:
        """Raises TrainerError: MXNet's metrics have no state that can be merged."""
        raise TrainerError(
            f"{type(self._metric).__name__} cannot be merged across processes; use a metric of trainer.metrics"
        )

    def add_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Raises TrainerError, like `state`."""
        self.state()


def as_metric(metric: Any) -> Metric:
    """Returns a Metric unchanged and wraps an `EvalMetric`; raises UsageError for anything else."""
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, type):
        raise UsageError(
            f"{metric.__name__} is a class", where="the task's metrics()", fix=f"Use {metric.__name__}(), an instance."
        )
    if all(callable(getattr(metric, name, None)) for name in ("update", "reset", "get_name_value")):
        return EvalMetricAdapter(metric)
    raise UsageError(
        f"a {type(metric).__name__} is not a metric",
        where="the task's metrics()",
        fix="Use a metric of trainer.metrics, or an mx.metric.EvalMetric.",
    )


def as_metrics(given: Any) -> list[Metric]:
    """The metrics that a task returned: a list, or a single one. Raises UsageError as `as_metric` does."""
    several = isinstance(given, (list, tuple)) or (hasattr(given, "__iter__") and not isinstance(given, str))
    return [as_metric(metric) for metric in (given if several else [given])]


def _kebab(name: str) -> str:
    return re.sub(r"[\s_]+", "-", name).lower()
