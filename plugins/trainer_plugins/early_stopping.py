"""Stops a run when a metric stops improving, and can restore the best weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from trainer import Phase, Plugin, Run, UsageError

Mode = Literal["auto", "min", "max"]


@dataclass
class EarlyStopping(Plugin):
    """Stops when the monitored metric has not improved for `patience` epochs, evaluations or steps.

    The metric is checked after each evaluation that logged it, or at the end of the epoch if something else logs it.
    With `restore-best` the run ends with the weights, the decision threshold and the validation metrics of the best
    check, whatever ended it. The checkpoint that an interrupted or failed run resumes from is saved before that.
    """

    monitor: Annotated[str, Field(description="The metric to watch, by its logged name.")] = "validation/loss"
    mode: Annotated[Mode, Field(description="Whether lower or higher is better; auto: as declared.")] = "auto"
    look: Annotated[
        Literal["auto", "batch", "evaluation", "epoch"],
        Field(description="When to check it; auto: after the evaluation or the epoch that has logged it."),
    ] = "auto"
    strict: Annotated[bool, Field(description="Whether it is an error if the metric is not logged.")] = True
    patience: Annotated[int, Field(ge=0, description="How long to wait for an improvement.")] = 5
    patience_unit: Annotated[Literal["epochs", "evaluations", "steps"], Field(description="What patience counts.")] = (
        "epochs"
    )
    min_delta: Annotated[
        float, Field(ge=0, allow_inf_nan=False, description="By how much a value has to improve to count.")
    ] = 0.0
    relative: Annotated[bool, Field(description="Whether min-delta is a fraction of the best.")] = False
    cumulative: Annotated[bool, Field(description="Whether gains below min-delta add up until they count.")] = True
    baseline: Annotated[
        float | None,
        Field(allow_inf_nan=False, description="A value to beat before patience restarts."),
    ] = None
    stopping_threshold: Annotated[
        float | None, Field(allow_inf_nan=False, description="Stop at once if the value is at least this good.")
    ] = None
    divergence_threshold: Annotated[
        float | None, Field(allow_inf_nan=False, description="Stop at once if the value is worse than this.")
    ] = None
    start_from_epoch: Annotated[
        int, Field(ge=1, description="The first epoch that counts; earlier ones are warm-up.")
    ] = 1
    check_finite: Annotated[bool, Field(description="Stop at once if the value is NaN or infinite.")] = True
    restore_best: Annotated[bool, Field(description="End with the weights of the best check.")] = False

    phase = Phase.DECIDE
    logs = ()

    def __post_init__(self) -> None:
        self._best: float | None = None
        self._best_at = {"epochs": 0, "evaluations": 0, "steps": 0}
        self._looks = 0
        self._weights: Mapping[str, Any] | None = None
        self._decision: Mapping[str, Any] = {}
        self._metrics: Mapping[str, float] = {}
        self._best_look: Mapping[str, int] = {}
        self._seen = 0

    def watches(self) -> Mapping[str, Mode]:
        return {self.monitor: self.mode} if self.strict else {}

    def on_setup(self, run: Run) -> None:
        """Refuses a validation metric if there is no validation split."""
        if self.strict and self.monitor.startswith("validation/") and run.validation is None:
            raise UsageError(
                f"there is no validation split to watch {self.monitor!r} on",
                where=f"plugin {self.name!r}",
                fix="Give the run validation rows, or watch train/loss.",
            )

    def on_batch_end(self, run: Run) -> None:
        """Checks the metric if `look` is `batch` and this batch has logged it."""
        if self.look == "batch" and self.monitor in run.step_metrics:
            self._look(run)

    def on_evaluate_end(self, run: Run) -> None:
        """Checks the metric if it was logged since the last check, or if `look` is `evaluation`."""
        if self.look == "evaluation" or (self.look == "auto" and self._is_new(run)):
            self._look(run)

    def on_epoch_end(self, run: Run) -> None:
        """Checks a metric that was logged outside an evaluation; if it was never logged, the name is a mistake."""
        if self.strict and run.epoch >= self.start_from_epoch:
            run.monitored(self.monitor)
        wanted = self.look == "epoch" and self.monitor in run.epoch_metrics
        if wanted or (self.look == "auto" and self._is_new(run)):
            self._look(run)

    def on_fit_end(self, run: Run) -> None:
        """Restores the best weights, so that the test split evaluates them."""
        if run.status in ("finished", "stopped"):
            self._restore(run)

    def on_teardown(self, run: Run) -> None:
        """Restores them in a run that was cut short, after its newest weights were saved."""
        if run.status not in ("finished", "stopped"):
            self._restore(run)

    def _restore(self, run: Run) -> None:
        if not self.restore_best or self._weights is None:
            return
        run.set_weights(self._weights)
        run.set_decision(self._decision)
        run.log(self._metrics)
        at = self._best_look
        run.decide("restore", f"{self.monitor} was best at epoch {at['epochs']}, step {at['steps']}")

    def state_dict(self) -> Mapping[str, Any]:
        return {
            "best": self._best,
            "best_at": self._best_at,
            "looks": self._looks,
            "weights": self._weights,
            "decision": self._decision,
            "metrics": dict(self._metrics),
            "best_look": dict(self._best_look),
            "seen": self._seen,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._best, self._best_at, self._looks = state["best"], dict(state["best_at"]), state["looks"]
        self._weights, self._decision = state["weights"], state["decision"]
        self._metrics, self._seen = state["metrics"], state["seen"]
        self._best_look = state["best_look"]

    def _is_new(self, run: Run) -> bool:
        return run.times_logged.get(self.monitor, 0) != self._seen

    def _look(self, run: Run) -> None:
        self._seen = run.times_logged.get(self.monitor, 0)
        if run.epoch < self.start_from_epoch or self.monitor not in run.metrics:
            return
        value, sign = run.metrics[self.monitor], run.sign(self.monitor, self.mode)
        now = {"epochs": run.epoch, "evaluations": self._looks + 1, "steps": run.step}
        if self._looks == 0:
            # Patience counts from the last moment before the first check.
            self._best_at = {"epochs": run.epoch - 1, "evaluations": 0, "steps": run.step}
        self._looks += 1
        if self.check_finite and not math.isfinite(value):
            run.stop(f"{self.monitor} is {value}")
            return
        improved = math.isfinite(value) and self._compare(run, value, sign, now)
        self._decide(run, value, sign, now, improved=improved)

    def _decide(self, run: Run, value: float, sign: float, now: Mapping[str, int], *, improved: bool) -> None:
        if self.stopping_threshold is not None and sign * value >= sign * self.stopping_threshold:
            run.stop(f"{self.monitor} is {value:.6g}, which is as good as {self.stopping_threshold:g}")
            return
        if self.divergence_threshold is not None and sign * value < sign * self.divergence_threshold:
            run.stop(f"{self.monitor} is {value:.6g}, which is worse than {self.divergence_threshold:g}")
            return
        if improved or self._looks == 1:
            return  # as in Keras: an improvement never stops a run, even if it does not beat the baseline
        waited = now[self.patience_unit] - self._best_at[self.patience_unit]
        if waited >= self.patience:
            unit = self.patience_unit if waited != 1 else self.patience_unit[:-1]
            run.stop(f"{self.monitor} was {self._no_better(sign)} for {waited} {unit}")

    def _no_better(self, sign: float) -> str:
        if self._best is not None and self._beats_baseline(self._best, sign):
            return f"no better than {self._best:.6g}"
        return "never finite" if self.baseline is None else f"no better than the baseline, {self.baseline:g}"

    def _compare(self, run: Run, value: float, sign: float, now: Mapping[str, int]) -> bool:
        """Records a value if it is the best so far, and restarts patience if the improvement counts and beats the
        baseline. Returns whether it counts.

        The weights to restore are those of the best value, even if it does not beat the baseline.
        """
        best = self._best
        if best is None:
            counts = better = True
        else:
            margin = self.min_delta * (abs(best) if self.relative else 1.0)
            passes = self._beats_baseline(value, sign) and not self._beats_baseline(best, sign)
            counts = passes or sign * value > sign * best + margin
            better = counts or (not self.cumulative and sign * value > sign * best)
        if better:
            self._best, self._best_look = value, dict(now)
            if self.restore_best:
                self._weights, self._decision = run.copy_weights(), run.copy_decision()
                self._metrics = {name: each for name, each in run.metrics.items() if name.startswith("validation/")}
        if counts and self._beats_baseline(value, sign):
            self._best_at = dict(now)
        return counts

    def _beats_baseline(self, value: float, sign: float) -> bool:
        return self.baseline is None or sign * value > sign * self.baseline
