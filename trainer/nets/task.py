"""The task around a bare net: what `fit(net, …)` trains, and what its saved model refers to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from trainer.data.arrays import check_class_weights
from trainer.data.split_names import NAMES
from trainer.errors import UsageError, type_of
from trainer.losses import NAMED, Labels, LossKind, Outputs, kind_of, make_loss, probabilities
from trainer.metrics import Metric, as_metric, metrics_for
from trainer.metrics.base import check_names
from trainer.metrics.evalmetric import EvalMetricAdapter
from trainer.metrics.names import TwoColumns
from trainer.model.interface import ModelInterface
from trainer.nets.checks import check_loss, check_outputs
from trainer.nets.interface import NetInterface
from trainer.nets.naming import NET
from trainer.nets.splits import Rows, split_off
from trainer.task import Defaults, Numbers, Splits, Task

if TYPE_CHECKING:
    from trainer.mxnet import Array
    from trainer.run import Run


@dataclass(eq=False)
class NetTask(Task):
    """A Gluon net with its loss and its rows, as they were given to `fit`.

    The options describe them in the saved model and the configuration; the other fields exist in Python only.
    """

    net_name: Annotated[str, Field(description="The class of the net.")] = ""
    loss_name: Annotated[str, Field(description="The loss, by its name or its class.")] = ""
    outputs: Annotated[Outputs, Field(description="What the net's outputs are under that loss.")] = "unknown"
    labels: Annotated[Labels, Field(description="What the labels are under that loss.")] = "unknown"
    validation_part: Annotated[
        float | None, Field(description="The part of the training rows that is held back for validation.")
    ] = None
    calibration_part: Annotated[
        float | None, Field(description="The part of the training rows that is held back for calibration.")
    ] = None
    block: Any = None
    given_loss: Any = None
    given_metrics: Sequence[Any] | None = None
    train_rows: Rows | None = field(default=None, repr=False)
    validation_rows: Rows | None = field(default=None, repr=False)
    calibration_rows: Rows | None = field(default=None, repr=False)

    name = NET
    defaults = Defaults(epochs=10, batch_size=32, optimizer="adam")

    def __post_init__(self) -> None:
        self._run: Run | None = None
        self._single = False
        self._features: list[str] = []
        self._lines: list[str] = []
        self._headline: list[str] = []

    @classmethod
    def around(  # noqa: PLR0917  what `fit` was given
        cls,
        net: Any,
        loss: Any,
        metrics: Sequence[Any] | None,
        train: Rows,
        validation: Rows | float | None,
        calibration: Rows | float | None,
    ) -> NetTask:
        """The task of a net that was given to `fit`. Raises UsageError for a metric that does not fit the loss."""
        kind = kind_of(loss)
        if isinstance(loss, str) and kind.labels == "class" and _holds_shares(train):
            kind = replace(kind, labels="distribution")
        task = cls(
            net_name=type(net).__name__,
            loss_name=kind.name,
            outputs=kind.outputs,
            labels=kind.labels,
            validation_part=validation if isinstance(validation, float) else None,
            calibration_part=calibration if isinstance(calibration, float) else None,
            block=net,
            given_loss=loss,
            given_metrics=metrics,
            train_rows=train,
            validation_rows=None if isinstance(validation, float) else validation,
            calibration_rows=None if isinstance(calibration, float) else calibration,
        )
        made = task._made_metrics()
        if metrics:
            check_names(["loss", *(name for metric in made for name in metric.compute())])
            if validation is None:
                raise UsageError(
                    "they are computed on validation rows, and there are none",
                    where="metrics",
                    fix="Give validation=(Xv, yv), or a part of the rows, validation=0.2.",
                )
        return task

    @property
    def kind(self) -> LossKind:
        """What the loss implies about outputs and labels."""
        return LossKind(self.loss_name, self.outputs, self.labels)

    @property
    def headline(self) -> Sequence[str]:  # type: ignore[override]
        """The losses, and the first two metrics."""
        return ("train/loss", "validation/loss", *self._headline)

    @property
    def evaluation_batch_size(self) -> int | None:  # type: ignore[override]
        """The batch size of training, because the net's memory use is unknown."""
        return None

    def splits(self, run: Run) -> Splits:
        assert self.train_rows is not None  # noqa: S101  only `fit` makes one that trains
        self._run = run
        given = self.train_rows
        by_class = self.labels in ("class", "binary", "signed", "distribution")
        train, held = given, {"validation": self.validation_rows, "calibration": self.calibration_rows}
        for split, part in (("validation", self.validation_part), ("calibration", self.calibration_part)):
            if part is not None:
                apart = by_class and _has_few_values(train)
                of = None if given.arrays is None else len(given.arrays)
                train, held[split] = split_off(train, part, seed=run.settings.seed, by_class=apart, split=split, of=of)
        others = {split: rows for split, rows in held.items() if rows is not None}
        self._features = train.feature_names
        sources = {split: _source(rows, run) for split, rows in others.items()}
        for split, rows in others.items():
            self._check_shapes(train, rows)
            if rows.weighted != train.weighted:
                raise UsageError(
                    f"the {'training' if train.weighted else split} rows have weights, the others have none",
                    where=split,
                    fix="Give weights for all splits, or for none; a weight of 1 changes nothing.",
                )
        if train.arrays is not None and self.kind.is_classification:
            _check_class_weights(train)
        self._used = train, *others.values()
        self._lines = [_described(self.net_name, self.loss_name, {"train": train, **others})]
        return Splits(_source(train, run), **sources)

    def net(self) -> Any:
        """The net itself. Raises UsageError for a model without a symbol that was loaded without its net."""
        if self.block is None:
            raise UsageError(
                f"the model has no symbol, so it needs its net, a {self.net_name}",
                where="load_model",
                fix="Give it: load_model(path, net=net).",
            )
        return self.block

    def initializer(self) -> Any:
        """Xavier; for vectors, which Xavier refuses, MXNet's own default."""
        from trainer.mxnet import mx

        class Initial(mx.init.Xavier):  # type: ignore[misc]
            def _init_weight(self, name: Any, array: Array) -> None:
                if array.ndim < 2:
                    mx.init.Uniform()._init_weight(name, array)  # noqa: SLF001  as Xavier calls its own
                else:
                    super()._init_weight(name, array)

        return Initial()

    def loss(self) -> Any:
        """The loss; for a loaded model, by its name. Raises UsageError if the loss had no name."""
        given = self.loss_name if self.given_loss is None else self.given_loss
        if not isinstance(given, str):
            return given
        if given not in NAMED:
            raise UsageError(f"the loss {given} of the model is not in its folder", where="loss")
        return make_loss(given, shares=self.labels == "distribution")

    def metrics(self) -> Sequence[Metric]:
        """Called once the net exists; first checks its outputs against the labels and the loss. Raises UsageError."""
        outputs = self._check_net()
        made = self._made_metrics()
        usual = self.given_metrics is None
        if usual and (len(outputs) != 1 or (self.labels in ("class", "distribution") and outputs[0].ndim != 2)):
            made = []
        self._single = len(outputs) == 1 and outputs[0].size == 1
        if usual and not self._single and self._run is not None:
            # Several binary labels per row are counted separately, which does not work with weights per row.
            made = [] if self.labels in ("binary", "signed") and self._run.train.weighted else made
        self._headline = [f"validation/{name}" for name in _first_names(made)]
        return made

    def predictions(self, outputs: Array) -> Array:
        """Probabilities if the loss implies them; the first of several outputs."""
        if isinstance(outputs, (list, tuple)):
            return outputs[0]
        found = probabilities(outputs, self.outputs)
        return found.reshape((-1,)) if self._single and self.outputs in ("logit", "probability") else found

    def model_info(self) -> Mapping[str, Any]:
        return {"features": self._features, "single": self._single}

    def model_interface(self, info: Mapping[str, Any]) -> ModelInterface:
        self._single = bool(info.get("single", self._single))
        return NetInterface(self.outputs, self.labels, [str(name) for name in info.get("features", ())])

    def describe(self) -> Sequence[str]:
        return self._lines

    def feature_names(self) -> Sequence[str]:
        return self._features

    def numbers(self) -> Numbers | None:
        return Numbers() if self.labels == "numbers" and self._single else None

    def _made_metrics(self) -> list[Metric]:
        if self.given_metrics is None:
            return metrics_for(self.kind)
        names = [each for each in self.given_metrics if isinstance(each, str)]
        found = metrics_for(self.kind, names) if names else []
        for given in self.given_metrics:
            if not isinstance(given, str):
                metric = _metric(given)
                binary = self.outputs in ("logit", "probability")
                found.append(TwoColumns(metric) if binary and isinstance(metric, EvalMetricAdapter) else metric)
        return found

    def _check_net(self) -> list[Array]:
        """The net's outputs for one row. Raises UsageError if they do not fit the labels and the loss."""
        from trainer.mxnet import autograd, mx

        run = self._run
        assert run is not None  # noqa: S101  the engine asks for splits first
        with autograd.predict_mode():
            given = run.net(*run.train.sample())
        outputs = list(given) if isinstance(given, (list, tuple)) else [given]
        if not all(isinstance(each, mx.nd.NDArray) for each in outputs):
            raise UsageError(f"the net gives {type_of(outputs[0])}, not arrays", where=self.net_name)
        for rows in self._used:
            check_outputs(outputs, rows.labels, self.kind, where=rows.where)
        check_loss(self.loss(), given, self._used[0].labels, weighted=run.train.weighted)
        return outputs

    def _check_shapes(self, train: Rows, other: Rows) -> None:
        if train.inputs is None or other.inputs is None:
            return
        parts = [(train.inputs, other.inputs), ((train.labels,), (other.labels,))]
        for (ours, others), what in zip(parts, ("X", "y"), strict=True):
            shapes, found = ([tuple(part.shape[1:]) for part in each] for each in (ours, others))
            if shapes != found and {(), (1,)} != {*shapes, *found}:
                raise UsageError(
                    f"the rows of {what} have shape {_plain(found)}, those of train {_plain(shapes)}",
                    where=other.where,
                    fix="Give both splits the same columns.",
                )


