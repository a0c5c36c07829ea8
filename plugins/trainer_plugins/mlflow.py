"""Records a run in MLflow: parameters, metrics by step, tags, files and the model."""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from trainer import Phase, Plugin, Run, TrainerError, UsageError
from trainer.config.options import as_text, to_toml
from trainer.runs import folder

log = logging.getLogger("trainer")

FILES = ("config.toml", "plugins.json", "metrics.jsonl", "metrics.csv")
"""What is uploaded of the run's folder, besides `run.json` and the model."""

KEY_LENGTH, PARAMETER_LENGTH, TAG_LENGTH = 250, 6000, 8000
METRICS_PER_BATCH, PARAMETERS_PER_BATCH = 1000, 100
"""MLflow's own limits; it refuses what is longer."""

STATUSES = {"finished": "FINISHED", "stopped": "FINISHED", "interrupted": "KILLED"}

Point = tuple[str, float, int, int]
"""One value of a metric: its name, the value, the step, and milliseconds since 1970."""


@dataclass
class MLflow(Plugin):
    """Records parameters, the figures of each epoch, tags, the run's files and its model in MLflow.

    Figures are sent once an epoch, at the step that the run has reached. A resumed run goes on in the same MLflow run,
    without a point twice. Where no tracking URI is given, here or as MLFLOW_TRACKING_URI, the record is the SQLite
    database `mlflow.db` in the folder of all runs.
    """

    tracking_uri: Annotated[
        str | None, Field(description="Where MLflow keeps its record: the URI of a server or a database.")
    ] = None
    experiment: Annotated[str | None, Field(description="The experiment; by default the task's name.")] = None
    run_name: Annotated[str | None, Field(description="The run's name; by default that of its folder.")] = None
    every: Annotated[
        int, Field(ge=0, description="Steps between two points of batch loss and learning rate; 0 for none.")
    ] = 0
    artifacts: Annotated[bool, Field(description="Whether the run's files and its model are uploaded at the end.")] = (
        True
    )

    phase = Phase.REPORT
    varying = ("run_id",)
    after = ("metrics-log",)
    on_error = "disable"

    def __post_init__(self) -> None:
        """The state: the MLflow run that is continued, and what was not sent yet."""
        self._client: Any = None
        self._experiment_id = ""
        self._run_id: str | None = None
        self._pending: list[Point] = []
        self._newest: dict[str, int] = {}
        self._begun = False

    def on_setup(self, run: Run) -> None:
        """Connects, so that a server that is not there is known before training."""
        uri = self._uri(run)
        try:
            with _mlflow(retries=0, timeout=5):
                _check_database(uri)
                self._client = _client(uri)
                self._experiment_id = self._find_experiment(uri, run)
        except UsageError:
            raise
        except ImportError as error:
            raise _not_installed(error) from error
        except Exception as error:
            raise UsageError(
                f"MLflow cannot be used at {_without_password(uri)}: {_first_line(error)}",
                where=f"plugin {self.name!r}",
                fix=f"Check --set {self.name}.tracking-uri, or MLFLOW_TRACKING_URI.",
            ) from error

    def on_fit_begin(self, run: Run) -> None:
        """Begins the MLflow run, or goes on with it; not in `setup`, where a run may still turn out impossible."""
        with _mlflow():
            known = self._continued()
            if known is None:
                name = self.run_name or (run.folder.name if run.folder else None)
                self._run_id = self._client.create_run(self._experiment_id, run_name=name).info.run_id
            self._send_parameters(run, {} if known is None else known.data.params)
            self._begun = True
            self._send_tags({**_about(run), "status": "running"})
            self._take_up(run, [] if known is None else list(known.data.metrics))
            self._send_metrics()

    def on_batch_end(self, run: Run) -> None:
        """Notes the batch's figures every so many steps; reading the loss waits for the device."""
        if self.every and run.step % self.every == 0:
            figures = {"train/batch-loss": run.loss, "learning-rate": run.learning_rate, **run.step_metrics}
            self._note(figures, run.step)
            if len(self._pending) >= METRICS_PER_BATCH:
                with _mlflow():
                    self._send_metrics()

    def on_epoch_end(self, run: Run) -> None:
        """Sends the epoch's figures, and the batches' before them."""
        self._note(run.epoch_metrics, run.step)
        with _mlflow():
            self._send_metrics()

    def on_teardown(self, run: Run) -> None:
        """The figures of the test split, the files and the model; then the MLflow run is over, whatever failed here."""
        if not self._begun:
            return
        self._note({name: value for name, value in run.metrics.items() if name.startswith("test/")}, run.step)
        with _mlflow():
            try:
                self._send_metrics()
                self._send_tags({"status": run.status, "reason": run.reason})
                if self.artifacts and run.folder is not None:
                    self._upload(run.folder, run)
            finally:
                self._client.set_terminated(self._run_id, STATUSES.get(run.status, "FAILED"))

    def state_dict(self) -> Mapping[str, Any]:
        """The MLflow run, and the points that it does not have yet."""
        return {"run_id": self._run_id, "pending": [list(point) for point in self._pending]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes it back."""
        self._run_id = state["run_id"]
        self._pending = [(name, value, step, when) for name, value, step, when in state["pending"]]

    # ---- beginning --------------------------------------------------------------------------------------------------

    def _uri(self, run: Run) -> str:
        given = self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        if given:
            return given
        if run.folder is None:
            raise UsageError(
                "a run that writes nothing needs to be told where MLflow keeps its record",
                where=f"plugin {self.name!r}",
                fix=f"Add --set {self.name}.tracking-uri=URI, or set MLFLOW_TRACKING_URI.",
            )
        above = run.folder.absolute().parent
        runs = above.parent if above.name == run.task.name else above
        return f"sqlite:///{runs / 'mlflow.db'}"

    def _find_experiment(self, uri: str, run: Run) -> str:
        """The experiment's number; it is made where there is none of the name."""
        name = self.experiment or run.task.name
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name, artifact_location=_artifacts_of(uri, name)))
            except Exception:
                # Another run may have made it in this moment.
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise UsageError(
                f"the MLflow experiment {name!r} was deleted",
                where=f"plugin {self.name!r}",
                fix=f"Restore it (mlflow experiments restore), or choose another: --set {self.name}.experiment=NAME.",
            )
        return str(found.experiment_id)

    def _continued(self) -> Any:
        """The MLflow run of an earlier process, running again; None where there is none, or it was deleted."""
        if self._run_id is None:
            return None
        try:
            known = self._client.get_run(self._run_id)
            self._client.update_run(self._run_id, status="RUNNING")
        except _exceptions() as error:
            log.warning("the MLflow run %s cannot be continued: %s. A new one is begun.", self._run_id, error)
            return None
        return known

    def _take_up(self, run: Run, names: Iterable[str]) -> None:
        """Notes what a resumed run has behind it and the MLflow run does not have.

        MLflow cannot take points back. The steps after a checkpoint are computed again, to the same bits, so what an
        earlier process has sent of them is left as it is.
        """
        self._newest = {
            name: max((point.step for point in self._client.get_metric_history(self._run_id, name)), default=-1)
            for name in names
        }
        now = _milliseconds()
        before = [
            (name, value, int(entry["step"]), now)
            for entry in run.history
            for name, value in entry.items()
            if name not in ("epoch", "step")
        ]
        points = sorted([*self._pending, *before], key=lambda point: point[2])
        self._pending = []
        for name, value, step, when in points:
            self._note({name: value}, step, when)

    # ---- sending ----------------------------------------------------------------------------------------------------

    def _note(self, figures: Mapping[str, float], step: int, when: int | None = None) -> None:
        """Keeps points until they are sent, in the order of their steps; what is there already is passed over."""
        when = _milliseconds() if when is None else when
        for name, value in figures.items():
            key = _key(name)
            if step > self._newest.get(key, -1):
                self._newest[key] = step
                self._pending.append((key, value, step, when))

    def _send_metrics(self) -> None:
        from mlflow.entities import Metric

        while self._pending:
            points = self._pending[:METRICS_PER_BATCH]
            metrics = [Metric(name, value, when, step) for name, value, step, when in points]
            self._client.log_batch(self._run_id, metrics=metrics)
            del self._pending[: len(points)]

    def _send_parameters(self, run: Run, known: Mapping[str, str]) -> None:
        """Those that are not there yet. MLflow changes none: where a resumed run has another value, a tag holds it."""
        from mlflow.entities import Param

        values = {_key(name): as_text(value)[:PARAMETER_LENGTH] for name, value in _parameters(run, self).items()}
        new = [Param(name, value) for name, value in values.items() if name not in known]
        for start in range(0, len(new), PARAMETERS_PER_BATCH):
            self._client.log_batch(self._run_id, params=new[start : start + PARAMETERS_PER_BATCH])
        changed = {name: value for name, value in values.items() if known.get(name, value) != value}
        self._send_tags({f"resumed with {name}": value for name, value in changed.items()})

    def _send_tags(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        entries = [RunTag(_key(name), value[:TAG_LENGTH]) for name, value in tags.items()]
        for start in range(0, len(entries), PARAMETERS_PER_BATCH):
            self._client.log_batch(self._run_id, tags=entries[start : start + PARAMETERS_PER_BATCH])

    def _upload(self, run_folder: Path, run: Run) -> None:
        for name in FILES:
            if (run_folder / name).is_file():
                self._client.log_artifact(self._run_id, str(run_folder / name))
        with tempfile.TemporaryDirectory() as scratch:
            # The engine writes the folder's own run.json after the last plugin is done.
            folder.write_run(Path(scratch), run)
            self._client.log_artifact(self._run_id, str(Path(scratch) / folder.RUN))
        model = newest_model(run_folder, has_ended=run.status in ("finished", "stopped"))
        if model is not None:
            self._client.log_artifacts(self._run_id, str(model), artifact_path=model.name)


def newest_model(run_folder: Path, *, has_ended: bool = True) -> Path | None:
    """The folder with a run's weights: `model` where there is one, otherwise the newest checkpoint.

    A run that has not ended in order may have the model of an earlier end, which is not what it came to.
    """
    if has_ended and (run_folder / "model").is_dir():
        return run_folder / "model"
    # The later of two at one step has the longer name.
    checkpoints = [path for path in (run_folder / "checkpoints").glob("step-*") if path.is_dir()]
    return max(checkpoints, key=lambda path: path.name, default=None)


# ---- what is sent ---------------------------------------------------------------------------------------------------


def _parameters(run: Run, without: Plugin) -> dict[str, Any]:
    """Every option of the run under one flat name; not this plugin's own, whose URI may hold a password."""
    tree = {
        **run.settings.to_toml(),
        "task": {"name": run.task.name, **to_toml(run.task)},
        **{plugin.name: to_toml(plugin) for plugin in run.plugins if plugin is not without},
    }
    if not run.resumed:
        tree["optimizer"] = {"learning-rate": run.learning_rate, **tree["optimizer"]}
    return dict(_flat(tree))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _about(run: Run) -> dict[str, str]:
    """What is no option of the run, and worth searching for."""
    packages = ("gluon-trainer", "mxnet", "numpy")
    tags = {"task": run.task.name, "version.python": sys.version.split()[0]}
    tags |= {f"version.{package}": version(package) for package in packages}
    tags["plugins"] = ", ".join(plugin.name for plugin in run.plugins)
    if run.folder is not None:
        tags["folder"] = str(run.folder)
    return tags


def _key(name: str) -> str:
    """A name as MLflow takes it: some characters are not allowed, nor what would be another path."""
    plain = re.sub(r"[^\w.\- /]", "_", name)
    parts = [part for part in plain.split("/") if part not in ("", ".", "..")]
    return "/".join(parts)[:KEY_LENGTH].rstrip("/") or "_"


def _milliseconds() -> int:
    return int(time.time() * 1000)


# ---- MLflow itself --------------------------------------------------------------------------------------------------


@contextmanager
def _mlflow(*, retries: int = 2, timeout: int = 30) -> Iterator[None]:
    """Around every call of MLflow: quiet, and giving up on a server within seconds; by default it tries for minutes.

    What the user has set in the environment counts. Errors that quote a URI do so without its password.
    """
    # Read while it is imported, so it stays.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    own = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries),
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout),
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
    }
    added = [name for name in own if name not in os.environ]
    os.environ.update({name: own[name] for name in added})
    try:
        logger = _logger()
        level = logger.level
        logger.setLevel(max(level, logging.WARNING))
        try:
            yield
        except Exception as error:
            if _without_password(str(error)) != str(error):
                # From None: the original would be shown above it.
                raise TrainerError(_without_password(str(error))) from None
            raise
        finally:
            logger.setLevel(level)
    finally:
        for name in added:
            os.environ.pop(name, None)


