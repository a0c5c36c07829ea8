"""The plugin: when it calibrates, and what it logs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainer import Phase, Plugin, Run, UsageError
from trainer.decisions import ChosenCalibrator, Reliability, Scored, choose_calibrator
from trainer_plugins.calibration.rows import Newest, classes_of, newest

Method = Literal["auto", "none", "temperature", "platt", "beta", "isotonic", "vector"]
NONE = "none"
TWO_CLASSES: tuple[Method, ...] = ("temperature", "platt", "beta", "isotonic")
SEVERAL_CLASSES: tuple[Method, ...] = ("temperature", "vector")
SPLITS = ("validation", "calibration", "test")
MEASURED = ("ece", "calibrated-log-loss", "calibrated-brier-score", "calibrated-ece")

log = logging.getLogger("trainer")


@dataclass
class Calibration(Plugin):
    """Calibrates the predicted probabilities on the validation rows after each evaluation.

    The model then gives calibrated probabilities, to `trainer predict` and in ONNX, and the threshold is for them.
    Two classes: temperature, Platt scaling, beta calibration or isotonic regression; several: temperature or vector
    scaling. `auto` takes the one with the least log loss over folds, each predicted by what was fitted on the others,
    and a more flexible one, or any at all, only if it is better by more than two standard errors.

    `validation/log-loss` and the other plain names stay those of the net. Beside them it logs
    `validation/calibrated-log-loss`, `-brier-score` (of two classes) and `-ece`, from the folds, so that no row has
    calibrated itself; `validation/ece`, the calibration error of the net; and the same for the test rows.
    """

    method: Annotated[
        Method,
        Field(description="How to calibrate; auto: the best by cross-fitted log loss, none: measure only."),
    ] = "auto"
    folds: Annotated[
        int, Field(ge=2, le=100, description="Folds of the cross-fitting; every class needs as many rows.")
    ] = 5
    bins: Annotated[
        int, Field(ge=2, le=1000, description="Bins of equal weight for the calibration error and the curves.")
    ] = 15

    phase = Phase.TUNE
    # What they choose is for calibrated probabilities.
    before = ("threshold-tuner", "operating-points", "conformal")
    logs: ClassVar[Mapping[str, Literal["max", "min"] | None]] = {
        f"{split}/{name}": "min" for split in SPLITS for name in MEASURED
    }

    def __post_init__(self) -> None:
        """Nothing is said or measured yet."""
        self._said: set[str] = set()
        self._columns = 0
        self.curves: dict[str, dict[str, Any]] = {}
        """For each split: the reliability of the net's probabilities, `before`, and of calibrated ones, `after`."""

    def on_setup(self, run: Run) -> None:
        """Refuses a task without probabilities, unless the task suggests the plugin, and a second one."""
        self._columns = classes_of(run)
        if not self._columns:
            if not self.suggested:
                raise UsageError(
                    f"the task {run.task.name!r} predicts no probabilities of classes",
                    where=f"plugin {self.name!r}",
                    fix=f"Leave it out: --no-plugin {self.name}.",
                )
            return
        others = [each.name for each in run.plugins if isinstance(each, Calibration) and each is not self]
        if others:
            raise UsageError(
                f"{others[0]!r} calibrates the run's probabilities already",
                where=f"plugin {self.name!r}",
                fix=f"Leave one out: --no-plugin {self.name}.",
            )
        if not run.task.collect:
            raise UsageError(
                f"it needs the rows, which the task {run.task.name!r} does not collect",
                where=f"plugin {self.name!r}",
                fix=f"Leave it out: --no-plugin {self.name}.",
            )
        known = (*self._candidates, NONE)
        if self.method not in ("auto", *known):
            raise UsageError(
                f"{self.method!r} is not for {'two' if self._columns == 1 else 'several'} classes",
                where=f"plugin {self.name!r}: method",
                fix=f"Use {', '.join(known)} or auto.",
            )
        if run.validation is None:
            log.warning("%s keeps the probabilities as they are: there are no validation rows.", self.name)

    @property
    def _candidates(self) -> tuple[str, ...]:
        return TWO_CLASSES if self._columns == 1 else SEVERAL_CLASSES

    def on_evaluate_end(self, run: Run) -> None:
        """Calibrates, and logs how good the calibrated probabilities are on rows that did not fit them."""
        evaluation = run.evaluation
        assert evaluation is not None  # noqa: S101  the event says so
        if not self._columns:
            return
        rows = newest(run, evaluation)
        reason = self._reason(run, rows)
        if reason:
            # One that was chosen for older weights does not fit these.
            run.calibrator = None
            self._say(f"{self.name} keeps the probabilities as they are: {reason}.")
            self._log(run, "validation", rows, rows.scored, rows.scored.probabilities)
            return
        if rows.sampled:
            self._say(
                f"{self.name} uses a sample of {rows.sampled} of the {evaluation.rows} validation rows: --memory does "
                "not keep the others."
            )
        scored, choice = self._choose(run, rows)
        run.calibrator = choice.calibrator
        self._log(run, "validation", rows, scored, choice.probabilities)

    def on_calibration_end(self, run: Run) -> None:
        """Logs how well the calibrated probabilities fit rows that nothing was chosen on."""
        self._judge(run, "calibration")

    def on_test_end(self, run: Run) -> None:
        """Logs how well the calibrated probabilities fit the test rows."""
        self._judge(run, "test")

    def on_teardown(self, run: Run) -> None:
        """Says in the summary what the model does to its probabilities."""
        if self._columns and run.calibrator is not None:
            run.notes.append(f"calibrated probabilities: {run.calibrator.describe()}")
        elif self._columns and self.method == "auto" and "validation" in self.curves and not self._said:
            run.notes.append(f"{self.name} keeps the probabilities: nothing lowers the log loss by more than noise")

    def state_dict(self) -> Mapping[str, Any]:
        return {"curves": self.curves, "said": sorted(self._said)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.curves, self._said = dict(state["curves"]), set(state["said"])

    def _choose(self, run: Run, rows: Newest) -> tuple[Scored, ChosenCalibrator]:
        """The rows, and what was chosen for them."""
        kinds = [self.method] if self.method != "auto" else [NONE, *self._candidates]
        if self.method == "auto" and (rows.counts < self.folds).any():
            # Its factors of a class need rows of it in every fold.
            kinds = [kind for kind in kinds if kind != "vector"]
        scored, folds = rows.in_folds(run, self.folds)
        return scored, choose_calibrator(scored, kinds, folds, resolution=rows.resolution)

    def _reason(self, run: Run, rows: Newest) -> str:
        """Why these rows cannot calibrate; empty if they can."""
        probabilities, total = rows.scored.probabilities, int(rows.counts.sum())
        if np.isnan(probabilities).any() or (run.evaluation is not None and not total):
            return f"{int(np.isnan(probabilities).sum())} of the predictions are not numbers"
        if ((probabilities < 0) | (probabilities > 1)).any():
            return "some predictions are not between 0 and 1"
        if (rows.counts > 0).sum() < 2:
            return f"the {total} validation rows are all of one class"
        names = list(run.task.class_names()) or [str(number) for number in range(len(rows.counts))]
        needs_all = self._columns == 1 or self.method == "vector"
        scarce = int(rows.counts.argmin())
        if self.method != NONE and needs_all and rows.counts[scarce] < self.folds:
            name = names[scarce] if scarce < len(names) else str(scarce)
            return (
                f"class {name!r} has {rows.counts[scarce]:g} of the {total} validation rows, fewer than folds "
                f"({self.folds})"
            )
        if total < self.folds:
            return f"{total} validation rows are fewer than folds ({self.folds})"
        return ""

    def _judge(self, run: Run, split: str) -> None:
        evaluation = run.evaluation
        assert evaluation is not None  # noqa: S101  the events say so
        if self._columns:
            rows = newest(run, evaluation)
            self._log(run, split, rows, rows.scored, run.calibrated(rows.scored.probabilities))

    def _log(self, run: Run, split: str, rows: Newest, scored: Scored, calibrated: NDArray[Any]) -> None:
        before, after = (Reliability.of(scored, each, self.bins) for each in (None, calibrated))
        found = {
            "ece": before.ece,
            "calibrated-log-loss": scored.mean(scored.log_losses(calibrated, rows.resolution)),
            **(
                {"calibrated-brier-score": scored.mean(scored.squared_errors(calibrated))} if self._columns == 1 else {}
            ),
            "calibrated-ece": after.ece,
        }
        run.log({f"{split}/{name}": value for name, value in found.items()})
        how = "none" if run.calibrator is None else run.calibrator.describe()
        self.curves[split] = {"method": how, "step": run.step, "before": _drawn(before), "after": _drawn(after)}

    def _say(self, what: str) -> None:
        if what not in self._said:
            self._said.add(what)
            log.warning("%s", what)


def _drawn(found: Reliability) -> dict[str, Any]:
    """A curve as JSON values, without numbers that are not finite."""
    low, high = found.intervals()
    columns = {"predicted": found.predicted, "observed": found.observed, "low": low, "high": high}
    finite = np.isfinite(np.stack(list(columns.values()))).all(axis=0)
    return {
        "ece": found.ece if np.isfinite(found.ece) else None,
        **{name: values[finite].tolist() for name, values in columns.items()},
        "weights": found.weights[finite].tolist(),
    }
