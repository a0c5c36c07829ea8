"""The loop. `fit` reads from top to bottom; `trainer.events` says when each event fires."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer import build, checkpoint, folder
from trainer.config import Settings
from trainer.dispatch import Hook
from trainer.errors import TrainerError, UsageError
from trainer.events import Plugin
from trainer.metrics import Metric
from trainer.run import Evaluation, Run
from trainer.signals import Interrupt, Interrupted, listening
from trainer.task import Task

log = logging.getLogger("trainer")


class Engine:
    """Trains a task: builds everything, checks everything, then runs the loop.

    `plugins` are instances; `run_folder` is where the run writes, None for nowhere; `config` is what `config.toml` in
    that folder holds. Constructing an Engine reads the data and builds the net, so whatever a user can get wrong raises
    UsageError here, before anything is written.

    `compiled=False` computes with autograd even where the net could be bound: slower, with the same results.
    """

    def __init__(
        self,
        task: Task,
        settings: Settings,
        plugins: Sequence[Plugin] = (),
        *,
        run_folder: Path | None = None,
        config: Mapping[str, Any] | None = None,
        compiled: bool = True,
    ) -> None:
        self.run: Run = build.build_run(task, settings, plugins, run_folder=run_folder, compiled=compiled)
        self.metrics: list[Metric] = build.build_metrics(task)
        self.run.measures = self.metrics
        self._config = dict(config or {})
        self._seeder = build.Seeder(self.run)

    def fit(self) -> Run:
        """Trains, and returns the run when it has finished or was stopped by a request.

        Raises PluginError (naming plugin, event and step) or whatever the data or the net raised, after every ending
        has fired; Interrupted after SIGINT or SIGTERM.
        """
        run, fire = self.run, self.run.dispatch
        if run.status != "created":
            raise TrainerError("this engine has trained already; a run is trained once, so make a new Engine")
        with listening() as interrupt:
            with self._endings(interrupt):
                self._open()
                fire.setup(run)
                fire.fit_begin(run)
                for epoch in range(1, run.settings.epochs + 1):
                    run.begin_epoch(epoch)
                    fire.epoch_begin(run)
                    self._train_epoch(interrupt)
                    if interrupt.signum:
                        break
                    self._evaluate_validation()
                    run.open_history_entry()
                    fire.epoch_end(run)
                    run.close_history_entry()
                    self._save_if_asked()
                    if interrupt.signum or run.requested("stop"):
                        break
            if interrupt.signum:
                raise Interrupted(run, interrupt.signum)
        return run

    def dry_run(self) -> Run:
        """One batch, forward and backward, without an update, an event or a file; then the evaluation of one."""
        run = self.run
        for batches in (run.train, run.validation, run.test):
            batch = next(iter(batches.epoch(1)), None) if batches is not None else None
            if batch is not None:
                self._step.forward_backward(batch) if batches is run.train else self._forward(batch)
        run.batch, run.step = batch, 1
        return run

    # ---- training ---------------------------------------------------------------------------------------------------

    def _train_epoch(self, interrupt: Interrupt) -> None:
        """The batches of one epoch; ends after the current one on an interrupt, a stop or an end of the epoch."""
        run, fire, step = self.run, self.run.dispatch, self._step
        steps = run.settings.steps
        rows = 0
        assert run.train is not None  # noqa: S101
        for batch in run.train.epoch(run.epoch):
            run.begin_batch(batch)
            self._seeder.before_step()
            fire.batch_begin(run)
            step.forward_backward(batch)
            fire.backward_end(run)
            if run.take_request("skip_update") is None:
                step.update()
                run.updates += 1
            fire.batch_end(run)
            run.end_batch()
            rows += batch.rows
            if steps is not None and run.step >= steps:
                run.stop(f"it has done the {steps} steps that were asked for")
            if run.take_request("evaluate") is not None:
                self._evaluate_validation()
            self._save_if_asked()
            if interrupt.signum or run.requested("stop") or run.take_request("end_epoch"):
                break
        run.log({"train/loss": step.loss.take_sum() / rows if rows else float("nan")})

    def _save_if_asked(self) -> None:
        """Writes a checkpoint where one was requested."""
        reason = self.run.take_request("save")
        if reason is not None and self.run.folder is not None:
            checkpoint.save(self.run, reason)
            self.run.dispatch.checkpoint(self.run)

    # ---- evaluation -------------------------------------------------------------------------------------------------

    def _evaluate_validation(self) -> None:
        if self.run.validation is not None:
            fire = self.run.dispatch
            self._evaluate("validation", fire.evaluate_begin, fire.evaluate_batch_end, fire.evaluate_end)
            self.run.split = "train"

    def _evaluate_test(self) -> None:
        if self.run.test is not None:
            fire = self.run.dispatch
            self._evaluate("test", fire.test_begin, fire.test_batch_end, fire.test_end)

    def _evaluate(self, split: str, begin: Hook, batch_end: Hook, end: Hook) -> None:
        """Loss and metrics of one split, computed over all of its rows at once, not averaged over batches."""
        run = self.run
        run.split = split
        begin(run)
        for metric in self.metrics:
            metric.reset()
        parts: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]] = []
        total = weight_total = 0.0
        for batch in getattr(run, split).epoch(1):
            run.batch = batch
            predictions, labels, weights, losses = self._forward(batch)
            total += float(losses.sum(dtype=np.float64))
            weight_total += batch.rows if weights is None else float(weights.sum(dtype=np.float64))
            for metric in self.metrics:
                metric.update(predictions, labels, weights)
            if run.task.collect:
                parts.append((predictions, labels, weights))
            batch_end(run)
        loss = total / weight_total if weight_total else float("nan")
        run.evaluation = Evaluation(split, *_joined(parts), loss=loss)
        run.log({f"{split}/loss": loss})
        for metric in self.metrics:
            run.log({f"{split}/{name}": value for name, value in metric.compute().items()})
        end(run)

    def _forward(self, batch: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None, NDArray[Any]]:
        """Predictions, labels, weights and per-row losses of a batch, on the host, in the order of its rows."""
        outputs, losses = self._step.forward(batch)
        predictions = [self.run.task.predictions(output) for output in outputs]
        shards = [shard for shard in batch.shards if shard.rows]
        weights = None if shards[0].weight is None else _host([shard.weight for shard in shards]).reshape(-1)
        return _host(predictions), _host([shard.label for shard in shards]), weights, _host(losses)

    # ---- beginning and end ------------------------------------------------------------------------------------------

    @property
    def _step(self) -> Any:
        return self.run.engine_step

    def _open(self) -> None:
        run = self.run
        run.status, run.started = "running", time.time()
        if run.folder is not None:
            folder.create(run.folder, self._config, run)

    @contextmanager
    def _endings(self, interrupt: Interrupt) -> Iterator[None]:
        """Around the whole loop: whatever happens in it, the endings fire, each plugin's; then the error goes on."""
        run, fire = self.run, self.run.dispatch
        try:
            yield
        except BaseException as error:  # noqa: BLE001  raised again below, after the endings
            self._fail(error)
        self._settle(interrupt)
        self._end(fire.fit_end.to_the_end)
        with self._guarded():
            self._save_if_asked()
            if run.status in ("finished", "stopped"):
                self._evaluate_test()
        self._end(fire.teardown.to_the_end, closing=True)
        run.ended = time.time()
        self._close()
        if run.exception is not None:
            raise run.exception

    def _settle(self, interrupt: Interrupt) -> None:
        """The status that the loop ended with."""
        run = self.run
        if run.exception is not None:
            return
        stop = run.requested("stop")
        if interrupt.signum:
            run.status, run.reason = "interrupted", str(Interrupted(run, interrupt.signum))
        elif stop is not None:
            run.status, run.reason = "stopped", stop
        else:
            run.status = "finished"

    def _fail(self, error: BaseException, *, closing: bool = False) -> None:
        """Notes the first error and tells the plugins; later ones are logged, since only one can be raised.

        `closing`: in the teardown there is nobody left to tell.
        """
        run = self.run
        if run.exception is not None:
            log.error("after that, this failed too: %s", error)
            return
        run.exception = error
        run.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        run.reason = f"{type(error).__name__}: {error}".rstrip(": ")
        run.end_batch()
        if closing:
            return
        for later in run.dispatch.exception.to_the_end(run):
            log.error("after that, this failed too: %s", later)

    def _end(self, fire: Callable[[Run], list[Exception]], *, closing: bool = False) -> None:
        """Fires an ending; what its handlers raise counts as the run's error if it is the first."""
        with self._guarded():
            for error in fire(self.run):
                self._fail(error, closing=closing)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # noqa: BLE001  an interrupt in an ending must not skip the next ending
            self._fail(error)

    def _close(self) -> None:
        """The last word on disk; a run that never began because of a user's mistake leaves no folder behind."""
        run = self.run
        if run.folder is None or not run.folder.exists():
            return
        if isinstance(run.exception, UsageError) and run.updates == 0:
            folder.remove(run.folder)
            return
        folder.write_run(run.folder, run)


def _host(arrays: Sequence[Any]) -> NDArray[Any]:
    """The contexts' parts of a batch as one numpy array. Waits for the devices."""
    parts: list[NDArray[Any]] = [array.asnumpy() for array in arrays]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _joined(
    parts: Sequence[tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]],
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
    if not parts:
        return np.empty(0), np.empty(0), None
    predictions, labels = (np.concatenate([part[column] for part in parts]) for column in (0, 1))
    weights = [part[2] for part in parts if part[2] is not None]
    return predictions, labels, np.concatenate(weights) if weights else None
