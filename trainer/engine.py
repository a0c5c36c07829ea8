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

from trainer import build
from trainer.config.settings import Settings
from trainer.dispatch import Hook
from trainer.errors import TrainerError, UsageError
from trainer.events import Plugin
from trainer.metrics import Metric
from trainer.processes import Processes, connect
from trainer.processes.replicas import asked_for, keep_alike
from trainer.processes.single import OtherProcessFailed
from trainer.run import Evaluation, Run
from trainer.runs import checkpoint, folder, state
from trainer.runs.checkpoint import Checkpoint
from trainer.signals import Interrupt, Interrupted, listening
from trainer.task import Task

log = logging.getLogger("trainer")


class Engine:
    """Trains a task: builds everything, checks everything, then runs the loop.

    `plugins` are instances; `run_folder` is where the run writes, None for nowhere; `config` is what `config.toml` in
    that folder holds. Constructing an Engine reads the data and builds the net, so whatever a user can get wrong raises
    UsageError here, before anything is written.

    `resume_from` is a checkpoint of an earlier run of the same task with the same settings, which `fit` then continues
    in the same folder; `start_over` runs in the folder of an earlier run from the beginning. Whoever asks for either
    has locked the folder. `compiled=False` computes with autograd even where the net could be bound: slower, with the
    same results.
    """

    def __init__(
        self,
        task: Task,
        settings: Settings,
        plugins: Sequence[Plugin] = (),
        *,
        run_folder: Path | None = None,
        config: Mapping[str, Any] | None = None,
        resume_from: Checkpoint | None = None,
        start_over: bool = False,
        compiled: bool = True,
        processes: Processes | None = None,
    ) -> None:
        self.processes: Processes = connect() if processes is None else processes
        self._writes = run_folder is not None
        self._config = dict(config or {})
        self._again = resume_from is not None or start_over
        self._between_steps = True
        """Whether the run is where a checkpoint of it can be continued exactly: every plugin has seen the same."""
        self._saved_at: tuple[int, bool] | None = None
        self._asks_before_update = False
        """Whether a plugin of any process listens between batch and update, and could ask for something there."""
        with self.processes.together():
            if self.processes.size > 1:
                asked = asked_for(task, settings, plugins, resume_from, compiled=compiled, writes=self._writes)
                self.processes.compare(asked, "the configuration")
            self._build(task, settings, plugins, run_folder if self.processes.is_first else None, compiled)
            if resume_from is not None:
                self._restore(resume_from)

    def _build(
        self, task: Task, settings: Settings, plugins: Sequence[Plugin], run_folder: Path | None, compiled: bool
    ) -> None:
        self.run: Run = build.build_run(
            task, settings, plugins, run_folder=run_folder, compiled=compiled, processes=self.processes
        )
        self.metrics: list[Metric] = build.build_metrics(task)
        self.run.measures = self.metrics
        self._seeder = build.Seeder(self.run)
        assert self.run.engine_step is not None  # noqa: S101  build_run made it
        parts = len(self.run.contexts) * self.processes.size
        if parts > 1 and self.run.engine_step.parameters.measures and settings.micro_batches is None:
            log.warning(
                "the net measures its batches, as BatchNorm does: each of %d parts of a batch is normalised by its own "
                "rows, and the running statistics are the mean over the parts. Results differ from those of one "
                "device, the more the smaller the parts; with --micro-batches %d one device computes the same",
                parts,
                parts,
            )

    def _restore(self, resume_from: Checkpoint) -> None:
        saved = resume_from.read()
        if self.processes.is_first:
            _compare_versions(saved["made_by"], self.run)
        state.restore(self.run, saved, self._seeder.replay)
        self._saved_at = self._position

    def fit(self) -> Run:
        """Trains, and returns the run when it has finished or was stopped by a request.

        Raises PluginError (naming plugin, event and step) or whatever the data or the net raised, after every ending
        has fired; Interrupted after SIGINT or SIGTERM.
        """
        run, fire = self.run, self.run.dispatch
        if run.status != "created":
            raise TrainerError("this engine has trained already; a run is trained once, so make a new Engine")
        with self.processes.together(), listening(alone=self.processes.size == 1) as interrupt:
            with self._endings(interrupt):
                self._open()
                fire.setup(run)
                fire.fit_begin(run)
                self._asks_before_update = any(
                    self.processes.gather(bool(fire.batch_begin.handlers or fire.backward_end.handlers))
                )
                self._agree(interrupt)
                while self._goes_on(interrupt):
                    if not run.within_epoch:
                        self._between_steps = False
                        run.begin_epoch(run.epoch + 1)
                        fire.epoch_begin(run)
                        self._agree(interrupt)
                        self._between_steps = True
                    self._train_epoch(interrupt)
                    if interrupt.signum:
                        break
                    self._between_steps = False
                    self._log_training_loss()
                    if self.processes.size > 1:
                        keep_alike(run)
                    self._evaluate_validation()
                    run.open_history_entry()
                    fire.epoch_end(run)
                    self._agree(interrupt)
                    run.close_epoch()
                    self._between_steps = True
                    self._save_if_asked()
            if interrupt.signum:
                raise Interrupted(run, interrupt.signum)
        return run

    def dry_run(self) -> Run:
        """One batch, forward and backward, without an update, an event or a file; then the evaluation of one."""
        run = self.run
        with self.processes.together():
            for batches in (run.train, run.validation, run.test):
                batch = next(iter(batches.epoch(1)), None) if batches is not None else None
                if batch is not None:
                    self._step.forward_backward(batch) if batches is run.train else self._forward(batch)
        run.batch, run.step = batch, 1
        return run

    # ---- training ---------------------------------------------------------------------------------------------------

    def _goes_on(self, interrupt: Interrupt) -> bool:
        """Whether there is something left to train."""
        run = self.run
        more = run.within_epoch or (run.epoch < run.settings.epochs and not run.requested("stop"))
        return more and not interrupt.signum

    def _train_epoch(self, interrupt: Interrupt) -> None:
        """The batches that are left of an epoch, until an interrupt, a stop or an end of the epoch is asked for."""
        run, fire, step = self.run, self.run.dispatch, self._step
        steps, agree = run.settings.steps, self.processes.agree
        assert run.train is not None  # noqa: S101
        batches = run.train.epoch(run.epoch, skip=run.step_in_epoch)
        while not (interrupt.signum or run.requested("stop") or run.take_request("end_epoch")):
            batch = next(batches, None)
            if batch is None:
                break
            self._between_steps = False
            run.begin_batch(batch)
            self._seeder.before_step()
            fire.batch_begin(run)
            if run.batch is not None:
                batch = run.batch  # a plugin may have put another one there
            step.forward_backward(batch)
            fire.backward_end(run)
            if self._asks_before_update:
                agree(run, interrupt)
            if run.take_request("skip_update") is None:
                if self._seeder.before_update_too:
                    self._seeder.before_update()
                step.update()
                run.updates += 1
            fire.batch_end(run)
            run.end_batch()
            run.epoch_rows += batch.rows
            if steps is not None and run.step >= steps:
                run.stop(f"it has done the {steps} steps that were asked for")
            agree(run, interrupt)
            if run.take_request("evaluate") is not None:
                self._evaluate_validation()
                agree(run, interrupt)
                if step.draws_in_inference:
                    run.seeded_at = None
            self._between_steps = True
            self._save_if_asked()

    def _log_training_loss(self) -> None:
        """The mean loss over the rows that the epoch has trained on; none for an epoch without a batch."""
        run = self.run
        if run.epoch_rows:
            run.log({"train/loss": self._step.loss.take_sum() / run.epoch_rows})

    # ---- checkpoints ------------------------------------------------------------------------------------------------

    def save(self, reason: str) -> None:
        """Writes a checkpoint of the run as it is, and tells the plugins; does nothing where the newest one is as new.

        Raises TrainerError where the disk refuses, or a plugin's state holds what cannot be written.
        """
        run = self.run
        if not self._writes or self._position == self._saved_at:
            return
        if run.folder is not None:
            self._write(run.folder, reason)
        self._saved_at = self._position
        run.dispatch.checkpoint(run)

    def _write(self, run_folder: Path, reason: str) -> None:
        run = self.run
        if not self._between_steps:
            name = f"failed-{run.step:08d}"
        else:
            name = f"step-{run.step:08d}" + ("" if run.within_epoch else f"-epoch-{run.epoch:04d}")
        about = {
            "plugins": run.requesters("save"),
            "reason": reason,
            "epoch": run.epoch,
            "step": run.step,
            "metrics": run.record()["metrics"],
        }
        made_by = {"versions": folder.versions(), "plugins": folder.plugins_of(run), "config": self._config}
        with run.dispatch.charged(run.requesters("save")[0], "save"):
            checkpoint.write(run_folder, name, {**state.capture(run), "made_by": made_by}, about)

    def _save_if_asked(self) -> None:
        reason = self.run.take_request("save")
        if reason is not None:
            self.save(reason)

    @property
    def _position(self) -> tuple[int, bool]:
        return self.run.step, self.run.within_epoch

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

    @contextmanager
    def _evaluation_weights(self) -> Iterator[None]:
        """Exchanges the weights for those that a plugin wants to be evaluated, and back, whatever happens."""
        weights = self.run.evaluation_weights
        if weights is None:
            yield
            return
        self._step.parameters.swap(weights)
        try:
            yield
        finally:
            self._step.parameters.swap(weights)

    def _evaluate(self, split: str, begin: Hook, batch_end: Hook, end: Hook) -> None:
        """Loss and metrics of one split, computed over all of its rows at once, not averaged over batches."""
        with self._evaluation_weights():
            self._evaluate_as_it_is(split, begin, batch_end, end)

    def _evaluate_as_it_is(self, split: str, begin: Hook, batch_end: Hook, end: Hook) -> None:
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
        columns: list[NDArray[Any] | None] = [None] * 4
        if shards:
            weights = None if shards[0].weight is None else _host([shard.weight for shard in shards]).reshape(-1)
            columns = [_host(predictions), _host([shard.label for shard in shards]), weights, _host(losses)]
        # Of several processes each has computed its rows; every one gets those of all.
        predicted, labels, weights, row_losses = self.processes.gather_rows(columns)
        assert predicted is not None and labels is not None and row_losses is not None  # noqa: S101, PT018
        return predicted, labels, weights, row_losses

    def _write_model(self) -> None:
        """The run's result as a folder of its own: the weights that the figures and the threshold are of."""
        if self.run.folder is not None:
            from trainer.model.save import write_model

            with self._evaluation_weights():
                write_model(self.run)

    # ---- beginning and end ------------------------------------------------------------------------------------------

    @property
    def _step(self) -> Any:
        return self.run.engine_step

    def _agree(self, interrupt: Interrupt) -> None:
        """What one process has been asked for is from here on asked of all."""
        self.processes.agree(self.run, interrupt)

    def _open(self) -> None:
        run = self.run
        run.begin()
        if run.folder is None:
            return
        if self._again:
            folder.open_again(run.folder, self._config, run)
        else:
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
            if run.status in ("finished", "stopped"):
                # What plugins do at the end, such as going back to the best weights, is no state to go on from.
                run.take_request("save")
                self._evaluate_test()
                self._write_model()
            else:
                self._save_if_asked()
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
        # Before the endings: the other processes wait for this one, and shall not for longer than they have to.
        self.processes.tell(error)
        run.exception = error
        run.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        other = isinstance(error, OtherProcessFailed)
        run.reason = str(error) if other else f"{type(error).__name__}: {error}".rstrip(": ")
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
        # Some mistakes, such as a figure that nobody logs, are known only when the first epoch has been evaluated.
        if isinstance(run.exception, UsageError) and run.epoch <= 1 and not self._again:
            folder.remove(run.folder)
        else:
            try:
                folder.write_run(run.folder, run)
            except OSError as error:
                log.error("the record of the run in %s cannot be written: %s", run.folder, error.strerror or error)
        folder.unlock(run.folder)


def _compare_versions(made_by: Mapping[str, Any], run: Run) -> None:
    """Says which versions are others than those that a checkpoint was written with."""

    def of(versions: Mapping[str, str], plugins: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        return {**versions, **{f"plugin {each['name']}": each["version"] for each in plugins if "version" in each}}

    now = of(folder.versions(), folder.plugins_of(run))
    for name, before in of(made_by["versions"], made_by["plugins"]).items():
        if now.get(name, before) != before:
            log.warning(
                "the checkpoint was written with %s %s, this is %s: the results may differ", name, before, now[name]
            )


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
