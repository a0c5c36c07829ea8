"""Records a run in MLflow: parameters, metrics by step, tags, files and the model."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from trainer import Phase, Plugin, Run, UsageError
from trainer.config import as_text
from trainer.errors import first_line
from trainer.runs import RUN, write_run
from trainer_plugins.mlflow import client, record

log = logging.getLogger("trainer")

FILES = ("config.toml", "plugins.json", "metrics.jsonl", "metrics.csv")
"""The files of the run's folder that are uploaded, besides `run.json` and the model."""

PARAMETER_LENGTH, TAG_LENGTH = 6000, 8000
METRICS_PER_BATCH, PARAMETERS_PER_BATCH = 1000, 100
"""MLflow's own limits; it rejects anything longer."""

STATUSES = {"finished": "FINISHED", "stopped": "FINISHED", "interrupted": "KILLED"}

Point = tuple[str, float, int, int]
"""One value of a metric: its name, the value, the step, and milliseconds since 1970."""


@dataclass
class MLflow(Plugin):
    """Records parameters, the metrics of each epoch, tags, the run's files and its model in MLflow.

    Metrics are sent once per epoch, at the step that the run has reached. A resumed run continues the same MLflow run
    and sends no point twice. Without a tracking URI, here or as MLFLOW_TRACKING_URI, the record is the SQLite database
    `mlflow.db` in the folder of all runs.
    """

    tracking_uri: Annotated[
        str | None, Field(description="Where MLflow stores runs: the URI of a server or a database.")
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
    logs = ()
    varying = ("run_id",)
    after = ("metrics-log",)
    on_error = "disable"

    def __post_init__(self) -> None:
        """The state: the MLflow run to record to, and the points still to be sent."""
        self._client: Any = None
        self._experiment_id = ""
        self._run_id: str | None = None
        self._pending: list[Point] = []
        self._newest: dict[str, int] = {}
        self._begun = False

    def on_setup(self, run: Run) -> None:
        """Connects, so that a missing server is noticed before training."""
        uri = self._uri(run)
        try:
            with client.quiet(retries=0, timeout=5):
                client.check_database(uri)
                self._client = client.connect(uri)
                self._experiment_id = self._find_experiment(uri, run)
        except UsageError:
            raise
        except ImportError as error:
            raise client.not_installed(error) from error
        except Exception as error:
            raise UsageError(
                f"MLflow cannot be used at {client.without_password(uri)}: {first_line(error)}",
                where=f"plugin {self.name!r}",
                fix=f"Check --set {self.name}.tracking-uri, or MLFLOW_TRACKING_URI.",
            ) from error

    def on_fit_begin(self, run: Run) -> None:
        """Starts the MLflow run, or continues it. Not in `setup`, where the run may still be refused."""
        with client.quiet():
            known = self._continued()
            if known is None:
                name = self.run_name or (run.folder.name if run.folder else None)
                self._run_id = self._client.create_run(self._experiment_id, run_name=name).info.run_id
            self._send_parameters(run, {} if known is None else known.data.params)
            self._begun = True
            self._send_tags({**record.about(run), "status": "running"})
            self._take_up(run, [] if known is None else list(known.data.metrics))
            self._send_metrics()

    def on_batch_end(self, run: Run) -> None:
        """Notes the batch's values every `every` steps. Reading the loss waits for the device."""
        if self.every and run.step % self.every == 0:
            values = {"train/batch-loss": run.loss, "learning-rate": run.learning_rate, **run.step_metrics}
            self._note(values, run.step)
            if len(self._pending) >= METRICS_PER_BATCH:
                with client.quiet():
                    self._send_metrics()

    def on_epoch_end(self, run: Run) -> None:
        """Sends the epoch's metrics, after the values of its batches."""
        self._note(run.epoch_metrics, run.step)
        with client.quiet():
            self._send_metrics()

    def on_teardown(self, run: Run) -> None:
        """Sends the test metrics, the files and the model. The MLflow run is ended even if one of these fails."""
        if not self._begun:
            return
        self._note(run.end_metrics, run.step)
        with client.quiet():
            try:
                self._send_metrics()
                self._send_tags({"status": run.status, "reason": run.reason})
                if self.artifacts and run.folder is not None:
                    self._upload(run.folder, run)
            finally:
                self._client.set_terminated(self._run_id, STATUSES.get(run.status, "FAILED"))

    def state_dict(self) -> Mapping[str, Any]:
        """The MLflow run's id, and the points not sent yet."""
        return {"run_id": self._run_id, "pending": [list(point) for point in self._pending]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the MLflow run's id and the unsent points."""
        self._run_id = state["run_id"]
        self._pending = [(name, value, step, when) for name, value, step, when in state["pending"]]

    # ---- beginning --------------------------------------------------------------------------------------------------

    def _uri(self, run: Run) -> str:
        given = self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        if given:
            return given
        if run.folder is None:
            raise UsageError(
                "a run without a folder needs a tracking URI",
                where=f"plugin {self.name!r}",
                fix=f"Add --set {self.name}.tracking-uri=URI, or set MLFLOW_TRACKING_URI.",
            )
        above = run.folder.absolute().parent
        runs = above.parent if above.name == run.task.name else above
        return f"sqlite:///{runs / 'mlflow.db'}"

    def _find_experiment(self, uri: str, run: Run) -> str:
        """The experiment's id; the experiment is created if it does not exist."""
        name = self.experiment or run.task.name
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name, artifact_location=client.artifacts_of(uri, name)))
            except Exception:
                # Another run may have created it meanwhile.
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
        """The MLflow run of an earlier process, set to running; None if there is none or it was deleted."""
        if self._run_id is None:
            return None
        try:
            known = self._client.get_run(self._run_id)
            self._client.update_run(self._run_id, status="RUNNING")
        except client.exceptions() as error:
            log.warning("the MLflow run %s cannot be continued: %s. A new one is started.", self._run_id, error)
            return None
        return known

    def _take_up(self, run: Run, names: Iterable[str]) -> None:
        """Notes the points of a resumed run's history that the MLflow run lacks.

        MLflow cannot delete points. The steps after a checkpoint are computed again to the same bits, so the points
        that an earlier process sent for them stay.
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

    def _note(self, values: Mapping[str, float], step: int, when: int | None = None) -> None:
        """Keeps points, in the order of their steps, until they are sent; skips those that MLflow already has."""
        when = _milliseconds() if when is None else when
        for name, value in values.items():
            key = client.key(name)
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
        """Sends the new ones. MLflow cannot change one: if a resumed run has another value, a tag holds it."""
        from mlflow.entities import Param

        parameters = record.parameters(run, self)
        values = {client.key(name): as_text(value)[:PARAMETER_LENGTH] for name, value in parameters.items()}
        new = [Param(name, value) for name, value in values.items() if name not in known]
        for start in range(0, len(new), PARAMETERS_PER_BATCH):
            self._client.log_batch(self._run_id, params=new[start : start + PARAMETERS_PER_BATCH])
        changed = {name: value for name, value in values.items() if known.get(name, value) != value}
        self._send_tags({f"resumed with {name}": value for name, value in changed.items()})

    def _send_tags(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        entries = [RunTag(client.key(name), value[:TAG_LENGTH]) for name, value in tags.items()]
        for start in range(0, len(entries), PARAMETERS_PER_BATCH):
            self._client.log_batch(self._run_id, tags=entries[start : start + PARAMETERS_PER_BATCH])

    def _upload(self, run_folder: Path, run: Run) -> None:
        for name in FILES:
            if (run_folder / name).is_file():
                self._client.log_artifact(self._run_id, str(run_folder / name))
        with tempfile.TemporaryDirectory() as scratch:
            # The engine writes run.json into the run's folder only after the last plugin.
            write_run(Path(scratch), run)
            self._client.log_artifact(self._run_id, str(Path(scratch) / RUN))
        model = record.newest_model(run_folder, has_ended=run.status in ("finished", "stopped"))
        if model is not None:
            self._client.log_artifacts(self._run_id, str(model), artifact_path=model.name)


def _milliseconds() -> int:
    return int(time.time() * 1000)