def _logger() -> logging.Logger:
    """MLflow's logger, which gets its level while MLflow is imported."""
    try:
        import mlflow  # noqa: F401
    except ImportError as error:
        raise _not_installed(error) from error
    return logging.getLogger("mlflow")


def _not_installed(error: ImportError) -> UsageError:
    """For MLflow itself, and for what it needs for a database: the package `mlflow-skinny` alone brings no SQL."""
    return UsageError(
        f"MLflow, or what it needs, cannot be imported: {error}",
        where="plugin 'mlflow'",
        fix='Install it: pip install "gluon-trainer[mlflow]".',
    )


def _client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _exceptions() -> type[Exception]:
    from mlflow.exceptions import MlflowException

    return MlflowException


def _check_database(uri: str) -> None:
    """Connects once. MLflow would try for minutes to reach a database that is not there, or is none."""
    if not _is_database(uri):
        return
    import sqlalchemy

    path = _sqlite_path(uri)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    engine = sqlalchemy.create_engine(uri)
    try:
        sqlalchemy.inspect(engine).get_table_names()
    finally:
        engine.dispose()


def _is_database(uri: str) -> bool:
    return re.match(r"(sqlite|postgresql|mysql|mssql)(\+\w+)?:", uri) is not None


def _sqlite_path(uri: str) -> Path | None:
    import sqlalchemy

    database = sqlalchemy.make_url(uri).database if uri.startswith("sqlite") else None
    return Path(database).absolute() if database and database != ":memory:" else None


def _artifacts_of(uri: str, experiment: str) -> str | None:
    """Where a new experiment keeps files: beside an SQLite database; a server knows by itself.

    MLflow would put them into a folder below the one in which the process happens to run.
    """
    path = _sqlite_path(uri) if _is_database(uri) else None
    return None if path is None else (path.parent / "mlartifacts" / _key(experiment).replace("/", "_")).as_uri()


def _without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//…@", text)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
