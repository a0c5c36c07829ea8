"""The plugin: when it tunes, and what it logs."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from trainer import Phase, Plugin, Run, UsageError
from trainer.decisions import Choice, CrossFitted, CrossFitting, Demand, Partitions, cross_fitted
from trainer.metrics import BinaryClassification, binary_metrics_at
from trainer.seeds import derive
from trainer_plugins.threshold_tuner.judging import kept, why_not
from trainer_plugins.threshold_tuner.promise import KINDS, answer
from trainer_plugins.threshold_tuner.rows import Scored

SPLITS = ("validation", "calibration", "test")

log = logging.getLogger("trainer")

Rate = Annotated[float, Field(ge=0, le=1)]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]

_DIRECTIONS = BinaryClassification.directions
_AT_A_THRESHOLD = binary_metrics_at(0.5, np.array([0.0, 1.0]), np.array([0, 1]), None)
_WITH_INTERVALS = ("accuracy", "f1", "precision", "recall", "matthews-correlation")
_CROSS_FITTED = "validation/cross-fitted-"


@dataclass
class ThresholdTuner(Plugin):
    """Chooses the decision threshold on the validation rows after each evaluation, and evaluates it on the test rows.

    The choice is exact: over all distinct scores, the middle of the best interval. It becomes `run.threshold` and is
    logged as `validation/threshold`; the metrics at it are logged as `validation/tuned-f1` and so on, beside those at
    the given threshold. Metrics on the rows that chose the threshold are optimistic. `validation/cross-fitted-f1` and
    so on are not: each row is decided by a threshold that the other folds have chosen. The test split is judged once:
    `test/f1` at the given threshold, `test/tuned-f1` at the run's.

    If tuning does not make the objective better by more than chance explains, the given threshold is kept. With
    `guarantee`, the rows of the calibration split choose a threshold that meets the objective's requirement on new rows
    with that confidence, or none.
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
            "recall-at-fpr",
        ],
        Field(description="What the threshold maximises; for cost, minimises."),
    ] = "f1"
    beta: Annotated[float, Field(gt=0, description="For fbeta: how much more recall counts than precision.")] = 1.0
    false_positive_cost: Annotated[Price, Field(description="For cost: the price of a false positive.")] = 1.0
    false_negative_cost: Annotated[Price, Field(description="For cost: the price of a false negative.")] = 1.0
    min_precision: Annotated[Rate, Field(description="For recall-at-precision: the minimum precision.")] = 0.9
    min_recall: Annotated[Rate, Field(description="For precision-at-recall: the minimum recall.")] = 0.9
    max_fpr: Annotated[Rate, Field(description="For recall-at-fpr: the maximum false positive rate.")] = 0.1
    max_cost: Annotated[
        Price | None, Field(description="For cost with a guarantee: the maximum of the mean cost per row.")
    ] = None
    guarantee: Annotated[
        float | None,
        Field(
            description="The confidence, such as 0.95, with which the requirement of recall-at-precision, "
            "precision-at-recall, recall-at-fpr or cost holds on new rows. It needs a calibration split."
        ),
    ] = None
    keep_unless_better: Annotated[
        bool,
        Field(description="Keep the given threshold unless tuning beats it by more than chance explains."),
    ] = True
    folds: Annotated[int, Field(ge=2, le=100, description="The number of folds for the cross-fitted metrics.")] = 5
    min_rows: Annotated[
        int, Field(ge=1, description="With fewer validation rows, or one class only, the given threshold is kept.")
    ] = 20
    bootstrap: Annotated[
        int,
        Field(
            ge=0,
            description="Resamples for intervals of the threshold and of the cross-fitted metrics, which need the rows "
            "in memory; 0: no intervals.",
        ),
    ] = 0
    confidence: Annotated[
        float, Field(gt=0, lt=1, description="The level of intervals, and of what chance explains.")
    ] = 0.95

    phase = Phase.TUNE
    # A tuned metric is better in the same direction as the plain one.
    logs: ClassVar[Mapping[str, Literal["max", "min"] | None]] = {
        **{f"{split}/tuned-{name}": _DIRECTIONS.get(name) for split in SPLITS for name in _AT_A_THRESHOLD},
        **{f"{_CROSS_FITTED}{name}": _DIRECTIONS.get(name) for name in _AT_A_THRESHOLD},
        **{f"{_CROSS_FITTED}{name}-{end}": None for name in _WITH_INTERVALS for end in ("low", "high")},
        **dict.fromkeys(("validation/tuned-threshold", "validation/threshold-low", "validation/threshold-high")),
        "calibration/guaranteed": None,
        **{f"{split}/threshold": None for split in SPLITS},
    }

    def __post_init__(self) -> None:
        """Refuses costs that cannot tell thresholds apart."""
        self._given: float | None = None
        self._said: set[str] = set()
        if self.objective == "cost" and self.false_positive_cost == self.false_negative_cost == 0:
            raise ValueError("both costs are 0, so all thresholds cost the same")
        if self.guarantee is not None:
            self._check_guarantee(self.guarantee)
        elif self.max_cost is not None:
            raise ValueError("max-cost has an effect only with a guarantee")

    def _check_guarantee(self, guarantee: float) -> None:
        """Raises ValueError for what cannot be promised."""
        if not 0 < guarantee < 1:
            raise ValueError(
                f"{guarantee:g} is not a guarantee that rows can give; use a number between 0 and 1, such as 0.95"
            )
        if self.objective not in KINDS:
            raise ValueError(
                f"{self.objective} has no requirement that a guarantee could be for; use an objective that has one: "
                f"{', '.join(KINDS)}"
            )
        if self.objective == "cost" and self.max_cost is None:
            raise ValueError("a guarantee of the cost needs max-cost, the maximum of the mean cost per row")

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
        if self.guarantee is not None and run.calibration is None and run.processes.is_first:
            log.warning(
                "%s: the guarantee does not hold: it would be given by the validation rows, on which the threshold "
                "and, with early stopping, the weights are chosen. Keep rows that nothing else uses: "
                "--calibration-split 0.2",
                self.name,
                extra={"note": True},
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
        if run.threshold is None or self._given is None:
            return
        if self.bootstrap:
            evaluation.predictions  # noqa: B018  raises an error that says what to do if the rows are not kept
        scored = Scored.of(run, evaluation)
        choice = self._choose(scored)
        tuned = self._given if choice is None else choice.threshold
        # A threshold that was tuned for older weights does not fit these.
        run.threshold, run.threshold_reason = tuned, ""
        values = self._cross_fit(run, scored, choice)
        if self.guarantee is not None and run.calibration is None:
            tuned = self._promise(run, scored, "validation")
        run.log({
            "validation/threshold": run.threshold,
            "validation/tuned-threshold": tuned,
            **values,
            **scored.metrics_at("validation", tuned),
        })  # fmt: skip

    def on_calibration_end(self, run: Run) -> None:
        """Chooses the threshold with a guarantee, on rows that nothing else has used."""
        assert run.evaluation is not None  # noqa: S101
        if run.threshold is None or self._given is None:
            return
        scored = Scored.of(run, run.evaluation)
        if self.guarantee is not None:
            self._promise(run, scored, "calibration")
        run.log({"calibration/threshold": run.threshold, **scored.metrics_at("calibration", run.threshold)})

    def on_test_end(self, run: Run) -> None:
        """Logs the metrics at the run's threshold on rows that did not choose it."""
        assert run.evaluation is not None  # noqa: S101
        if run.threshold is None:
            return
        scored = Scored.of(run, run.evaluation)
        run.log({"test/threshold": run.threshold, **scored.metrics_at("test", run.threshold)})

    def on_teardown(self, run: Run) -> None:
        """Says what it has to say about the threshold of the final weights."""
        if run.threshold_reason and run.status in ("finished", "stopped"):
            run.notes.append(f"{self.name}: {run.threshold_reason}")

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
            "max_fpr": self.max_fpr,
        }

    @property
    def _searched(self) -> str:
        """What the validation rows maximise: with a guarantee of precision, where its tests had best begin."""
        starts = self.guarantee is not None and self.objective == "recall-at-precision"
        return "evidence-of-precision" if starts else self.objective

    def _choose(self, scored: Scored) -> Choice | None:
        """The best threshold; None, with a warning, if these rows cannot tell."""
        choice, ranking = None, scored.ranking
        if ranking.rows < self.min_rows:
            reason = f"{ranking.rows} validation rows are fewer than min-rows ({self.min_rows})"
        elif ranking.not_numbers:
            reason = f"{ranking.not_numbers} of the scores are not a number"
        elif not ranking.has_both_classes:
            reason = "the validation rows are all of one class"
        else:
            choice = Partitions(ranking).best(self._searched, self._requirements)
            reason = f"no threshold meets the requirement of {self.objective}"
        if choice is None:
            self._say(f"{self.name} keeps the threshold {self._given:g}: {reason}.")
        return choice

    def _say(self, sentence: str) -> None:
        """Warns, once."""
        if sentence not in self._said:
            self._said.add(sentence)
            log.warning("%s", sentence)

    def _cross_fit(self, run: Run, scored: Scored, choice: Choice | None) -> dict[str, float]:
        """The cross-fitted metrics. Gives the run the given threshold back if tuning is not better."""
        assert self._given is not None  # noqa: S101  the caller made sure
        if choice is None:
            # It is kept whatever the rows of a fold are.
            at = scored.ranking.metrics_at(self._given)
            return {f"{_CROSS_FITTED}{name}": value for name, value in at.items()}
        seed = derive(run.settings.seed, "cross-fitting")
        weighted = scored.differ_in_weight
        found = fitting = None
        if weighted or self.bootstrap:
            fitting = CrossFitting(
                scored.scores,
                scored.labels,
                scored.weights,
                self._searched,
                self._requirements,
                given=self._given,
                seed=seed,
                folds=self.folds,
            )
        if not weighted:
            found = cross_fitted(
                scored.ranking, self._searched, self._requirements, given=self._given, seed=seed, folds=self.folds
            )
        elif fitting is not None and fitting.can_fold and scored.has_all_rows:
            found = fitting.decisions()
        values = {}
        if fitting is not None and self.bootstrap:
            generator = np.random.default_rng(derive(run.settings.seed, "threshold", run.step))
            (low, high), intervals = fitting.intervals(self.bootstrap, self.confidence, generator, found)
            values = {"validation/threshold-low": low, "validation/threshold-high": high}
            for name, (low, high) in intervals.items():
                values |= {f"{_CROSS_FITTED}{name}-low": low, f"{_CROSS_FITTED}{name}-high": high}
        if found is None:
            if not self.suggested:
                self._say(f"{self.name} cannot cross-fit: {why_not(scored, self.folds)}.")
            return {**dict.fromkeys((f"{_CROSS_FITTED}{name}" for name in _AT_A_THRESHOLD), math.nan), **values}
        if self.keep_unless_better and self.guarantee is None:
            self._keep_unless_better(run, scored, found)
        return {**{f"{_CROSS_FITTED}{name}": value for name, value in found.metrics().items()}, **values}

    def _keep_unless_better(self, run: Run, scored: Scored, found: CrossFitted) -> None:
        assert self._given is not None  # noqa: S101  the caller made sure
        generator = np.random.default_rng(derive(run.settings.seed, "gain", run.step))
        gain = found.gain(self.objective, self._requirements, confidence=self.confidence, generator=generator)
        if gain is None or gain.is_real:
            return
        run.threshold = self._given
        run.threshold_reason = kept(self._given, self.objective, gain, found.rows, self.confidence)

    def _promise(self, run: Run, scored: Scored, split: str) -> float:
        """Gives the run the threshold that can be promised, or the given one; returns it."""
        assert self.guarantee is not None and self._given is not None and run.threshold is not None  # noqa: S101, PT018
        limits = {
            "precision": self.min_precision,
            "recall": self.min_recall,
            "false-positive-rate": self.max_fpr,
            "cost": self.max_cost,
        }
        kind: Any = KINDS[self.objective]
        limit = limits[kind]
        assert limit is not None  # noqa: S101  checked at the start
        demand = Demand(kind, limit, self.guarantee, self.false_positive_cost, self.false_negative_cost)
        group = getattr(run.task, "group", None)
        found = answer(scored, split, demand, run.threshold, given=self._given, grouped=group)
        run.threshold = self._given if found.threshold is None else found.threshold
        run.threshold_reason = found.sentence
        if split == "calibration":
            run.log({"calibration/guaranteed": float(found.threshold is not None)})
        elif found.threshold is not None:
            run.threshold_reason += ". The promise does not hold: the same rows have chosen what is tested"
        return run.threshold
