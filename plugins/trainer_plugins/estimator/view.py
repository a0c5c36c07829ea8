"""What event handlers take for their estimator: a run of the engine, seen through the Estimator's attributes."""

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
    """Stands for the `gluon.Trainer`: its rate, its optimizer and its states; the update is the engine's."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def learning_rate(self) -> float:
        """That of the next update."""
        return self._run.learning_rate

    def set_learning_rate(self, lr: float) -> None:
        """For the next update and those behind it."""
        self._run.learning_rate = lr

    @property
    def optimizer(self) -> Any:
        """MXNet's."""
        return self._run.optimizer

    def step(self, batch_size: int, ignore_stale_grad: bool = False) -> None:
        """Raises UsageError: the weights have moved already when handlers are called."""
        raise UsageError(
            "the engine updates the weights, so a handler cannot",
            where="trainer.step",
            fix="Take the call out; to change gradients, write a plugin with on_backward_end.",
        )

    def save_states(self, fname: str) -> None:
        """The optimizer's states as an .npz archive, without a pickle: what `load_states` of this class reads."""
        import io

        arrays = {f"state{number}": array.asnumpy() for number, array in enumerate(self._states())}
        counts = self._run.optimizer._index_update_count  # noqa: SLF001  MXNet has no public way to its counters
        arrays["counts"] = np.array(sorted(counts.items()), np.int64).reshape(-1, 2)
        arrays["num_update"] = np.asarray(self._run.optimizer.num_update)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        write_atomic(Path(fname), buffer.getvalue())

    def load_states(self, fname: str) -> None:
        """Takes them back. Raises UsageError for a file of another kind, such as a pickle of `gluon.Trainer`."""
        held = list(self._states())
        try:
            with np.load(fname, allow_pickle=False) as file:
                values = [file[f"state{number}"] for number in range(len(held))]
                counts, num_update = file["counts"], int(file["num_update"])
        except (ValueError, KeyError, OSError, AttributeError) as error:
            raise UsageError(
                "it holds no optimizer states that were saved here",
                where=fname,
                fix="States of gluon.Trainer are pickles, which are not read: continue without them.",
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
    """Puts the split before the metrics' names, as the Estimator does: handlers tell the two apart by that."""
    for metric in metrics:
        metric.name = f"{split} {metric.name.removeprefix('training ').removeprefix('validation ')}"
    return metrics


def _logger() -> logging.Logger:
    """The Estimator's: whatever handlers log is printed."""
    logger = logging.Logger(name="Estimator", level=logging.INFO)
    logger.addHandler(logging.StreamHandler(sys.stdout))
    return logger


@cache
def view_class() -> type[Any]:
    """The class of the view: a subclass of MXNet's Estimator, made when it is needed, since that imports MXNet."""
    from trainer.mxnet import gluon, mx

    base: Any = gluon.contrib.estimator.Estimator

    class EstimatorView(base):  # type: ignore[misc]
        """An Estimator whose training is a run of the engine; `evaluate` is the Estimator's own."""

        def __init__(self, train_metrics: Sequence[Any], val_metrics: Sequence[Any], logger: Any) -> None:
            # Not the Estimator's own constructor, which wants a net: there is none before the run begins.
            self._train_metrics = _named(list(train_metrics) or [mx.metric.Loss("loss")], "training")
            self._val_metrics = _named(list(val_metrics) or deepcopy(self._train_metrics), "validation")
            self.logger = _logger() if logger is None else logger
            self.batch_axis = 0
            self.stop_training = False
            self.batch_processor = gluon.contrib.estimator.BatchProcessor()
            self.run: Run | None = None

        def bind(self, run: Run) -> None:
            """From here on it shows this run."""
            self.run = run
            self.net = self.val_net = run.net
            self.loss = self.val_loss = run.task.loss()
            self.trainer = TrainerView(run)
            self.context = list(run.contexts)
            # The Estimator counts epochs or batches, never both.
            self.max_batch = run.settings.steps
            self.max_epoch = None if self.max_batch else run.settings.epochs

        def evaluate(self, val_data: Any, batch_axis: int = 0, event_handlers: Any = None) -> None:
            """As the Estimator does it: updates `val_metrics` with every batch of a DataLoader."""
            if self.run is None:
                raise TrainerError("there is nothing to evaluate before the run has begun")
            super().evaluate(val_data, batch_axis, event_handlers)

        def fit(self, *args: Any, **kwargs: Any) -> None:
            """Raises UsageError: the run is under way."""
            raise UsageError("a handler cannot start another training", where="estimator.fit")

    return EstimatorView
