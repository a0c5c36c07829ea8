"""Metrics by name: which one a name means depends on the loss, and packages add names through an entry point."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.catalog import registry
from trainer.errors import UsageError, did_you_mean, first_line, listed
from trainer.losses import LossKind, kind_of
from trainer.metrics.base import Direction, Metric
from trainer.metrics.binary import BinaryClassification
from trainer.metrics.evalmetric import as_metric
from trainer.metrics.multiclass import MulticlassClassification
from trainer.metrics.regression import MedianAbsoluteError, PoissonDeviance, Regression

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.metrics.memory import Memory
    from trainer.metrics.ranked import Ranking

SHORT = {"mae": "mean-absolute-error", "rmse": "root-mean-squared-error", "mse": "mean-squared-error"}
"""Names that everybody uses, with those that the values are logged under."""
_BINARY = (*BinaryClassification.directions, "true-positives", "false-positives", "true-negatives", "false-negatives")
_CLASSES = ("accuracy", "macro-f1", "top-5-accuracy", "log-loss", "roc-auc")
_REGRESSION = (*Regression.directions, "mean-squared-error")
_SINGLE = {"median-absolute-error": MedianAbsoluteError, "poisson-deviance": PoissonDeviance}
"""Metrics of numbers with one value."""
_TOP_K = re.compile(r"top-([1-9]\d*)-accuracy")


class Signs(Metric):
    """`accuracy` for losses such as the hinge loss: the share of rows whose output has the sign of the label.

    Outputs and labels (-1 and 1) are of as many elements; an output of 0 counts as class -1. With weights, the share of
    their sum.
    """

    directions = {"accuracy": "max"}  # noqa: RUF012  declared by Metric

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets every row."""
        self._right = self._total = 0.0

    def update(self, predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> None:
        """Takes in one batch. Raises UsageError for other numbers of elements."""
        if predictions.size != labels.size:
            raise UsageError(f"{predictions.size} predictions for {labels.size} labels", where="metric 'accuracy'")
        right = (predictions.ravel() > 0) == (labels.ravel() > 0)
        each = np.ones(right.size)
        if weights is not None:
            each = np.repeat(np.asarray(weights, np.float64).ravel(), right.size // max(weights.size, 1))
        self._right += float(each[right].sum())
        self._total += float(each.sum())

    def compute(self) -> dict[str, float]:
        """The share of the rows since `reset`; NaN without rows."""
        return {"accuracy": self._right / self._total if self._total else float("nan")}

    def state(self) -> dict[str, NDArray[Any]]:
        """The sums, as arrays."""
        return {"sums": np.array([self._right, self._total])}

    def add_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Adds the sums of another process."""
        right, total = state["sums"].tolist()
        self._right, self._total = self._right + right, self._total + total


class SignedBinary(BinaryClassification):
    """`BinaryClassification` for labels of -1 and 1."""

    def update(self, predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> None:
        """Takes in one batch with labels of -1 and 1."""
        super().update(predictions, np.asarray(labels > 0, np.float32), weights)


class Around(Metric):
    """Another metric as it is."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    @property
    def directions(self) -> Mapping[str, Direction]:  # type: ignore[override]
        """Those of the other metric."""
        return self._metric.directions

    def keep_within(self, memory: Memory) -> None:
        """Passes the limit on."""
        self._metric.keep_within(memory)

    def ranking(self) -> Ranking | None:
        """The ranking of the other metric."""
        return self._metric.ranking()

    def reset(self) -> None:
        """Forgets every row."""
        self._metric.reset()

    def update(self, predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> None:
        """Passes one batch on."""
        self._metric.update(predictions, labels, weights)

    def compute(self) -> dict[str, float]:
        """The values of the other metric."""
        return self._metric.compute()

    def state(self) -> dict[str, NDArray[Any]]:
        """The state of the other metric."""
        return self._metric.state()

    def add_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Passes the state of another process on."""
        self._metric.add_state(state)


class Chosen(Around):
    """Some of the values of another metric, in the order of `names`."""

    def __init__(self, metric: Metric, names: Sequence[str]) -> None:
        super().__init__(metric)
        self._names = tuple(names)

    @property
    def directions(self) -> Mapping[str, Direction]:  # type: ignore[override]
        """Those of the chosen values."""
        known: dict[str, Direction] = {**self._metric.directions, "mean-squared-error": "min"}
        return {name: known[name] for name in self._names if name in known}

    def compute(self) -> dict[str, float]:
        """The chosen values."""
        found = self._metric.compute()
        if "mean-squared-error" in self._names:
            found["mean-squared-error"] = found["root-mean-squared-error"] ** 2
        return {name: found[name] for name in self._names}


class TwoColumns(Around):
    """Hands probabilities of class 1, (rows,), on as two columns, (rows, 2): what MXNet's own metrics expect."""

    def update(self, predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> None:
        """Takes in one batch; predictions of several columns stay as they are."""
        if predictions.size == len(predictions):
            positive = predictions.reshape(-1)
            predictions, labels = np.stack([1 - positive, positive], axis=1), labels.reshape(-1)
        super().update(predictions, labels, weights)


def metrics_for(loss: Any, names: Sequence[str] = ()) -> list[Metric]:
    """The metrics that go with a loss, or those of the given names: new instances, without a row.

    `loss` is a name such as `softmax-cross-entropy`, a Gluon loss, its class, or a function. Without names: accuracy
    for class numbers, everything usual for two classes, errors and r2 for numbers; nothing for a function and for a
    loss that is not Gluon's own. The metrics expect what `fit(net, …)` gives them: probabilities if the loss implies
    some, otherwise the net's outputs.

    Raises UsageError for a name that no metric has, or that does not go with the loss.
    """
    kind = loss if isinstance(loss, LossKind) else kind_of(loss)
    if not names:
        return _usual(kind)
    # Names of one family share an instance, which keeps the rows once.
    families: dict[str, list[str]] = {}
    made: list[Metric] = []
    for given in names:
        name = SHORT.get(given, given)
        family = _family(name, kind)
        if name in _SINGLE and kind.labels in ("numbers", "unknown"):
            made.append(_SINGLE[name]())
        elif family:
            families.setdefault(family, []).append(name)
        else:
            made.append(_installed(name, kind))
    return [_chosen(family, chosen) for family, chosen in families.items()] + made


def names_for(kind: LossKind) -> list[str]:
    """The names that `metrics_for` takes with a loss, those of other packages included."""
    own = {
        "class": [*_CLASSES],
        "distribution": [*_CLASSES],
        "binary": [*_BINARY],
        "signed": ["accuracy"] if kind.outputs == "score" else [*_BINARY],
        "numbers": [*_REGRESSION, *_SINGLE, *SHORT],
        "unknown": ["accuracy", "macro-f1", "top-5-accuracy", *_REGRESSION, *_SINGLE, *SHORT],
    }[kind.labels]
    return [*own, *(entry.name for entry in registry.installed(registry.METRICS))]


def _usual(kind: LossKind) -> list[Metric]:
    usual: dict[str, Callable[[], Metric]] = {
        "class": MulticlassClassification,
        "distribution": MulticlassClassification,
        "binary": BinaryClassification,
        "signed": Signs if kind.outputs == "score" else SignedBinary,
        "numbers": Regression,
    }
    return [usual[kind.labels]()] if kind.labels in usual else []


def _family(name: str, kind: LossKind) -> str:
    """Which of our metrics gives a value of that name with that loss; empty if none does."""
    if kind.labels in ("class", "distribution", "unknown") and (
        name in ("accuracy", "macro-f1") or _TOP_K.fullmatch(name)
    ):
        return "classes"
    if kind.labels in ("class", "distribution") and name in _CLASSES:
        return "classes"
    if kind.labels in ("numbers", "unknown") and name in _REGRESSION:
        return "numbers"
    if kind.labels == "signed" and kind.outputs == "score":
        return "signs" if name == "accuracy" else ""
    if kind.labels in ("binary", "signed") and name in _BINARY:
        return "binary" if kind.labels == "binary" else "signed"
    return ""


def _chosen(family: str, names: Sequence[str]) -> Metric:
    if family == "classes":
        top_k = sorted({int(match[1]) for name in names if (match := _TOP_K.fullmatch(name))} | {1})
        found: Metric = MulticlassClassification(
            top_k, macro_f1="macro-f1" in names, log_loss="log-loss" in names, roc_auc="roc-auc" in names
        )
        return Chosen(found, ["accuracy" if name == "top-1-accuracy" else name for name in names])
    ours: dict[str, Callable[[], Metric]] = {
        "binary": BinaryClassification,
        "signed": SignedBinary,
        "numbers": Regression,
        "signs": Signs,
    }
    return Chosen(ours[family](), names)


def _installed(name: str, kind: LossKind) -> Metric:
    """A metric of another package. Raises UsageError if there is none of that name, or it cannot be made."""
    known = names_for(kind)
    if not any(entry.name == name for entry in registry.installed(registry.METRICS)):
        every = {*_BINARY, *_REGRESSION, *_SINGLE, *_CLASSES}
        what = f"there is no metric {name!r}"
        if name in every or _TOP_K.fullmatch(name):
            what = f"the metric {name!r} does not go with the loss {kind.name}"
        hint = did_you_mean(name, known)
        raise UsageError(what, where="metrics", fix=hint or f"With {kind.name} there are: {listed(known, 99)}.")
    entry = registry.find(registry.METRICS, name)
    try:
        return as_metric(registry.imported(entry)())
    except UsageError as error:
        raise UsageError(error.what, where=str(entry), fix=error.fix) from error
    except Exception as error:
        raise UsageError(f"it cannot be made: {type(error).__name__}: {first_line(error)}", where=str(entry)) from error
