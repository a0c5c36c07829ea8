"""The threshold tuner finds the best threshold there is, and judges it on rows that had no part in choosing it."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import xlogy
from tiny import Tiny, engine, plugin, rows

from trainer import Phase, Splits, UsageError, fit
from trainer.catalog.registry import create_plugin
from trainer.config.options import build
from trainer.decisions.thresholds import OBJECTIVES, Partitions
from trainer.metrics import Ranked, binary_metrics_at
from trainer_plugins.threshold_tuner import ThresholdTuner

DEMANDS = {"beta": 2.0, "false_positive_cost": 1.0, "false_negative_cost": 3.0, "min_precision": 0.6, "min_recall": 0.6}
DEMANDS["max_fpr"] = 0.4

score = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
labelled = st.lists(st.tuples(score, st.booleans(), st.floats(0.125, 4)), min_size=2, max_size=25).filter(
    lambda drawn: len({label for _, label, _ in drawn}) == 2
)


def by_definition(objective, threshold, scores, labels, weights):
    """The objective at one threshold, from the plain metrics; None if its requirement is not met."""
    at = binary_metrics_at(threshold, scores, labels, weights)
    positive, negative = weights[labels > 0].sum(), weights[labels == 0].sum()
    specificity = at["true-negatives"] / negative
    precision, recall = at["precision"], at["recall"]
    if objective == "fbeta":
        below = 4 * precision + recall
        return 5 * precision * recall / below if below else 0.0
    if objective == "cost":
        return -(at["false-positives"] + 3 * at["false-negatives"]) / (positive + negative)
    if objective == "recall-at-precision":
        return recall if precision >= 0.6 - 1e-12 else None
    if objective == "precision-at-recall":
        return precision if recall >= 0.6 - 1e-12 else None
    if objective == "recall-at-fpr":
        return recall if 1 - specificity <= 0.4 + 1e-12 else None
    if objective == "evidence-of-precision":
        rows = at["true-positives"] + at["false-positives"]
        if precision <= 0.6:
            return None
        return rows * (precision * np.log(precision / 0.6) + xlogy(1 - precision, (1 - precision) / 0.4))
    named = {"mcc": "matthews-correlation"}.get(objective, objective)
    return {"balanced-accuracy": (recall + specificity) / 2, "youden": recall + specificity - 1}.get(
        named, at.get(named)
    )


@given(labelled, st.sampled_from(sorted(OBJECTIVES)), st.booleans())
@settings(deadline=None, max_examples=300)
def test_no_threshold_is_better_than_the_chosen_one(drawn, objective, weighted):
    scores, labels, weights = (np.array(column, float) for column in zip(*drawn, strict=True))
    weights = weights if weighted else np.ones(len(scores))
    choice = Partitions(Ranked(scores, labels, weights)).best(objective, DEMANDS)
    edges = np.unique([np.nextafter(0, -1), 0.0, 1.0, *scores])
    every = [*edges, *((edges[1:] + edges[:-1]) / 2)]
    values = [by_definition(objective, threshold, scores, labels, weights) for threshold in every]
    met = [value for value in values if value is not None]
    if not met:
        assert choice is None
        return
    assert choice.value == pytest.approx(max(met), abs=1e-9)
    assert by_definition(objective, choice.threshold, scores, labels, weights) == pytest.approx(max(met), abs=1e-9)
    assert choice.low <= choice.threshold <= choice.high


@given(labelled)
@settings(deadline=None, max_examples=6)
def test_scikit_learns_tuner_never_beats_it(drawn):
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.metrics import f1_score
    from sklearn.model_selection import TunedThresholdClassifierCV

    class Given(ClassifierMixin, BaseEstimator):
        """Passes its one feature on as the probability."""

        def fit(self, X, y):
            self.classes_ = np.array([0, 1])
            return self

        def predict_proba(self, X):
            return np.column_stack([1 - X[:, 0], X[:, 0]])

    scores, labels, _ = (np.array(column, float) for column in zip(*drawn, strict=True))
    labels = labels.astype(int)
    assume(np.ptp(scores) > 1e-3)  # scikit-learn refuses scores that are all alike
    peer = TunedThresholdClassifierCV(Given().fit(None, None), scoring="f1", cv="prefit", refit=False).fit(
        scores[:, None], labels
    )
    theirs = f1_score(labels, peer.predict(scores[:, None]), zero_division=0)
    assert Partitions(Ranked(scores, labels)).best("f1", DEMANDS).value >= theirs - 1e-12


def test_the_threshold_is_the_middle_of_the_best_interval():
    choice = Partitions(Ranked(np.array([0.1, 0.2, 0.6, 0.9]), np.array([0, 0, 1, 1]))).best("f1", DEMANDS)
    assert (choice.low, choice.high, choice.threshold) == (0.2, 0.6, pytest.approx(0.4))


def test_of_several_best_intervals_the_widest_is_taken():
    # Accuracy is 3/4 between 0.1 and 0.2, and between 0.3 and 0.9.
    choice = Partitions(Ranked(np.array([0.1, 0.2, 0.3, 0.9]), np.array([0, 1, 0, 1]))).best("accuracy", DEMANDS)
    assert (choice.low, choice.high) == (0.3, 0.9)


def test_many_rows_are_parted_in_one_pass():
    generator = np.random.default_rng(0)
    scores = generator.random(200_000)
    labels = generator.random(200_000) < scores
    assert Partitions(Ranked(scores, labels)).best("accuracy", DEMANDS).threshold == pytest.approx(0.5, abs=0.02)


class Judged(Tiny):
    """Enough rows to tune on, and a test split."""

    threshold = 0.5

    def splits(self, run):
        return Splits(rows(40, seed=0), rows(60, seed=1), rows(30, seed=2))


def test_it_publishes_the_threshold_and_both_metrics_for_validation_and_test():
    run = engine(Judged(), ThresholdTuner()).fit()
    metrics = run.metrics
    assert run.threshold == metrics["validation/threshold"] == metrics["test/threshold"]
    assert metrics["validation/tuned-f1"] >= metrics["validation/f1"]
    scores, labels = run.evaluation.predictions.astype(float), run.evaluation.labels
    assert metrics["test/tuned-f1"] == binary_metrics_at(run.threshold, scores, labels)["f1"]
    assert metrics["test/f1"] == binary_metrics_at(0.5, scores, labels)["f1"]


def test_the_test_rows_have_no_part_in_the_choice():
    class Other(Judged):
        def splits(self, run):
            return Splits(rows(40, seed=0), rows(60, seed=1), rows(30, seed=99))

    assert engine(Judged(), ThresholdTuner()).fit().threshold == engine(Other(), ThresholdTuner()).fit().threshold


def test_it_comes_after_what_measures_and_before_what_decides():
    seen = []

    def look(run):
        seen.append(run.metrics.get("validation/threshold"))

    before, after = (plugin(name, phase=Phase[name], evaluate_end=look) for name in ("MEASURE", "DECIDE"))
    engine(Judged(), after, ThresholdTuner(), before, epochs=1).fit()
    assert seen[0] is None
    assert seen[1] is not None


@pytest.mark.parametrize(
    ("tuner", "make", "said"),
    [
        (ThresholdTuner(min_rows=61), lambda n: rows(n, seed=1), "60 validation rows are fewer than min-rows (61)"),
        (
            ThresholdTuner(objective="recall-at-precision", min_precision=1.0),
            None,
            "no threshold meets the requirement",
        ),
    ],
)
def test_where_the_rows_cannot_tell_it_says_so_and_keeps_the_given_threshold(caplog, tuner, make, said):
    class Odd(Judged):
        def splits(self, run):
            validation = rows(60, seed=1)
            if make is None:
                # The highest score is a negative row's, whatever the weights: no threshold has precision 1.
                validation.labels[:] = 1 - (validation.features[:, 0] > 0)
            return Splits(rows(40, seed=0), validation)

    run = engine(Odd(), tuner).fit()
    assert run.threshold == 0.5
    assert [said in record.message for record in caplog.records] == [True]
    assert run.metrics["validation/threshold"] == 0.5


def test_rows_of_one_class_and_scores_that_are_nan_keep_the_given_threshold(caplog):
    class OneClass(Judged):
        def splits(self, run):
            validation = rows(60, seed=1)
            validation.labels[:] = 1
            return Splits(rows(40, seed=0), validation)

    assert engine(OneClass(), ThresholdTuner()).fit().threshold == 0.5
    assert "all of one class" in caplog.text

    def spoil(run):
        run.evaluation.predictions[3] = np.nan

    spoiling = plugin("spoil", phase=Phase.MEASURE, evaluate_end=spoil)
    assert engine(Judged(), spoiling, ThresholdTuner()).fit().threshold == 0.5
    assert "1 of the scores are not a number" in caplog.text


def test_a_bootstrap_interval_holds_the_threshold_and_repeats():
    first, second = (engine(Judged(), ThresholdTuner(bootstrap=50), epochs=1).fit().metrics for _ in range(2))
    low, high = first["validation/threshold-low"], first["validation/threshold-high"]
    assert low <= first["validation/tuned-threshold"] <= high
    assert first["validation/cross-fitted-f1-low"] < first["validation/cross-fitted-f1-high"]
    assert first == second


def test_a_task_without_a_threshold_and_costs_of_nothing_are_errors():
    with pytest.raises(UsageError, match="the task 'tiny' has no decision threshold"):
        engine(Tiny(), ThresholdTuner()).fit()
    with pytest.raises(UsageError, match="both costs are 0"):
        build(ThresholdTuner, {"objective": "cost", "false-positive-cost": 0, "false-negative-cost": 0}, where="")


def test_a_negative_price_is_refused():
    with pytest.raises(UsageError, match="false-positive-cost: -1 does not fit"):
        build(ThresholdTuner, {"false-positive-cost": -1}, where="")


def test_two_tuners_are_refused(tmp_path):
    tuners = [create_plugin(f"threshold-tuner@{name}", {"objective": name}, where="here") for name in ("f1", "mcc")]
    with pytest.raises(UsageError, match="'threshold-tuner@mcc' tunes the run's threshold already"):
        fit("logreg", epochs=1, plugins=tuners, without=["threshold-tuner"], runs_dir=None)


def test_without_validation_rows_it_says_that_the_threshold_stays(caplog):
    class Deciding(Tiny):
        threshold = 0.5

    tuner = create_plugin("threshold-tuner", {}, where="here")
    run = engine(Deciding(validation_rows=0, test_rows=9), tuner).fit()
    assert "keeps the threshold 0.5: there are no validation rows" in caplog.text
    assert run.threshold == 0.5


def test_where_no_threshold_will_do_the_given_one_is_back():
    """Not the one that was tuned for the weights of an earlier epoch."""

    class Deciding(Tiny):
        threshold = 0.5

    def spoil(run):
        if run.epoch == 2:
            run.evaluation.predictions[:] = float("nan")

    spoiling = plugin("spoil", phase=Phase.MEASURE, evaluate_end=spoil)
    tuner = create_plugin("threshold-tuner", {"min-rows": 2, "keep-unless-better": False}, where="here")
    run = engine(Deciding(train_rows=12, validation_rows=30), spoiling, tuner).fit()
    assert run.history[0]["validation/threshold"] != 0.5
    assert run.history[1]["validation/threshold"] == run.threshold == 0.5


def test_early_stopping_knows_which_way_a_tuned_metric_gets_better():
    stopping = create_plugin("early-stopping", {"monitor": "validation/tuned-f1", "patience": 30}, where="here")
    run = fit("logreg", epochs=2, plugins=[stopping], runs_dir=None)
    assert run.sign("validation/tuned-f1") == 1
    assert run.sign("validation/tuned-false-positives", "min") == -1


def test_a_score_of_0_gives_a_threshold_that_every_precision_has():
    """It was -5e-324, which float32 and many readers take for 0."""
    scores, labels = np.array([0.0, 0.0, 0.2, 0.7]), np.array([1, 1, 0, 1])
    choice = Partitions(Ranked(scores, labels)).best("f1", DEMANDS)
    assert (choice.threshold, choice.low, choice.high) == (-1.0, -1.0, 0.0)
    assert binary_metrics_at(choice.threshold, scores, labels)["true-positives"] == 3


class Kept(Judged):
    """With rows for calibration too."""

    def splits(self, run):
        return Splits(rows(40, seed=0), rows(60, seed=1), rows(30, seed=2), calibration=rows(300, seed=3))


def test_a_guarantee_is_chosen_on_the_calibration_rows_and_judged_on_the_test_rows():
    run = engine(Kept(), ThresholdTuner(objective="recall-at-fpr", max_fpr=0.2, guarantee=0.9)).fit()
    metrics = run.metrics
    assert metrics["calibration/guaranteed"] == 1
    assert run.threshold == metrics["calibration/threshold"] == metrics["test/threshold"]
    assert run.threshold != metrics["validation/threshold"]
    rate = metrics["calibration/tuned-false-positives"] / (
        metrics["calibration/tuned-false-positives"] + metrics["calibration/tuned-true-negatives"]
    )
    assert rate < 0.2
    assert "promises false positive rate ≤ 0.2 with confidence 0.9: on the 300 calibration rows" in run.notes[-1]


def test_what_no_threshold_can_promise_keeps_the_given_one_and_is_said():
    run = engine(Kept(), ThresholdTuner(objective="recall-at-fpr", max_fpr=0.001, guarantee=0.95)).fit()
    assert run.threshold == 0.5
    assert run.metrics["calibration/guaranteed"] == 0
    assert "no threshold can promise" in run.notes[-1]
    assert "it takes at least 2995 rows of class 0" in run.notes[-1]


def test_without_calibration_rows_the_promise_does_not_hold_and_it_says_so(caplog):
    run = engine(Judged(), ThresholdTuner(objective="precision-at-recall", min_recall=0.6, guarantee=0.9)).fit()
    assert "the guarantee does not hold" in caplog.text
    assert "--calibration-split" in caplog.text
    assert run.notes[-1].endswith("The promise does not hold: the same rows have chosen what is tested")


def test_calibration_rows_of_one_class_promise_nothing():
    class OneClass(Kept):
        def splits(self, run):
            found = super().splits(run)
            found.calibration.labels[:] = 1
            return found

    run = engine(OneClass(), ThresholdTuner(objective="recall-at-fpr", guarantee=0.9)).fit()
    assert run.threshold == 0.5
    assert "the calibration rows are all of one class" in run.notes[-1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"guarantee": 1, "objective": "recall-at-fpr"}, "1 is not a guarantee that rows can give"),
        ({"guarantee": 0, "objective": "recall-at-fpr"}, "0 is not a guarantee"),
        ({"guarantee": 0.9}, "f1 has no requirement that a guarantee could be for"),
        ({"guarantee": 0.9, "objective": "cost"}, "a guarantee of the cost needs max-cost"),
        ({"max-cost": 0.9, "objective": "cost"}, "max-cost has an effect only with a guarantee"),
    ],
)
def test_what_cannot_be_promised_is_refused(options, said):
    with pytest.raises(UsageError, match=said):
        build(ThresholdTuner, options, where="")


def test_the_given_threshold_is_kept_unless_tuning_beats_it_and_it_is_said_once():
    run = engine(Judged(), ThresholdTuner()).fit()
    assert run.threshold == run.metrics["validation/threshold"] == 0.5
    assert run.metrics["validation/tuned-threshold"] != 0.5
    assert run.metrics["validation/tuned-f1"] >= run.metrics["validation/cross-fitted-f1"]
    assert [note.startswith("hooked") for note in run.notes] == [False]
    assert "the threshold 0.5 is kept: on 60 validation rows, tuning it" in run.notes[0]
    free = engine(Judged(), ThresholdTuner(keep_unless_better=False)).fit()
    assert free.threshold == free.metrics["validation/tuned-threshold"] == run.metrics["validation/tuned-threshold"]
    assert free.notes == []


def test_a_threshold_far_off_is_tuned():
    class FarOff(Judged):
        threshold = 0.99

    run = engine(FarOff(), ThresholdTuner()).fit()
    assert run.threshold < 0.9
    assert run.notes == []


def test_fewer_rows_than_folds_have_no_cross_fitted_metrics(caplog):
    class Rare(Judged):
        def splits(self, run):
            validation = rows(60, seed=1)
            validation.labels[3:] = 0
            validation.labels[:3] = 1
            return Splits(rows(40, seed=0), validation)

    run = engine(Rare(), ThresholdTuner(), epochs=1).fit()
    assert np.isnan(run.metrics["validation/cross-fitted-f1"])
    assert "a class has fewer validation rows than there are folds, 5" in caplog.text