def _metric(given: Any) -> Metric:
    if not isinstance(given, type) and callable(given) and not hasattr(given, "get_name_value"):
        raise UsageError(
            f"the function {getattr(given, '__name__', given)!r} is not a metric",
            where="metrics",
            fix="Wrap a function of (labels, predictions): mx.metric.CustomMetric(function).",
        )
    try:
        return as_metric(given)
    except UsageError as error:
        raise UsageError(error.what, where="metrics", fix=error.fix) from error


def _first_names(metrics: Sequence[Metric]) -> list[str]:
    """The metrics to show: the first two that have a direction, or else the first two."""
    names: list[str] = []
    better: set[str] = set()
    for metric in metrics:
        names += metric.compute()
        better |= set(metric.directions)
    return ([name for name in names if name in better] or names)[:2]


def _source(rows: Rows, run: Run) -> Any:
    from trainer.data.loader import LoaderBatches

    if rows.batches is None:
        return rows.streamed or rows.arrays
    return LoaderBatches(rows.batches, contexts=run.contexts, seed=run.settings.seed)


def _holds_shares(rows: Rows) -> bool:
    """Whether the labels are one column per class, (rows, classes), each row adding up to 1."""
    if rows.batches is not None:
        next(iter(rows.batches))
    labels = rows.labels
    if labels.ndim != 2 or labels.shape[1] < 2:
        return False
    return bool((labels >= 0).all() and np.allclose(labels.sum(axis=1), 1, atol=1e-3))


