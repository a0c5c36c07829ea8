"""The estimator that event handlers are called with: a run of the engine behind the Estimator's attributes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from trainer import Run, TrainerError, UsageError
from trainer.atomic import write_atomic


class TrainerView:
    """Stands in for the `gluon.Trainer`: its rate, its optimizer and its states. The engine makes the updates."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def learning_rate(self) -> float:
        """The rate of the next update."""
        return self._run.learning_rate

    def set_learning_rate(self, lr: float) -> None:
        """Sets the rate of all following updates."""
        self._run.learning_rate = lr

    @property
    def optimizer(self) -> Any:
        """MXNet's optimizer."""
        return self._run.optimizer

    def step(self, batch_size: int, ignore_stale_grad: bool = False) -> None:
        """Raises UsageError: the weights are already updated when handlers are called."""
        raise UsageError(
            "the engine updates the weights, so a handler cannot",
            where="trainer.step",
            fix="Remove the call; to change gradients, write a plugin with on_backward_end.",
        )

    def save_states(self, fname: str) -> None:
        """Saves the optimizer's states as an .npz archive without pickles, for `load_states` of this class."""
        import io

        arrays = {f"state{number}": array.asnumpy() for number, array in enumerate(self._states())}
        counts = self._run.optimizer._index_update_count  # noqa: SLF001  MXNet has no public way to its counters
        arrays["counts"] = np.array(sorted(counts.items()), np.int64).reshape(-1, 2)
        arrays["num_update"] = np.asarray(self._run.optimizer.num_update)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        write_atomic(Path(fname), buffer.getvalue())

    def load_states(self, fname: str) -> None:
        """Loads saved states. Raises UsageError for other files, such as a pickle of `gluon.Trainer`."""
        held = list(self._states())
        try:
            with np.load(fname, allow_pickle=False) as file:
                values = [file[f"state{number}"] for number in range(len(held))]
                counts, num_update = file["counts"], int(file["num_update"])
        except (ValueError, KeyError, OSError, AttributeError) as error:
            raise UsageError(
                "it does not hold optimizer states saved by this class",
                where=fname,
                fix="States of gluon.Trainer are pickles, which are not loaded: continue without them.",
            ) from error
        for array, value in zip(held, values, strict=True):
            array[:] = value
        self._run.optimizer._index_update_count.update({int(k): int(v) for k, v in counts})  # noqa: SLF001
        self._run.optimizer.num_update = num_update

    def _states(self) -> Iterator[Any]:
        """Every array of the optimizer's states, in order."""
        yield from _arrays(self._run.optimizer_states)


def _arrays(states: Any) -> Iterator[Any]:
    if hasattr(states, "asnumpy"):
        yield states
    elif isinstance(states, (list, tuple)):
        for part in states:
            yield from _arrays(part)


def _named(metrics: list[Any], split: str) -> list[Any]:
    """Prefixes the metrics' names with the split, as the Estimator does: handlers rely on the prefix."""
    for metric in metrics:
        metric.name = f"{split} {metric.name.removeprefix('training ').removeprefix('validation ')}"
    return metrics


def _logger() -> logging.Logger:
    """A logger like the Estimator's: it prints what handlers log."""
    logger = logging.Logger(name="Estimator", level=logging.INFO)
    logger.addHandler(logging.StreamHandler(sys.stdout))
    return logger


@cache
def view_class() -> type[Any]:
    """The class of the view: a subclass of MXNet's Estimator, created on first use because it imports MXNet."""
    from trainer.mxnet import gluon, mx

    base: Any = gluon.contrib.estimator.Estimator

    class EstimatorView(base):  # type: ignore[misc]
        """An Estimator whose training is a run of the engine; `evaluate` is the Estimator's own."""

        def __init__(self, train_metrics: Sequence[Any], val_metrics: Sequence[Any], logger: Any) -> None:
            # Not the Estimator's own constructor, which needs a net: there is none before the run starts.
            self._usual = [not train_metrics, not train_metrics and not val_metrics]
            self._train_metrics = _named(list(train_metrics) or [mx.metric.Loss("loss")], "training")
            self._val_metrics = _named(list(val_metrics) or deepcopy(self._train_metrics), "validation")
            self.logger = _logger() if logger is None else logger
            self.batch_axis = 0
            self.stop_training = False
            self.batch_processor = gluon.contrib.estimator.BatchProcessor()
            self.run: Run | None = None

        def bind(self, run: Run) -> None:
            """Makes this the view of a run."""
            self.run = run
            self.net = self.val_net = run.net
            self.loss = self.val_loss = run.task.loss()
            self._add_accuracy()
            self.trainer = TrainerView(run)
            self.context = list(run.contexts)
            # The Estimator counts epochs or batches, never both.
            self.max_batch = run.settings.steps
            self.max_epoch = None if self.max_batch else run.settings.epochs

        def _add_accuracy(self) -> None:
            """Adds what the Estimator adds to its loss if no metrics are given and the labels are class numbers."""
            classes = isinstance(self.loss, gluon.loss.SoftmaxCrossEntropyLoss)
            if not classes or not getattr(self.loss, "_sparse_label", True):
                return
            lists = ((self._train_metrics, "training"), (self._val_metrics, "validation"))
            for usual, (metrics, split) in zip(self._usual, lists, strict=True):
                if usual:
                    metrics.extend(_named([mx.metric.Accuracy()], split))
            self._usual = [False, False]

        def evaluate(self, val_data: Any, batch_axis: int = 0, event_handlers: Any = None) -> None:
            """Updates `val_metrics` with every batch of a DataLoader, as the Estimator does."""
            if self.run is None:
                raise TrainerError("there is no net to evaluate before the run has started")
            super().evaluate(val_data, batch_axis, event_handlers)

        def fit(self, *args: Any, **kwargs: Any) -> None:
            """Raises UsageError: the run has already started."""
            raise UsageError("a handler cannot start another run", where="estimator.fit")

    return EstimatorView
