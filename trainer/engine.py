"""The loop. `fit` reads from top to bottom; `trainer.events` says when each event fires."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer import build
from trainer.agreement import Agreement
from trainer.bookkeeping import Bookkeeping
from trainer.data.split_names import SPLITS
from trainer.endings import Endings
from trainer.errors import TrainerError
from trainer.evaluator import Evaluator
from trainer.metric_names import check_names
from trainer.processes import Processes, connect
from trainer.processes.replicas import asked_for, keep_equal
from trainer.runs import folder, state
from trainer.runs.changed_data import ChangedData, check_data
from trainer.runs.find import read_record
from trainer.saver import Saver
from trainer.signals import Interrupt, listening

if TYPE_CHECKING:
    from trainer.config.settings import Settings
    from trainer.events import Plugin
    from trainer.run import Run
    from trainer.runs.checkpoint import Checkpoint
    from trainer.task import Task

log = logging.getLogger("trainer")


class Engine:
    """Trains a task: builds everything, checks everything, then runs the loop.

    `plugins` are instances. `run_folder` is the folder that the run writes to, or None; `config` is the content of its
    `config.toml`. Constructing an Engine reads the data and builds the net, so mistakes raise UsageError here, before
    anything is written.

    `resume_from` is a checkpoint of an earlier run with the same task and settings, which `fit` continues in the same
    folder; `start_over` begins again in the folder of an earlier run. In both cases the caller has locked the folder,
    and the data have to be those of the earlier run, unless `changed_data` is `ok`.
    `compiled=False` computes with autograd even if the net could be bound, which is slower and gives the same results.
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
        changed_data: ChangedData = "refuse",
        compiled: bool = True,
        processes: Processes | None = None,
    ) -> None:
        self.processes: Processes = connect() if processes is None else processes
        self._config = dict(config or {})
        self._resume_from = resume_from
        self._again = resume_from is not None or start_over
        with self.processes.together():
            if self.processes.size > 1:
                writes = run_folder is not None
                asked = asked_for(task, settings, plugins, resume_from, compiled=compiled, writes=writes)
                self.processes.compare(asked, "the configuration")
            built = build.build_run(
                task,
                settings,
                plugins,
                run_folder=run_folder if self.processes.is_first else None,
                compiled=compiled,
                processes=self.processes,
                resumed=resume_from is not None,
            )
            self.run: Run = built.run
            self._config |= self.run.settings.order_to_toml()
            self.state, self.dispatch = built.state, built.dispatch
            self._books = Bookkeeping(self.run, self.state)
            self._evaluator = Evaluator(self.run, self.state, self.dispatch)
            self._saver = Saver(self.run, self.state, self.dispatch, writes=run_folder is not None, config=self._config)
            self._endings = Endings(
                self.run, self.state, self.dispatch, self._evaluator, self._saver, again=self._again
            )
            if resume_from is not None:
                self._restore(resume_from, changed_data)
            elif start_over and self.run.folder is not None:
                saved = read_record(self.run.folder).get("data")
                check_data(self.run, saved, changed_data=changed_data)
            check_names(self.run, plugins, self._evaluator)

    def _restore(self, resume_from: Checkpoint, changed_data: ChangedData) -> None:
        saved = resume_from.read(
            lambda described: state.check(self.run, self.state, described, changed_data=changed_data)
        )
        if self.processes.is_first:
            _compare_versions(saved["made_by"], self.run)
        state.restore(self.run, self.state, saved)
        self._saver.mark_saved()

    def fit(self) -> Run:
        """Trains, and returns the run when it has finished or was stopped by a request.

        After the final events have fired, it raises PluginError (naming plugin, event and step), the error of the data
        or the net, or Interrupted after SIGINT or SIGTERM.
        """
        run, fire, books, inside_step = self.run, self.dispatch, self._books, self._saver.inside_step()
        if run.status != "created":
            raise TrainerError("this engine has trained already; make a new Engine for another run")
        with self.processes.together(), listening(alone=self.processes.size == 1) as interrupt:
            agree = Agreement(run, self.state.requests, interrupt, fire)
            with self._endings.always(interrupt):
                self._open_folder()
                books.tell_notes()
                fire.setup(run)
                fire.fit_begin(run)
                agree.open()
                while self._has_more(interrupt):
                    if not run.within_epoch:
                        with inside_step:
                            books.begin_epoch()
                            fire.epoch_begin(run)
                            agree()
                    self._train_epoch(agree, interrupt)
                    if interrupt.signum:
                        break
                    with inside_step:
                        books.log_training_loss()
                        keep_equal(run, self.state.step.parameters)
                        self._evaluator.validation()
                        books.open_history_entry()
                        fire.epoch_end(run)
                        agree()
                        books.close_epoch()
                    self._saver.save_if_asked()
        return run

    def _train_epoch(self, agree: Agreement, interrupt: Interrupt) -> None:
        """The remaining batches of an epoch, until an interrupt, a stop or an end of the epoch is requested."""
        run, fire, books, inside_step = self.run, self.dispatch, self._books, self._saver.inside_step()
        step, seeder, requests = self.state.step, self.state.seeder, self.state.requests
        batches = run.train.epoch(run.epoch, skip=run.step_in_epoch)
        while not (interrupt.signum or requests.reason("stop") or requests.take("end_epoch")):
            batch = next(batches, None)
            if batch is None:
                break
            with inside_step:
                books.begin_batch(batch)
                seeder.before_step(run.step)
                fire.batch_begin(run)
                batch = run.batch or batch  # a plugin may have changed or replaced it
                step.forward_backward(batch)
                fire.backward_end(run)
                if agree.before_update:
                    agree()
                if requests.take("skip_update") is None:
                    if fire.backward_end.handlers:
                        step.parameters.take_gradients()
                        step.parameters.follow()
                    seeder.before_update(run.step)
                    step.update()
                    run.updates += 1
                fire.batch_end(run)
                books.end_batch(batch)
                agree()
                if requests.take("evaluate") is not None:
                    self._evaluator.validation()
                    agree()
                    if step.draws_in_inference:
                        seeder.end_block()
            self._saver.save_if_asked()

    def _has_more(self, interrupt: Interrupt) -> bool:
        """Whether there is anything left to train."""
        run = self.run
        more = run.within_epoch or (run.epoch < run.settings.epochs and not run.requested("stop"))
        return more and not interrupt.signum

    def _open_folder(self) -> None:
        run = self.run
        self._books.begin_run()
        if run.folder is None:
            return
        if self._again:
            folder.open_again(run.folder, self._config, run, self._resume_from)
        else:
            folder.create(run.folder, self._config, run)

    def save(self, reason: str) -> None:
        """Writes a checkpoint of the current state; see `Saver.save`."""
        self._saver.save(reason)

    def dry_run(self) -> Run:
        """One batch, forward and backward, without an update, an event or a file; then the evaluation of one."""
        run = self.run
        with self.processes.together():
            self._books.tell_notes()
            for batches in (getattr(run, split) for split in SPLITS):
                batch = next(iter(batches.epoch(1)), None) if batches is not None else None
                if batch is None:
                    continue
                if batches is run.train:
                    self.state.step.forward_backward(batch)
                else:
                    self._evaluator.rows(batch)
                run.batch = batch
        run.step = 1
        return run


def _compare_versions(made_by: Mapping[str, Any], run: Run) -> None:
    """Warns if versions differ from those that wrote the checkpoint."""

    def of(versions: Mapping[str, str], plugins: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        return {**versions, **{f"plugin {each['name']}": each["version"] for each in plugins if "version" in each}}

    now = of(folder.versions(), folder.plugins_of(run))
    for name, before in of(made_by["versions"], made_by["plugins"]).items():
        if now.get(name, before) != before:
            log.warning(
                "the checkpoint was written with %s %s, this is %s: the results may differ", name, before, now[name]
            )
