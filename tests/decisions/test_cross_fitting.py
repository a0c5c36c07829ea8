"""A choice is judged on rows that had no part in it; resamples are those of rows."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trainer.decisions import OBJECTIVES, CrossFitted, CrossFitting, Partitions, Resamples, cross_fitted
from trainer.decisions.folds import folds_of
from trainer.decisions.resampling import mcnemar, p_value, resampled_cells, resampled_counts
from trainer.metrics import Ranked

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
GIVEN = {
    "beta": 2.0, "false_positive_cost": 1.0, "false_negative_cost": 3.0,
    "min_precision": 0.6, "min_recall": 0.6, "max_fpr": 0.4,
}  # fmt: skip


def rows(count, seed=0):
    generator = np.random.default_rng(seed)
    scores = generator.random(count)
    return scores, generator.random(count) < scores


score = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
labelled = st.lists(st.tuples(score, st.booleans(), st.integers(0, 3)), min_size=3, max_size=25)


@given(labelled, st.sampled_from(sorted(OBJECTIVES)))
@settings(deadline=None, max_examples=200)
def test_thresholds_of_many_sets_of_weights_are_those_of_each(drawn, objective):
    scores, labels, weights = (np.array(column, float) for column in zip(*drawn, strict=True))
    sets = np.array([weights + 1, weights[::-1] + 1])
    found = Resamples(scores, labels).thresholds(sets, objective, GIVEN)
    for own, threshold in zip(sets, found, strict=True):
        choice = Partitions(Ranked(scores, labels, own)).best(objective, GIVEN)
        assert np.isnan(threshold) if choice is None else threshold == choice.threshold


def test_each_row_is_decided_by_the_threshold_of_the_other_folds():
    scores, labels = rows(200)
    fitting = CrossFitting(scores, labels, None, "f1", {}, given=0.5, seed=3)
    folds = folds_of(labels.astype(int), 5, 3)
    decided = np.empty(200, bool)
    for fold in range(5):
        others = folds != fold
        threshold = Partitions(Ranked(scores[others], labels[others])).best("f1", {}).threshold
        decided[~others] = scores[~others] > threshold
    wanted = np.bincount(2 * labels + decided, minlength=4)
    assert fitting.decisions().cells.tolist() == wanted.tolist()


def test_folds_have_the_same_share_of_each_class():
    labels = np.arange(103) < 31
    folds = folds_of(labels.astype(int), 5, 0)
    assert sorted(np.bincount(folds[labels])) == [6, 6, 6, 6, 7]
    assert np.ptp(np.bincount(folds)) <= 1


def test_a_ranking_in_blocks_is_cross_fitted_like_one_in_one_piece(monkeypatch):
    scores, labels = rows(500)
    whole = cross_fitted(Ranked(np.round(scores, 2), labels), "f1", {}, given=0.5, seed=1)
    monkeypatch.setattr("trainer.metrics.ranked.POINTS", 7)
    monkeypatch.setattr("trainer.decisions.folds.POINTS", 7)
    parts = cross_fitted(Ranked(np.round(scores, 2), labels), "f1", {}, given=0.5, seed=1)
    assert parts.sums.tolist() == whole.sums.tolist()
    assert whole.sums.sum() == 500
    monkeypatch.setattr("trainer.decisions.folds.SHUFFLED", 0)
    hashed = cross_fitted(Ranked(np.round(scores, 2), labels), "f1", {}, given=0.5, seed=1)
    assert hashed.sums.sum() == 500
    assert hashed.metrics()["f1"] == pytest.approx(whole.metrics()["f1"], abs=0.05)


def test_tuning_flatters_and_cross_fitting_does_not():
    from decisions.guarantee import Population

    population = Population(0, 200_000)
    tuned, crossed, true = 0.0, 0.0, 0.0
    for seed in range(150):
        ranking = Ranked(*population.draw(60))
        found = cross_fitted(ranking, "f1", {}, given=0.5, seed=seed)
        choice = Partitions(ranking).best("f1", {})
        tuned += choice.value / 150
        crossed += found.metrics()["f1"] / 150
        cells = population.cells(choice.threshold)
        true += 2 * cells[3] / (2 * cells[3] + cells[1] + cells[2]) / 150
    assert tuned > true + 0.05
    assert abs(crossed - true) < 0.03


def test_intervals_of_cross_fitted_metrics_hold_the_truth():
    from decisions.guarantee import coverage

    assert 0.85 <= coverage(400, 60, resamples=40)["f1"] <= 1


def test_a_gain_is_real_with_enough_rows_and_says_how_many_are_enough():
    # The best threshold for F1 is well below 0.5.
    generator = np.random.default_rng(0)
    found = {}
    for count in (60, 20_000):
        scores = generator.random(count) ** 2
        labels = generator.random(count) < scores
        crossed = cross_fitted(Ranked(scores, labels), "f1", {}, given=0.8, seed=0)
        found[count] = crossed.gain("f1", {}, confidence=0.95, generator=np.random.default_rng(0))
    assert found[20_000].is_real
    assert found[20_000].enough < 20_000
    assert found[20_000].low < found[20_000].value < found[20_000].high


def test_a_given_threshold_that_misses_the_requirement_is_not_compared():
    scores, labels = rows(300)
    crossed = cross_fitted(Ranked(scores, labels), "recall-at-precision", {"min_precision": 0.9}, given=0.1, seed=0)
    arguments = {"confidence": 0.95, "generator": np.random.default_rng(0)}
    assert crossed.gain("recall-at-precision", {"min_precision": 0.9}, **arguments) is None


def test_too_few_rows_of_a_class_cannot_be_folded():
    scores = np.linspace(0, 1, 30)
    assert cross_fitted(Ranked(scores, scores > 0.9), "f1", {}, given=0.5, seed=0) is None
    assert not CrossFitting(scores, scores > 0.9, None, "f1", {}, given=0.5, seed=0).can_fold


@pytest.mark.parametrize("weights", [np.ones(3000), np.random.default_rng(0).integers(1, 3, 3000).astype(float),
                                     np.random.default_rng(0).random(3000), "many"])  # fmt: skip
def test_resamples_have_the_mean_and_the_spread_of_resampled_rows(weights):
    generator = np.random.default_rng(1)
    count = 20_000 if isinstance(weights, str) else 3000
    weights = generator.random(count) if isinstance(weights, str) else weights
    cells = generator.integers(0, 4, count)
    drawn = resampled_cells(cells, weights, 4, 400, generator)
    plain = np.array(
        [np.bincount(cells[r], weights[r], minlength=4) for r in generator.integers(0, count, (400, count))]
    )
    assert drawn.mean(0) == pytest.approx(plain.mean(0), rel=0.02)
    assert drawn.std(0) == pytest.approx(plain.std(0), rel=0.2)
    assert resampled_counts(np.array([5.0, 0.0, 9.0]), 10, generator).sum(1).tolist() == [14.0] * 10


def test_weights_count_in_the_gain():
    crossed = CrossFitted(4, np.array([1.0, 0, 0, 0, 0, 0, 2, 1]), (np.array([0, 6, 7, 6]), np.ones(4)))
    assert crossed.gain("f1", {}, confidence=0.95, generator=np.random.default_rng(0)).value > 0


def test_p_values_are_exact():
    assert mcnemar(0, 0) == 1
    assert mcnemar(3, 12) == pytest.approx(stats.binomtest(3, 15).pvalue)
    assert p_value(np.ones(999)) == pytest.approx(0.002)
    assert p_value(np.array([-1.0, 1.0] * 500)) == 1
