"""A study: trials one after another until there are enough, by as many processes as are started on it."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainer import Run, UsageError
from trainer.atomic import write_atomic
from trainer.catalog import registry
from trainer.config.options import as_text
from trainer.config.settings import FLAGS
from trainer.errors import listed
from trainer.launch.launch import Launch
from trainer.launch.prepare import Request, prepare
from trainer.runs import folder
from trainer.runs.comparison import flat, rows
from trainer.runs.folder import CONFIG, check_writable, folder_path, this_process
from trainer.runs.listing import is_alive
from trainer.seeds import derive
from trainer_plugins.tune.pruning import TunePruning
from trainer_plugins.tune.search import Dimension, combinations

log = logging.getLogger("trainer")

PRUNING = "tune-pruning"
QUIET = "progress"
"""Left out of the trials unless it is asked for: a line a trial is what a person can follow."""
DATABASE = "tune.db"
TRIALS = 20


@dataclass(frozen=True)
class Asked:
    """What the user asked for. `trials` None: 20, or every combination of a grid."""

    request: Request
    dimensions: Sequence[Dimension]
    trials: int | None
    monitor: str
    direction: Literal["auto", "max", "min"]
    sampler: str
    pruner: str
    name: str
    storage: str | None
    minutes: float | None


class Study:
    """An Optuna study with its folder, `runs/<task>/<name>`, and how its trials become runs."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        runs_dir = asked.request.runs_dir
        assert runs_dir is not None  # noqa: S101  the command line always has one
        base = self._checked()
        self.task, self.seed = base.task.name, base.settings.seed
        self.direction = _direction(asked, base)
        self.trials = asked.trials or TRIALS
        self._combinations = list(combinations(self.dimensions)) if asked.sampler == "grid" else []
        if self._combinations:
            self.trials = min(asked.trials or len(self._combinations), len(self._combinations))
        check_writable(runs_dir / self.task)
        self.folder = runs_dir.absolute() / self.task / asked.name
        self._made_of = {
            "monitor": asked.monitor,
            "direction": self.direction,
            "sampler": asked.sampler,
            "search": {dimension.key: dimension.text for dimension in asked.dimensions},
            **base.config(),
        }
        self.optuna = self._open()

    # ---- trials -----------------------------------------------------------------------------------------------------

    def next(self) -> Any | None:
        """A new trial; None where the study has enough. Trials whose process is gone are tried again."""
        from optuna.trial import TrialState

        with self._alone():
            self._take_back_crashed()
            states = [each.state for each in self.counted()]
            waiting = sum(state == TrialState.WAITING for state in states)
            begun = len(states) - waiting
            if begun >= self.trials:
                return None
            # By the trial's number: several processes draw different values, and a continued study the same ones.
            self.optuna.sampler = self._sampler(len(self.optuna.get_trials(deepcopy=False)))
            trial = self.optuna.ask()
            trial.set_user_attr("process", this_process())
            return trial

    def counted(self) -> list[Any]:
        """The trials that count, the oldest first: all but those that were cut short and are tried again."""
        return [each for each in self.optuna.get_trials(deepcopy=False) if "again" not in each.user_attrs]

    def train(self, trial: Any) -> tuple[Run, TunePruning]:
        """Trains one trial as a run of its own."""
        values = {dimension.key: dimension.suggest(trial) for dimension in self.dimensions}
        name = f"{self.asked.name}-{trial.number:04d}"
        trial.set_user_attr("run", name)
        pruning = registry.create_plugin(PRUNING, {}, where="trainer tune")
        assert isinstance(pruning, TunePruning)  # noqa: S101
        pruning.trial, pruning.monitor = trial, self.asked.monitor
        request = self.with_values(values)
        launch = prepare(dataclasses.replace(request, plugins=[*request.plugins, pruning], name=name))
        if QUIET not in self.asked.request.plugins:
            launch.plugins = [plugin for plugin in launch.plugins if plugin.name != QUIET]
        # The first trial decides for all that this process trains.
        launch.choose_computing()
        return launch.train(), pruning

    def with_values(self, values: Mapping[str, str]) -> Request:
        """The request with the values of a trial: names without a dot as options, the others as `--set` has them."""
        request = self.asked.request
        given = {key: value for key, value in values.items() if "." not in key}
        sets = [f"{key}={value}" for key, value in values.items() if "." in key]
        return dataclasses.replace(request, options={**request.options, **given}, sets=[*request.sets, *sets])

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
        """A trial that was cut short: it does not count, and its values are tried again."""
        with self._alone():
            self._try_again(trial, trial.params)

    # ---- results ----------------------------------------------------------------------------------------------------

    def best(self) -> list[Any]:
        """The trials that came to their end, the best first."""
        from optuna.trial import TrialState

        done = self.optuna.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        sign = -1 if self.direction == "max" else 1
        return sorted(done, key=lambda trial: (sign * trial.value, trial.number))

    def write_best(self) -> Path | None:
        """Writes `config.toml` of the best trial into the study's folder; None where no trial came to its end."""
        import tomli_w

        best = self.best()[:1]
        if not best:
            return None
        params = {dimension.key: _as_given(dimension, best[0].params[dimension.key]) for dimension in self.dimensions}
        path = self.folder / CONFIG
        with self._alone():
            launch = prepare(self.with_values(params))
            launch.settle_computing()
            write_atomic(path, tomli_w.dumps(launch.resolved()))
        return path

    def importance(self) -> dict[str, float]:
        """How much each setting mattered, adding up to 1; empty where there is too little to tell by."""
        if len(self.dimensions) < 2 or len(self.best()) < 10:
            return {}
        import optuna

        try:
            return dict(optuna.importance.get_param_importances(self.optuna))
        except (ValueError, RuntimeError):
            # All trials came to the same value, say.
            return {}

    def discard_if_new(self) -> None:
        """Takes the study away again where it has come to nothing but one failed trial."""
        if self._is_new and len(self.counted()) == 1 and self.asked.storage is None:
            self.optuna._storage.remove_session()  # noqa: SLF001  the file is about to go
            folder.remove(self.folder)

    # ---- the inside -------------------------------------------------------------------------------------------------

    def _checked(self) -> Launch:
        """The launch without any trial's values. Raises UsageError for a search that a run would not accept."""
        request = self.asked.request
        folder_path(request.runs_dir or Path(), "none", self.asked.name)
        keys = [dimension.key for dimension in self.asked.dimensions]
        taken = {entry.partition("=")[0].strip() for entry in request.sets} | set(request.options)
        full = {**{flag: ".".join(path) for flag, path in FLAGS.items()}}
        for key in keys:
            if {key, full.get(key, key)} & {full.get(name, name) for name in taken} | ({key} & taken):
                raise UsageError(f"{key!r} is searched and set", where="--search", fix="Do one of the two.")
        base = prepare(dataclasses.replace(request, name=None))
        for dimension in self.asked.dimensions:
            for end in dimension.ends:
                try:
                    prepare(self.with_values({dimension.key: end}))
                except UsageError as error:
                    where = f"--search {dimension.key}"
                    raise UsageError(error.what, where=where, fix=error.fix) from error
        self.dimensions = [self._fractional(dimension) for dimension in self.asked.dimensions]
        return base

    def _fractional(self, dimension: Dimension) -> Dimension:
        """A range that was written in whole numbers, as one of fractions where the setting takes them."""
        if not dimension.whole or dimension.step is not None:
            return dimension
        try:
            prepare(self.with_values({dimension.key: repr(dimension.low + 0.5)}))
        except UsageError:
            return dimension
        return dataclasses.replace(dimension, whole=False)

    def _open(self) -> Any:
        """The Optuna study, made or found. Raises UsageError where it is of something else, or cannot be had."""
        optuna = _optuna()
        url = self.asked.storage or f"sqlite:///{self.folder / DATABASE}"
        self._is_new = not self.folder.exists()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._alone():
                study = optuna.create_study(
                    study_name=self.asked.name,
                    storage=_storage(optuna, url),
                    direction="maximize" if self.direction == "max" else "minimize",
                    pruner=_pruner(optuna, self.asked.pruner),
                    load_if_exists=True,
                )
                if "made_of" not in study.user_attrs:
                    study.set_user_attr("made_of", json.dumps(self._made_of, default=str))
                    for values in self._combinations:
                        study.enqueue_trial(values)
        except Exception as error:
            # SQLAlchemy and the databases' drivers raise whatever they like.
            if self._is_new:
                folder.remove(self.folder)
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UsageError(f"the study cannot be kept there: {first}", where="--storage") from error
        before, now = (
            flat(json.loads(study.user_attrs["made_of"])),
            flat(json.loads(json.dumps(self._made_of, default=str))),
        )
        differing = rows([before, now])
        if differing:
            told = [f"{name} ({as_text(old)} then, {as_text(new)} now)" for name, (old, new) in differing.items()]
            raise UsageError(
                f"the study {self.asked.name!r} was begun with other settings: {listed(told, 5)}",
                where="--study",
                fix="Repeat them to go on with it, or name another.",
            )
        return study

    def _sampler(self, number: int) -> Any:
        import optuna

        seed = derive(self.seed, "tune", number)
        return (
            optuna.samplers.TPESampler(seed=seed)
            if self.asked.sampler == "tpe"
            else optuna.samplers.RandomSampler(seed)
        )

    def _take_back_crashed(self) -> None:
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
    def _alone(self) -> Iterator[None]:
        """Only one process of this machine at a time; the lock ends with the process."""
        with (self.folder / ".lock").open("w") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            yield


