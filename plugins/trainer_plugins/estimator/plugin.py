"""Event handlers of MXNet's Estimator as one plugin."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer import Phase, Plugin, Run, UsageError
from trainer.errors import listed
from trainer_plugins.estimator import plain
from trainer_plugins.estimator.batch import copied, put_back, whole
from trainer_plugins.estimator.metrics import check_metrics, is_own, metrics_from
from trainer_plugins.estimator.view import view_class

log = logging.getLogger("trainer")

EVENTS = {
    "TrainBegin": "train_begin",
    "EpochBegin": "epoch_begin",
    "BatchBegin": "batch_begin",
    "BatchEnd": "batch_end",
    "EpochEnd": "epoch_end",
    "TrainEnd": "train_end",
}


@dataclass
class EstimatorHandlers(Plugin):
    """Calls event handlers of `mxnet.gluon.contrib.estimator` when the Estimator would, in order of priority.

    `train_metrics` and `val_metrics` are `mx.metric.EvalMetric`s or their names, one or several, that handlers log and
    monitor; without a MetricHandler or a ValidationHandler among the handlers, they are updated from the engine's own
    batches and evaluation. Handlers are called with `estimator`, which exists before the run, for
    `ValidationHandler(data, estimator.evaluate)`. `batch_end` of a handler that comes before the GradientUpdateHandler,
    by default one of a priority up to -2000, is called before the update, and may change gradients. What
    `batch_begin` changes in the batch is trained. Handlers get copies of the arrays, which they may keep. A true value
    from `epoch_end` stops the run; one from `batch_end` ends the epoch, and also stops the run if the handler's
    `stop_training` is true.
    """

    handlers: Sequence[Any] = ()
    train_metrics: Any = ()
    val_metrics: Any = ()
    logger: Any = None

    phase = Phase.DECIDE

    def __post_init__(self) -> None:
        """Names the metrics as the Estimator does, so that handlers can be made with them."""
        own = metrics_from(self.train_metrics, "train_metrics"), metrics_from(self.val_metrics, "val_metrics")
        self.estimator: Any = view_class()(*own, self.logger)
        self.train_metrics, self.val_metrics = self.estimator.train_metrics, self.estimator.val_metrics
        self._called: dict[str, list[Any]] = {name: [] for name in EVENTS.values()}
        self._earlier: list[Any] = []
        self._sorted: list[Any] = []
        self._validates = False
        self._copies = False
        self._batch: list[Any] | None = None
        self._began = False
        self._saved: Mapping[str, Any] = {}

    def on_setup(self, run: Run) -> None:
        """Checks and sorts the handlers; the caller's list is not changed."""
        from trainer.mxnet import gluon

        kinds = gluon.contrib.estimator
        given = list(self.handlers) if isinstance(self.handlers, (list, tuple)) else [self.handlers]
        self._check(given, kinds)
        updates = [each for each in given if isinstance(each, kinds.GradientUpdateHandler)]
        if updates:
            log.warning("%s: the GradientUpdateHandler is left out, since the engine updates the weights.", self.name)
        # In the Estimator's order, so that handlers of the same priority come before what it adds.
        handlers = [*given] if updates else [*given, kinds.GradientUpdateHandler()]
        self.estimator.bind(run)
        if not any(isinstance(each, kinds.MetricHandler) for each in handlers):
            handlers.append(kinds.MetricHandler(self.train_metrics))
        self._validates = any(isinstance(each, kinds.ValidationHandler) for each in handlers)
        handlers.sort(key=lambda handler: getattr(handler, "priority", 0))
        place = next(n for n, each in enumerate(handlers) if isinstance(each, kinds.GradientUpdateHandler))
        earlier = [each for each in handlers[:place] if isinstance(each, kinds.BatchEnd)]
        handlers = [each for each in handlers if not isinstance(each, kinds.GradientUpdateHandler)]
        self._called = {
            method: [each for each in handlers if isinstance(each, getattr(kinds, kind))]
            for kind, method in EVENTS.items()
        }
        self._earlier = earlier
        # Sorted, so what comes before the update comes first.
        self._called["batch_end"] = self._called["batch_end"][len(earlier) :]
        # MXNet's own handlers keep no arrays.
        batchwise = [*earlier, *self._called["batch_begin"], *self._called["batch_end"]]
        self._copies = any(is_own(each) for each in batchwise)
        self._sorted = handlers
        check_metrics(
            handlers,
            self.train_metrics,
            self.val_metrics,
            validated=self._validates or run.validation is not None,
            where=f"plugin {self.name!r}",
        )
        self._restore()

    def _check(self, handlers: list[Any], kinds: Any) -> None:
        known = tuple(getattr(kinds, kind) for kind in EVENTS)
        for handler in handlers:
            if not isinstance(handler, known):
                raise UsageError(
                    f"{handler!r} is not an event handler of the Estimator",
                    where=f"plugin {self.name!r}",
                    fix=f"Give instances of classes that derive from {listed(EVENTS)}.",
                )
            if isinstance(handler, kinds.GradientUpdateHandler) and type(handler) is not kinds.GradientUpdateHandler:
                raise UsageError(
                    f"{type(handler).__name__} updates the weights, which is the engine's job",
                    where=f"plugin {self.name!r}",
                    fix="Write a plugin: on_backward_end may change gradients or skip the update.",
                )

    def on_fit_begin(self, run: Run) -> None:
        """Calls `train_begin`; in a resumed run the handlers' state is then restored."""
        self._call("train_begin")
        self._began = True
        self._restore()

    def on_epoch_begin(self, run: Run) -> None:
        """Calls `epoch_begin`."""
        self._call("epoch_begin")

    def on_batch_begin(self, run: Run) -> None:
        """Calls `batch_begin` with the batch, if a handler has it, and trains what the handlers made of it."""
        self._batch = None
        if self._called["batch_begin"]:
            self._batch = whole(run, copy=True)
            self._call("batch_begin", batch=self._batch)
            put_back(run, self._batch, where=f"plugin {self.name!r}")

    def on_backward_end(self, run: Run) -> None:
        """Calls `batch_end` of handlers that come before the update."""
        if self._earlier:
            self._end_batch(run, self._earlier)

    def on_batch_end(self, run: Run) -> None:
        """Calls `batch_end` of the other handlers; the weights are already updated."""
        self._end_batch(run, self._called["batch_end"])
        if self.estimator.max_batch and run.step >= self.estimator.max_batch < (run.settings.steps or 0):
            run.stop(f"the handlers have reduced max_batch to {self.estimator.max_batch}")

    def _end_batch(self, run: Run, handlers: Sequence[Any]) -> None:
        assert run.batch is not None  # noqa: S101
        labels = [shard.label for shard in run.batch.shards if shard.rows]
        given = {"pred": run.outputs, "label": labels, "loss": list(run.losses)}
        if self._copies:
            given = {name: copied(value) for name, value in given.items()}
        if self._batch is None:
            self._batch = whole(run, copy=self._copies)
        for handler in handlers:
            if handler.batch_end(self.estimator, batch=self._batch, **given):
                self._ask(run, handler, ends_run=bool(getattr(handler, "stop_training", False)))

    def on_evaluate_end(self, run: Run) -> None:
        """Updates `val_metrics` from the engine's evaluation, unless a ValidationHandler runs its own."""
        from trainer.mxnet import mx

        evaluation = run.evaluation
        if self._validates or evaluation is None:
            return
        for metric in self.val_metrics:
            metric.reset()
            if isinstance(metric, mx.metric.Loss):
                metric.update(0, [mx.nd.array([evaluation.loss])])
            elif evaluation.labels.size:
                metric.update([mx.nd.array(evaluation.labels)], [mx.nd.array(evaluation.predictions)])

    def on_epoch_end(self, run: Run) -> None:
        """Calls `epoch_end`, after the engine's evaluation."""
        for handler, result in self._call("epoch_end"):
            if result:
                self._ask(run, handler, ends_run=True)
        if self.estimator.max_epoch and run.epoch >= self.estimator.max_epoch < run.settings.epochs:
            run.stop(f"the handlers have reduced max_epoch to {self.estimator.max_epoch}")
        if self.estimator.stop_training:
            run.stop("estimator.stop_training is true")

    def on_fit_end(self, run: Run) -> None:
        """Calls `train_end`, unless training has failed: the Estimator does not either."""
        if self._began and run.status in ("finished", "stopped"):
            self._call("train_end")

    def state_dict(self) -> Mapping[str, Any]:
        """The plain attributes of handlers and metrics, such as counters, patience and the best value."""
        return {
            "handlers": [plain.attributes(handler) for handler in self._sorted],
            "metrics": [plain.attributes(metric) for metric in self._metrics],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Keeps the state until the handlers are sorted, and until `train_begin` has reset their counters."""
        self._saved = state

    def _restore(self) -> None:
        saved = (*self._saved.get("handlers", ()), *self._saved.get("metrics", ()))
        for owner, state in zip([*self._sorted, *self._metrics], saved, strict=False):
            plain.restore(owner, state)

    @property
    def _metrics(self) -> list[Any]:
        return [*self.train_metrics, *self.val_metrics]

    def _call(self, method: str, **given: Any) -> list[tuple[Any, Any]]:
        """Calls a method of the handlers in order of priority; returns each handler with its result."""
        return [(each, getattr(each, method)(self.estimator, **given)) for each in self._called[method]]

    def _ask(self, run: Run, handler: Any, *, ends_run: bool) -> None:
        kind = type(handler).__name__
        if ends_run:
            run.stop(f"{kind} requested it")
        else:
            run.end_epoch(f"{kind} requested it")
