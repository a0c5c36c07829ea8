"""A study: trials one after another until there are enough, by one or several processes."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainer import Run, UsageError
from trainer.atomic import write_atomic
from trainer.config import as_text
from trainer.errors import first_line, listed
from trainer.launch import prepare_run
from trainer.runs import CONFIG, check_writable, compare, flat, is_alive, remove_folder, this_process
from trainer.seeds import derive
from trainer_plugins.tune.options import StudyOptions
from trainer_plugins.tune.parts import import_optuna, pruner_of, sampler_of, storage_at
from trainer_plugins.tune.pruning import TunePruning
from trainer_plugins.tune.search import Dimension, combinations

log = logging.getLogger("trainer")

QUIET = "progress"
"""Left out of the trials unless you ask for it: one line per trial is enough."""
DATABASE = "tune.db"
TRIALS = 20


class Study:
    """An Optuna study in its folder, `runs/<task>/<name>`; each trial is a run."""

    def __init__(self, options: StudyOptions) -> None:
        self.options = options
        runs_dir = options.request.runs_dir
        assert runs_dir is not None  # noqa: S101  the command line always has one
        base, self.dimensions = options.checked()
        self.task, self.seed = base.task.name, base.settings.seed
        self.direction = options.resolved_direction(base)
        self.trials = options.trials or TRIALS
        self._combinations = list(combinations(self.dimensions)) if options.sampler == "grid" else []
        if self._combinations:
            self.trials = min(options.trials or len(self._combinations), len(self._combinations))
        check_writable(runs_dir / self.task)
        self.folder = runs_dir.absolute() / self.task / options.name
        self._made_of = {
            "monitor": options.monitor,
            "direction": self.direction,
            "sampler": options.sampler,
            "search": {dimension.key: dimension.text for dimension in options.dimensions},
            **base.config(),
        }
        self.optuna = self._open()

    # ---- trials -----------------------------------------------------------------------------------------------------

    def next(self) -> Any | None:
        """A new trial, or None if the study has enough. Trials whose process has died are tried again."""
        from optuna.trial import TrialState

        with self._locked():
            self._retry_crashed()
            states = [each.state for each in self.counted()]
            waiting = sum(state == TrialState.WAITING for state in states)
            begun = len(states) - waiting
            if begun >= self.trials:
                return None
            # Seeded by the trial's number: processes draw different values, and a continued study the same ones.
            seed = derive(self.seed, "tune", len(self.optuna.get_trials(deepcopy=False)))
            self.optuna.sampler = sampler_of(self.options.sampler, seed)
            trial = self.optuna.ask()
            trial.set_user_attr("process", this_process())
            return trial

    def counted(self) -> list[Any]:
        """The trials that count, the oldest first: all except those that were cut short and are tried again."""
        return [each for each in self.optuna.get_trials(deepcopy=False) if "again" not in each.user_attrs]

    def train(self, trial: Any) -> tuple[Run, TunePruning]:
        """Trains one trial as a run of its own."""
        values = {dimension.key: dimension.suggest(trial) for dimension in self.dimensions}
        name = f"{self.options.name}-{trial.number:04d}"
        trial.set_user_attr("run", name)
        pruning = TunePruning()
        pruning.trial, pruning.monitor, pruning.mode = trial, self.options.monitor, self.direction
        request = self.options.with_values(values)
        launch = prepare_run(dataclasses.replace(request, plugins=[*request.plugins, pruning], name=name))
        if QUIET not in self.options.request.plugins:
            launch.plugins = [plugin for plugin in launch.plugins if plugin.name != QUIET]
        # The first trial decides for all trials of this process.
        launch.choose_computing()
        try:
            return launch.train(), pruning
        except UsageError as error:
            if error.where != f"plugin {pruning.name!r}":
                raise
            raise UsageError(error.what, where="--monitor", fix=error.fix) from error

    def finish(self, trial: Any, value: float | None, *, pruned: bool = False, error: str = "") -> None:
        """Tells the study how a trial ended: with its value, pruned, or failed."""
        from optuna.trial import TrialState

        if error:
            trial.set_user_attr("error", error)
        if pruned:
            self.optuna.tell(trial, state=TrialState.PRUNED)
        elif value is None or not math.isfinite(value):
            self.optuna.tell(trial, state=TrialState.FAIL)
        else:
            self.optuna.tell(trial, value)

    def give_back(self, trial: Any) -> None:
        """Gives back a trial that was cut short: it does not count, and its values are tried again."""
        with self._locked():
            self._try_again(trial, trial.params)

    # ---- results ----------------------------------------------------------------------------------------------------

    def best(self) -> list[Any]:
        """The completed trials, the best first."""
        from optuna.trial import TrialState

        done = self.optuna.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        sign = -1 if self.direction == "max" else 1
        return sorted(done, key=lambda trial: (sign * trial.value, trial.number))

    def write_best(self) -> Path | None:
        """Writes `config.toml` of the best trial into the study's folder; None if no trial is complete."""
        import tomli_w

        best = self.best()[:1]
        if not best:
            return None
        params = {dimension.key: _as_given(dimension, best[0].params[dimension.key]) for dimension in self.dimensions}
        path = self.folder / CONFIG
        with self._locked():
            launch = prepare_run(self.options.with_values(params))
            launch.settle_computing()
            write_atomic(path, tomli_w.dumps(launch.resolved()))
        return path

    def importance(self) -> dict[str, float]:
        """How much each setting mattered, adding up to 1; empty if there are too few trials or settings."""
        if len(self.dimensions) < 2 or len(self.best()) < 10:
            return {}
        import optuna

        try:
            return dict(optuna.importance.get_param_importances(self.optuna))
        except (ValueError, RuntimeError):
            # For example if all trials have the same value.
            return {}

    def discard_if_new(self) -> None:
        """Deletes a new study that has nothing but one failed trial."""
        if self._is_new and len(self.counted()) == 1 and self.options.storage is None:
            self.optuna._storage.remove_session()  # noqa: SLF001  the file is about to go
            remove_folder(self.folder)

    # ---- storage ----------------------------------------------------------------------------------------------------

    def _open(self) -> Any:
        """The Optuna study, created or opened. Raises UsageError if it has other settings or cannot be opened."""
        optuna = import_optuna()
        url = self.options.storage or f"sqlite:///{self.folder / DATABASE}"
        self._is_new = not self.folder.exists()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._locked():
                study = optuna.create_study(
                    study_name=self.options.name,
                    storage=storage_at(url),
                    direction="maximize" if self.direction == "max" else "minimize",
                    pruner=pruner_of(self.options.pruner),
                    load_if_exists=True,
                )
                if "made_of" not in study.user_attrs:
                    study.set_user_attr("made_of", json.dumps(self._made_of, default=str))
                    for values in self._combinations:
                        study.enqueue_trial(values)
        except Exception as error:
            # SQLAlchemy and the databases' drivers raise errors of many classes.
            if self._is_new:
                remove_folder(self.folder)
            raise UsageError(f"the study cannot be stored there: {first_line(error)}", where="--storage") from error
        before, now = (
            flat(json.loads(study.user_attrs["made_of"])),
            flat(json.loads(json.dumps(self._made_of, default=str))),
        )
        differing = compare([before, now])
        if differing:
            changes = [f"{name} ({as_text(old)} then, {as_text(new)} now)" for name, (old, new) in differing.items()]
            raise UsageError(
                f"the study {self.options.name!r} was started with other settings: {listed(changes, 5)}",
                where="--study",
                fix="Repeat them to continue it, or choose another name.",
            )
        return study

    def _retry_crashed(self) -> None:
        from optuna.trial import TrialState

        for each in self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if not is_alive(each.user_attrs.get("process")):
                self._try_again(each.number, each.params)

    def _try_again(self, trial: Any, params: Mapping[str, Any]) -> None:
        from optuna.trial import TrialState

        number = trial if isinstance(trial, int) else trial.number
        stored = next(each for each in self.optuna.get_trials(deepcopy=False) if each.number == number)
        self.optuna._storage.set_trial_user_attr(stored._trial_id, "again", True)  # noqa: SLF001  no public way by number
        self.optuna.tell(number, state=TrialState.FAIL)
        if set(params) == {dimension.key for dimension in self.dimensions}:
            self.optuna.enqueue_trial(dict(params))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Holds a lock that one process on this machine can have at a time; it is released if the process dies."""
        with (self.folder / ".lock").open("w") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            yield


def _as_given(dimension: Dimension, value: Any) -> str:
    """A trial's value as the text that was passed to the run."""
    return repr(float(value)) if not dimension.choices and not dimension.whole else str(value)