def _direction(asked: Asked, base: Launch) -> Literal["max", "min"]:
    if asked.direction != "auto":
        return asked.direction
    from trainer.build import build_metrics
    from trainer.metrics import direction_of

    name = asked.monitor
    found = direction_of(name, build_metrics(base.task))
    if found is None:
        raise UsageError(
            f"whether more or less of {name!r} is better is not known",
            where="--monitor",
            fix="Add --direction max, or --direction min.",
        )
    return found


def _as_given(dimension: Dimension, value: Any) -> str:
    """A trial's value as the text that it was given to the run as."""
    return repr(float(value)) if not dimension.choices and not dimension.whole else str(value)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise UsageError(
            f"Optuna cannot be imported: {error}", where="trainer tune", fix="pip install 'gluon-trainer[tune]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _storage(optuna: Any, url: str) -> Any:
    """SQLite waits for its turn for a minute: several processes write to it."""
    arguments = {"connect_args": {"timeout": 60}} if url.startswith("sqlite:") else {}
    return optuna.storages.RDBStorage(url, engine_kwargs=arguments)


def _pruner(optuna: Any, name: str) -> Any:
    pruners = optuna.pruners
    return {
        "median": pruners.MedianPruner,
        "halving": pruners.SuccessiveHalvingPruner,
        "hyperband": pruners.HyperbandPruner,
        "none": pruners.NopPruner,
    }[name]()
