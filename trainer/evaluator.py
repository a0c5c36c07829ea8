"""Evaluates the splits of a run: fires the events, and logs loss and metrics over all rows of a split at once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.evaluation import Beyond, Collected, Evaluation, MeanLoss, Rows, evaluation_weights
from trainer.metrics.base import check_names
from trainer.metrics.memory import Memory
from trainer.seeds import random_states_kept

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.data.batches import Batch, Batches
    from trainer.dispatch import Dispatch, Hook
    from trainer.engine_state import EngineState
    from trainer.run import Run


class Evaluator:
    """Evaluates validation, calibration and test."""

    def __init__(self, run: Run, state: EngineState, dispatch: Dispatch) -> None:
        self._run = run
        self._step = state.step
        self._metrics = state.metrics
        self._fire = dispatch

    def validation(self) -> None:
        """Evaluates the validation split, if there is one."""
        run, fire = self._run, self._fire
        if run.validation is not None:
            self._evaluate(
                run.validation, "validation", fire.evaluate_begin, fire.evaluate_batch_end, fire.evaluate_end
            )
            run.split = "train"

    def calibration(self) -> None:
        """Evaluates the calibration split, if there is one; it has separate events, as no choice may use it twice."""
        run, fire = self._run, self._fire
        if run.calibration is not None:
            events = fire.calibration_begin, fire.calibration_batch_end, fire.calibration_end
            self._evaluate(run.calibration, "calibration", *events)

    def test(self) -> None:
        """Evaluates the test split, if there is one; it has separate events, so that plugins do not tune on it."""
        run, fire = self._run, self._fire
        if run.test is not None:
            self._evaluate(run.test, "test", fire.test_begin, fire.test_batch_end, fire.test_end)

    def _evaluate(self, batches: Batches, split: str, begin: Hook, batch_end: Hook, end: Hook) -> None:
        run, metrics = self._run, self._metrics
        with evaluation_weights(run):
            run.split = split
            begin(run)
            collected = self._begin_rows()
            loss, count = MeanLoss(), 0
            for batch in batches.epoch(1):
                run.batch = batch
                rows = self.rows(batch)
                loss.add(rows)
                count += len(rows.labels)
                for metric in metrics:
                    metric.update(rows.predictions, rows.labels, rows.weights)
                if run.task.collect:
                    collected.add(rows)
                batch_end(run)
            run.evaluation = self._evaluation(split, collected, loss.value, count)
            values = {"loss": loss.value}
            for metric in metrics:
                computed = metric.compute()
                check_names([*values, *computed])
                values |= computed
            run.log({f"{split}/{name}": value for name, value in values.items()})
            end(run)

    def _begin_rows(self) -> Collected:
        """Resets the metrics. Half of the memory is for the rows that plugins read, the rest for the metrics' rows."""
        metrics = self._metrics
        settings, processes = self._run.settings, self._run.processes.local_size
        ask = partial(settings.memory_bytes, processes)
        half = Memory(ask if settings.memory == "auto" else ask()).share(2)
        share = half.share(max(len(metrics), 1))
        for metric in metrics:
            metric.keep_within(share)
            metric.reset()
        return Collected(half)

    def _evaluation(self, split: str, collected: Collected, loss: float, rows: int) -> Evaluation:
        run = self._run
        kept = collected.joined()
        found = Evaluation(split, kept.predictions, kept.labels, kept.weights, loss, rows)
        if not collected.fits:
            # Of all processes of the machine: what the setting is about.
            processes = run.processes.local_size
            found.beyond = Beyond(collected.bytes * processes, 2 * collected.allowed * processes, lambda: run.acting)
        return found

    def names_of_a_batch(self, split: str) -> set[str]:
        """The names of the task's metrics after the first batch of a split, without events and logs.

        Empty if that would disturb a run that is resumed, or if a metric cannot be computed for so few rows.
        """
        if self._step.draws_in_inference:
            return set()
        batches: Batches = getattr(self._run, split)
        found: set[str] = set()
        with random_states_kept():
            batch = next(iter(batches.epoch(1)), None)
            if batch is None:
                return set()
            rows = self.rows(batch)
            with suppress(Exception):
                for metric in self._metrics:
                    metric.reset()
                    metric.update(rows.predictions, rows.labels, rows.weights)
                    found.update(metric.compute())
        return found

    def rows(self, batch: Batch) -> Rows:
        """The net's results for a batch, on the host, in the order of its rows. Waits for the device."""
        outputs, losses = self._step.forward(batch)
        predictions = [self._run.task.predictions(output) for output in outputs]
        shards = [shard for shard in batch.shards if shard.rows]
        columns: list[NDArray[Any] | None] = [None] * 4
        if shards:
            weights = None if shards[0].weight is None else _host([shard.weight for shard in shards]).reshape(-1)
            columns = [_host(predictions), _host([shard.label for shard in shards]), weights, _host(losses)]
        # Each process has computed its own rows; all of them get all rows.
        predicted, labels, weights, row_losses = self._run.processes.gather_rows(columns)
        assert predicted is not None and labels is not None and row_losses is not None  # noqa: S101, PT018
        return Rows(predicted, labels, weights, row_losses)


def _host(arrays: Sequence[Any]) -> NDArray[Any]:
    """The contexts' parts of a batch as one numpy array. Waits for the devices."""
    parts: list[NDArray[Any]] = [array.asnumpy() for array in arrays]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