def _check_class_weights(rows: Rows) -> None:
    """Raises UsageError if all rows of a class have weight 0. Several or fractional labels are not checked."""
    assert rows.arrays is not None  # noqa: S101  the caller has looked
    labels, weights = rows.labels.reshape(len(rows.labels), -1), rows.arrays.weights
    columns = labels.shape[1]
    if weights is None or (columns > 1 and not _holds_shares(rows)) or (labels != np.floor(labels)).any():
        return
    classes, numbers = np.unique(labels.argmax(axis=1) if columns > 1 else labels[:, 0], return_inverse=True)
    check_class_weights(numbers, np.asarray(weights), [f"{each:g}" for each in classes], where=rows.where)


def _has_few_values(rows: Rows) -> bool:
    """Whether the rows are in memory and labelled with classes, so that a split can be stratified."""
    labels = rows.labels
    if labels.ndim == 2 and labels.shape[1] > 1:
        return _holds_shares(rows)
    return labels.size == len(labels) and len(np.unique(labels)) <= max(2, len(labels) // 2)


def _described(net: str, loss: str, splits: Mapping[str, Rows]) -> str:
    counts = [
        f"{len(rows.streamed or rows.arrays or ())} {NAMES[split]} rows"
        for split, rows in splits.items()
        if rows.batches is None
    ]
    return f"{net}, {loss}" + (f": {' and '.join(counts)}" if counts else "")


def _plain(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes))
