"""A checked request that can be trained: everything but the data and the net is known."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainer import cpu, devices
from trainer.catalog import registry
from trainer.config import options
from trainer.config.settings import OPTIMIZER, Settings
from trainer.errors import UsageError
from trainer.events import Plugin
from trainer.launch.layers import IN_PYTHON, SCHEMA, SECRETS, Merged
from trainer.run import Run
from trainer.runs import folder
from trainer.runs.checkpoint import Checkpoint
from trainer.task import Task

log = logging.getLogger("trainer")


@dataclass
class Launch:
    """A checked request: everything but the data and the net is known."""

    task: Task
    settings: Settings
    plugins: list[Plugin]
    run_folder: Path | None
    given: Merged
    """The values that all this was built from, each with its origin."""
    continues: Checkpoint | Literal["from the start"] | None = None
    """What it resumes from, in a folder that exists; None for a new run."""
    drops_stop: bool = False
    """Whether the checkpoint's request to stop is dropped, since the user has asked for more training."""
    changed_data: Literal["refuse", "ok"] = "refuse"
    """Whether a resumed run may have other data than those that it was started with."""

    def config(self) -> dict[str, Any]:
        """What `config.toml` holds: every option with its value; of secret options only the names."""
        parts: dict[str, Task | Plugin] = {"task": self.task, **{plugin.name: plugin for plugin in self.plugins}}
        secrets = [f"{name}.{option}" for name, part in parts.items() for option in options.secrets_of(part)]
        return {
            "schema": SCHEMA,
            **({SECRETS: secrets} if secrets else {}),
            **self.settings.to_toml(),
            "task": {"name": self.task.name, **options.to_toml(self.task)},
            "plugins": {plugin.name: self._plugin(plugin) for plugin in self.plugins},
        }

    @staticmethod
    def _plugin(plugin: Plugin) -> dict[str, Any]:
        known = registry.is_installed(registry.PLUGINS, plugin.name)
        common: dict[str, Any] = {} if known else {IN_PYTHON: True}
        common |= {} if plugin.on_error == type(plugin).on_error else {"on-error": plugin.on_error}
        return {**options.to_toml(plugin), **common}

    def choose_computing(self) -> None:
        """Chooses by the size of a step how the CPU computes, if the settings leave that open.

        For the owner of the process, such as the command line. Does nothing once MXNet is imported: how it computes is
        then fixed until the process ends.
        """
        if cpu.is_settled():
            return
        on_cpu = devices.parse(self.settings.devices)[0] == "cpu"
        best = cpu.best_for(self.task.work(self.settings.batch_size) if on_cpu else None, self.task.work_layers())
        onednn, threads = self.settings.onednn, self.settings.threads
        self._compute(
            onednn=("on" if best.onednn else "off") if onednn == "auto" else onednn,
            threads=best.threads if threads == "auto" else int(threads),
        )

    def settle_computing(self) -> None:
        """Makes MXNet compute as the settings say, or warns if it is too late.

        The settings then say how MXNet computes.
        """
        asked = self.settings
        cpu.settle(onednn=asked.onednn, threads=asked.threads)
        from trainer.mxnet import COMPUTING

        self._compute(onednn="on" if COMPUTING.onednn else "off", threads=COMPUTING.threads)
        for name in ("onednn", "threads"):
            wanted, actual = getattr(asked, name), getattr(self.settings, name)
            if wanted not in ("auto", actual):
                log.warning(
                    "%s = %s has no effect, since MXNet is already imported with %s; the last bits may differ.",
                    name,
                    wanted,
                    actual,
                )

    def _compute(self, *, onednn: str, threads: int) -> None:
        self.settings = self.settings.model_copy(update={"onednn": onednn, "threads": threads})

    def train(self, *, dry_run: bool = False, compiled: bool = True) -> Run:
        """Builds the engine and trains; a dry run computes one batch and writes no run."""
        from trainer.processes import connect

        # Before MXNet is loaded, which reads how many threads this process may have.
        processes = connect()
        processes.rank_timeout = self.settings.rank_timeout
        self.settle_computing()
        run_folder = None if dry_run else self.run_folder
        takes_lock = run_folder is not None and self.continues and processes.is_first
        with processes.together(), folder.locked(run_folder) if run_folder and takes_lock else nullcontext():
            from trainer.engine import Engine

            engine = Engine(
                self.task,
                self.settings,
                self.plugins,
                run_folder=run_folder,
                config=self.resolved(),
                resume_from=self.continues if isinstance(self.continues, Checkpoint) else None,
                start_over=self.continues == "from the start",
                changed_data=self.changed_data,
                compiled=compiled,
                processes=processes,
            )
            if not self.continues:
                self._check_batch_size(engine.run)
            if self.drops_stop:
                engine.state.requests.take("stop")
            return engine.dry_run() if dry_run else engine.fit()

    def _check_batch_size(self, run: Run) -> None:
        """Raises UsageError for a batch size that was given although a DataLoader has its own; a file's is a warning.

        The file may be the configuration of an earlier run, which holds the default.
        """
        from trainer.data.loader import LoaderBatches

        given = self.given.settings["batch-size"]
        if not isinstance(run.train, LoaderBatches) or given.origin.source == "default":
            return
        size, asked = run.train.batch_size, self.settings.batch_size
        if size == asked:
            return
        what = f"the task's DataLoader gives batches of {size}, so {asked} has no effect"
        if given.origin.source == "file":
            log.warning("%s: %s", given.where, what)
            return
        raise UsageError(what, where=given.where, fix="Leave it out, or set the batch size of the DataLoader.")

    def resolved(self) -> dict[str, Any]:
        """The configuration, with the optimizer's own learning rate if none was given."""
        config = self.config()
        if self.settings.solver != OPTIMIZER:
            return config
        places = {name: given.section for name, given in self.given.optimizer.items()}
        rate = float(self.settings.optimizer.build(places).learning_rate)
        name = config["optimizer"].pop("name")
        config["optimizer"] = {"name": name, "learning-rate": rate, **config["optimizer"]}
        return config
