"""The plugin: when it tunes, and what it logs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from trainer import Evaluation, Phase, Plugin, Run, UsageError
from trainer.decisions import Choice, Partitions, Resamples
from trainer.metrics import BinaryClassification, Ranked, Ranking, binary_metrics_at
from trainer.seeds import derive

SPLITS = ("validation", "test")

log = logging.getLogger("trainer")

Rate = Annotated[float, Field(ge=0, le=1)]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]

_DIRECTIONS = BinaryClassification.directions
_AT_A_THRESHOLD = binary_metrics_at(0.5, np.array([0.0, 1.0]), np.array([0, 1]), None)


@dataclass
class ThresholdTuner(Plugin):
    """Chooses the decision threshold on the validation rows after each evaluation, and evaluates it on the test rows.

    The choice is exact: over all distinct scores, the middle of the best interval. It becomes `run.threshold` and is
    logged as `validation/threshold`; the metrics at it are logged as `validation/tuned-f1` and so on, beside those at
    the given threshold. Metrics on the rows that chose the threshold are optimistic, so the test split gets both as
    well, once: `test/f1` at the given threshold, `test/tuned-f1` at the tuned one.
    """

    objective: Annotated[
        Literal[
            "f1",
            "fbeta",
            "accuracy",
            "balanced-accuracy",
            "youden",
            "mcc",
            "cost",
            "recall-at-precision",
            "precision-at-recall",
        ],
        Field(description="What the threshold maximises; for cost, minimises."),
    ] = "f1"
    beta: Annotated[float, Field(gt=0, description="For fbeta: how much more recall counts than precision.")] = 1.0
    false_positive_cost: Annotated[Price, Field(description="For cost: the price of a false positive.")] = 1.0
    false_negative_cost: Annotated[Price, Field(description="For cost: the price of a false negative.")] = 1.0
    min_precision: Annotated[Rate, Field(description="For recall-at-precision: the minimum precision.")] = 0.9
    min_recall: Annotated[Rate, Field(description="For precision-at-recall: the minimum recall.")] = 0.9
    min_rows: Annotated[
        int, Field(ge=1, description="With fewer validation rows, or one class only, the given threshold is kept.")
    ] = 20
    bootstrap: Annotated[
        int,
        Field(
            ge=0,
            description="Resamples for a confidence interval of the threshold, which need the rows in memory; 0: no "
            "interval.",
        ),
    ] = 0
    confidence: Annotated[float, Field(gt=0, lt=1, description="The level of the confidence interval.")] = 0.95

    phase = Phase.TUNE
    # A tuned metric is better in the same direction as the plain one.
    logs: ClassVar[Mapping[str, Literal["max", "min"] | None]] = {
        **{f"{split}/tuned-{name}": _DIRECTIONS.get(name) for split in SPLITS for name in _AT_A_THRESHOLD},
        **dict.fromkeys(("validation/threshold-low", "validation/threshold-high")),
        **{f"{split}/threshold": None for split in SPLITS},
    }

    def __post_init__(self) -> None:
        """Refuses costs that cannot tell thresholds apart."""
        self._given: float | None = None
        self._said: set[str] = set()
        if self.objective == "cost" and self.false_positive_cost == self.false_negative_cost == 0:
            raise ValueError("both costs are 0, so all thresholds cost the same")

    def on_setup(self, run: Run) -> None:
        """Refuses a task without a threshold, unless the task suggests the plugin, and a second tuner."""
        if run.threshold is None:
            what = f"the task {run.task.name!r} has no decision threshold"
            classes = len(run.task.class_names())
            what += f" for {classes} classes" if classes > 2 else ""
            if not self.suggested:
                raise UsageError(what, where=f"plugin {self.name!r}", fix=f"Leave it out: --no-plugin {self.name}.")
            self._check_watched(run, what)
            if run.processes.is_first:
                log.warning("%s has nothing to do: %s", self.name, what, extra={"note": True})
            return
        others = [each.name for each in run.plugins if isinstance(each, ThresholdTuner) and each is not self]
        if others:
            raise UsageError(
                f"{others[0]!r} tunes the run's threshold already",
                where=f"plugin {self.name!r}",
                fix=f"Leave one out: --no-plugin {self.name}.",
            )
        if self.bootstrap and not run.task.collect:
            raise UsageError(
                f"bootstrap needs the rows, which the task {run.task.name!r} does not collect",
                where=f"plugin {self.name!r}",
                fix="Set it to 0.",
            )
        if run.validation is None:
            log.warning(
                "%s keeps the threshold %g: there are no validation rows to tune it on.", self.name, run.threshold
            )
        if self._given is None:
            self._given = run.threshold

    def _check_watched(self, run: Run, why: str) -> None:
        """Raises UsageError if another plugin waits for a metric that is never logged."""
        for plugin in run.plugins:
            watched = sorted(self.logs.keys() & plugin.watches().keys())
            if watched:
                raise UsageError(
                    f"it watches {watched[0]!r}, which {self.name} does not log: {why}",
                    where=f"plugin {plugin.name!r}",
                    fix="Watch another metric, such as validation/loss.",
                )

    def on_evaluate_end(self, run: Run) -> None:
        """Tunes, and logs the threshold with the metrics at it."""
        evaluation = run.evaluation
        assert evaluation is not None  # noqa: S101  the event says so
        if run.threshold is None:
            return
        ranking = _ranking(run, evaluation)
        choice = self._choose(ranking)
        # A threshold that was tuned for older weights does not fit these.
        run.threshold = choice.threshold if choice is not None else self._given
        assert run.threshold is not None  # noqa: S101  on_setup made sure
        run.log({"validation/threshold": run.threshold, **_tuned("validation", run.threshold, ranking)})
        if choice is not None and self.bootstrap:
            low, high = self._interval(run, evaluation)
            run.log({"validation/threshold-low": low, "validation/threshold-high": high})

    def on_test_end(self, run: Run) -> None:
        """Logs the metrics at the tuned threshold on rows that did not choose it."""
        assert run.evaluation is not None  # noqa: S101
        if run.threshold is None:
            return
        ranking = _ranking(run, run.evaluation)
        run.log({"test/threshold": run.threshold, **_tuned("test", run.threshold, ranking)})

    def state_dict(self) -> Mapping[str, Any]:
        return {"given": self._given}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._given = state["given"]

    @property
    def _requirements(self) -> dict[str, float]:
        return {
            "beta": self.beta,
            "false_positive_cost": self.false_positive_cost,
            "false_negative_cost": self.false_negative_cost,
            "min_precision": self.min_precision,
            "min_recall": self.min_recall,
        }

    def _choose(self, ranking: Ranking) -> Choice | None:
        """The best threshold; None, with a warning, if these rows cannot tell."""
        choice = None
        if ranking.rows < self.min_rows:
            reason = f"{ranking.rows} validation rows are fewer than min-rows ({self.min_rows})"
        elif ranking.not_numbers:
            reason = f"{ranking.not_numbers} of the scores are not a number"
        elif not ranking.has_both_classes:
            reason = "the validation rows are all of one class"
        else:
            choice = Partitions(ranking).best(self.objective, self._requirements)
            reason = f"no threshold meets the requirement of {self.objective}"
        if choice is None and reason not in self._said:
            self._said.add(reason)
            log.warning("%s keeps the threshold %g: %s.", self.name, self._given, reason)
        return choice

    def _interval(self, run: Run, evaluation: Evaluation) -> tuple[float, float]:
        """Percentiles of the best threshold over resamples of the rows, drawn from (seed, step)."""
        weights = evaluation.weights
        resamples = Resamples(evaluation.predictions, evaluation.labels)
        own = np.ones(evaluation.rows) if weights is None else np.asarray(weights, np.float64).ravel()
        generator = np.random.default_rng(derive(run.settings.seed, "threshold", run.step))
        found = []
        for _ in range(self.bootstrap):
            drawn = np.bincount(generator.integers(0, len(own), len(own)), minlength=len(own))
            choice = resamples.best(own * drawn, self.objective, self._requirements)
            if choice is not None:
                found.append(choice.threshold)
        if not found:
            return float("nan"), float("nan")
        outside = (1 - self.confidence) / 2
        low, high = np.quantile(found, [outside, 1 - outside])
        return float(low), float(high)


def _ranking(run: Run, evaluation: Evaluation) -> Ranking:
    """The rows of the newest evaluation, ranked: from its arrays, or as the task's metrics have ranked them."""
    metrics = run.task_metrics
    if not evaluation.kept or len(evaluation.labels) < evaluation.rows:
        for metric in metrics:
            ranking = metric.ranking()
            if ranking is not None:
                return ranking
    rows = evaluation.predictions, evaluation.labels, evaluation.weights
    ranks = next((each for each in metrics if isinstance(each, BinaryClassification)), None)
    return Ranked(*rows) if ranks is None else ranks.ranked(*rows)


def _tuned(split: str, threshold: float, ranking: Ranking) -> dict[str, float]:
    return {f"{split}/tuned-{name}": value for name, value in ranking.metrics_at(threshold).items()}
