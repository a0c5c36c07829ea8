"""MXNet's metrics as handlers are given them, and the check that something updates each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from trainer import UsageError
from trainer.errors import choose_from


def metrics_from(given: Any, argument: str) -> list[Any]:
    """The metrics of one metric, of a name, or of a list of those. Raises UsageError for anything else."""
    from trainer.mxnet import mx

    if given is None:
        return []
    if isinstance(given, str):
        # MXNet's registry has no public list; `create` takes its names in any case.
        known = mx.registry.get_registry(mx.metric.EvalMetric)
        if given.lower() not in known:
            raise UsageError(f"MXNet has no metric {given!r}", where=argument, fix=choose_from(given, known, limit=99))
        try:
            return [mx.metric.create(given)]
        except TypeError as error:
            raise UsageError(
                f"the metric {given!r} needs arguments: {error}", where=argument, fix="Give an instance."
            ) from error
    if isinstance(given, mx.metric.CompositeEvalMetric):
        return [each for metric in given.metrics for each in metrics_from(metric, argument)]
    if isinstance(given, mx.metric.EvalMetric):
        return [given]
    if isinstance(given, (list, tuple)):
        return [each for part in given for each in metrics_from(part, argument)]
    kind = f"the class {given.__name__}" if isinstance(given, type) else repr(given)
    raise UsageError(
        f"{kind} is not a metric of MXNet", where=argument, fix="Give instances of mx.metric classes, or their names."
    )


def is_own(handler: Any) -> bool:
    """Whether a handler's class is not one of MXNet's."""
    return not type(handler).__module__.startswith("mxnet.")


def check_metrics(
    handlers: Sequence[Any], train: Sequence[Any], validation: Sequence[Any], *, validated: bool, where: str
) -> None:
    """Raises UsageError if one of MXNet's handlers logs or monitors a metric that nothing updates.

    A handler of another class may update its own metrics. `validated` says whether `validation` is updated.
    """
    from trainer.mxnet import gluon

    kinds = gluon.contrib.estimator
    updated = [*validation]
    for handler in handlers:
        if is_own(handler) or isinstance(handler, kinds.MetricHandler):
            updated += _metrics_of(handler, [name for name in vars(handler) if name != "monitor"])
    for handler in handlers:
        for metric in _metrics_of(handler, ["monitor", "metrics"]):
            name = f"{type(handler).__name__} uses {metric.name!r}"
            if not any(metric is each for each in updated):
                hint = "handlers.train_metrics or handlers.val_metrics"
                own = any(metric is each for each in train)
                raise UsageError(
                    f"{name}, a metric that nothing updates",
                    where=where,
                    fix="Add it to the metrics of the MetricHandler." if own else f"Use one of {hint}.",
                )
            unused = not validated and any(metric is each for each in validation)
            if unused and metric is getattr(handler, "monitor", None):
                raise UsageError(
                    f"{name}, and there is no validation split",
                    where=where,
                    fix="Give the run validation rows, or monitor one of handlers.train_metrics.",
                )


def _metrics_of(handler: Any, attributes: Sequence[str]) -> Iterator[Any]:
    from trainer.mxnet import mx

    for name in attributes:
        value = getattr(handler, name, None)
        for each in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(each, mx.metric.EvalMetric):
                yield each
