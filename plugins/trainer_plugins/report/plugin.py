"""The plugin: keeps the evaluation data that a report needs, and writes the report after a long run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from trainer import Numbers, Phase, Plugin, Run
from trainer.atomic import shown, write_atomic
from trainer_plugins.report.curves import of_newest
from trainer_plugins.report.document import DATA, HTML, LOG, SCHEMA, of_run, read_data

LONG_SECONDS = 20
"""Drawing takes about two seconds, which hardly matters to a run of this length."""
MOST_WEIGHTS = 100_000
"""More would make the report's data larger than all else in it."""


@dataclass
class Report(Plugin):
    """Writes report.html at the end of a run: one file with charts, metrics, costs, decisions and configuration.

    The numbers behind the charts are always kept, in report.json, so `trainer report RUN` can draw them at any time:
    curves and counts, never a row of data, except for the worst mistakes on images, which `mistakes` leaves out if 0.
    Drawing takes about two seconds, so after a short run it is left to that command unless `html` is `always`.
    """

    html: Annotated[
        Literal["auto", "always", "never"],
        Field(description=f"Whether to write report.html; auto: if the run took {LONG_SECONDS} seconds or more."),
    ] = "auto"
    mistakes: Annotated[
        int, Field(ge=0, le=100, description="The number of wrongly classified images in the report; 0 for none.")
    ] = 8

    phase = Phase.REPORT
    logs = ()
    after = ("metrics-log",)
    on_error = "disable"

    def __post_init__(self) -> None:
        """Starts without evaluations."""
        self._splits: dict[str, Any] = {}
        self._begun = False

    def on_setup(self, run: Run) -> None:
        """In a resumed run: loads the earlier evaluations and deletes the earlier report."""
        if run.folder is None:
            return
        if run.resumed:
            earlier = read_data(run.folder).get("splits", {})
            self._splits = {name: each for name, each in earlier.items() if each.get("step", 0) <= run.step}
            (run.folder / HTML).unlink(missing_ok=True)
        self._begun = True

    def on_fit_end(self, run: Run) -> None:
        """Keeps the newest validation, even if the run failed."""
        self._take(run, "validation")

    def on_calibration_end(self, run: Run) -> None:
        """Keeps the evaluation of the calibration rows."""
        self._take(run, "calibration")

    def on_test_end(self, run: Run) -> None:
        """Keeps the test evaluation."""
        self._take(run, "test")

    def on_teardown(self, run: Run) -> None:
        """Writes report.json and, if it is due, report.html."""
        if run.folder is None or not self._begun:
            return
        data = {
            "schema": SCHEMA,
            "about": [str(line) for line in (*run.task.describe(), *run.task.notes())],
            "splits": self._splits,
            "weights": _linear_weights(run),
            "weighted": run.train.weighted,
            "headline": list(run.task.headline),
            # The log has the metrics of each epoch; without it they are kept here.
            "history": [] if (run.folder / LOG).is_file() else _finite(run.history),
        }
        # Not indented: half the size, and a thousand points are not for reading.
        write_atomic(run.folder / DATA, json.dumps(data, ensure_ascii=False, allow_nan=False) + "\n")
        if self.html == "always" or (self.html == "auto" and run.seconds >= LONG_SECONDS):
            self._write_html(run, run.folder)
        elif self.html == "auto":
            run.notes.append(f"report: trainer report {shown(run.folder)}")

    def _write_html(self, run: Run, folder: Path) -> None:
        from trainer_plugins.report.page import page

        write_atomic(folder / HTML, page(of_run(run, folder)))
        run.notes.append(f"report: {folder / HTML}")

    def _take(self, run: Run, split: str) -> None:
        evaluation = run.evaluation
        if run.folder is None or evaluation is None or evaluation.split != split:
            return
        self._splits[split] = {
            "epoch": run.epoch,
            "step": run.step,
            "rows": evaluation.rows,
            **of_newest(run, self.mistakes),
        }


def _linear_weights(run: Run) -> dict[str, Any] | None:
    """The weights by feature of a net of one layer over named columns, with one neuron or one per class.

    None for any other net, and for very many weights.
    """
    names = list(run.task.feature_names()) if run.net is not None else []
    values = run.copy_weights() if names else {}
    kinds = {name.rpartition(".")[2]: value for name, value in values.items()}
    if len(kinds) != len(values) or set(kinds) - {"weight", "bias"} or "weight" not in kinds:
        return None
    classes = list(run.task.class_names())
    outputs = len(classes) if len(classes) > 2 else 1
    weight, bias = kinds["weight"], kinds.get("bias")
    if weight.shape != (outputs, len(names)) or not np.isfinite(weight).all() or weight.size > MOST_WEIGHTS:
        return None
    weights = run.task.class_weights()
    if bias is not None and weights is not None:
        # As the predicted probabilities have it.
        logs = np.log(weights)
        bias = bias - (logs[1:] - logs[:1] if outputs == 1 else logs)
    biases = None if bias is None or not np.isfinite(bias).all() else bias.astype(float).ravel().tolist()
    values = weight.astype(float).tolist()
    numbers = run.task.numbers()
    if numbers is not None:
        return _of_number(numbers, names, list(run.task.feature_columns()) or names, values[0], biases) | {
            "standardized": bool(getattr(run.task, "standardize", False))
        }
    return {
        "names": names,
        "columns": list(run.task.feature_columns()) or names,
        **({"values": values[0]} if outputs == 1 else {"classes": classes, "values": values}),
        "bias": biases[0] if biases and outputs == 1 else biases,
        "standardized": bool(getattr(run.task, "standardize", False)),
    }


def _of_number(
    numbers: Numbers, names: list[str], columns: list[str], values: list[float], biases: list[float] | None
) -> dict[str, Any]:
    """The weights of a net that predicts one number, in the number's unit; for a log link, of its logarithm."""
    bias = None if biases is None else biases[0]
    if numbers.link == "identity":
        values = [value * numbers.scale for value in values]
        bias = None if bias is None else bias * numbers.scale + numbers.offset
    elif bias is not None:
        bias += math.log(numbers.scale)
    return {"names": names, "columns": columns, "values": values, "bias": bias, "link": numbers.link}


def _finite(history: list[dict[str, float]]) -> list[Mapping[str, float | None]]:
    """JSON has no NaN and no infinity: both become null."""
    return [{name: value if np.isfinite(value) else None for name, value in entry.items()} for entry in history]
