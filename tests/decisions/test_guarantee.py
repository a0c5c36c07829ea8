"""Bounds are exact, and a promise is broken no more often than it says."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trainer.decisions import Demand, promised
from trainer.decisions.bounds import clopper_pearson, hoeffding_bentkus, log_p_bound, p_at_least, p_at_most
from trainer.metrics import Ranked

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

counts = st.integers(1, 400).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials)))
rate = st.floats(0.02, 0.98)


@given(counts, rate)
@settings(deadline=None)
def test_p_values_are_binomial_tails_and_their_bound_is_above_them(drawn, limit):
    successes, trials = drawn
    above = stats.binom.sf(successes - 1, trials, limit)
    assert p_at_least(successes, trials, limit) == pytest.approx(above, rel=1e-6, abs=1e-12)
    assert p_at_most(successes, trials, limit) == pytest.approx(stats.binom.cdf(successes, trials, limit), abs=1e-12)
    assert np.exp(log_p_bound(successes, trials, limit)) >= above - 1e-9


@given(counts, st.floats(0.5, 0.99))
@settings(deadline=None, max_examples=30)
def test_intervals_of_rates_are_clopper_and_pearsons(drawn, confidence):
    known = stats.binomtest(*drawn).proportion_ci(confidence, "exact")
    assert clopper_pearson(*drawn, confidence) == pytest.approx((known.low, known.high), abs=1e-9)


@given(st.integers(1, 200), st.floats(0, 1), rate)
@settings(deadline=None)
def test_a_mean_loss_has_a_p_value_that_never_falls_as_the_loss_rises(rows, mean, limit):
    first, second = hoeffding_bentkus(np.array([mean, min(mean + 0.1, 1.0)]), rows, limit)
    assert 0 <= first <= second + 1e-12 <= 1 + 1e-12
    assert mean < limit or first == 1


labelled = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.2, 0.4, 0.7, 0.9, 1.0]), st.booleans()), min_size=4)
KINDS = ("precision", "recall", "false-positive-rate")


@given(labelled, st.sampled_from(KINDS), st.floats(0.1, 0.9), st.sampled_from([0.05, 0.3, 0.6, 0.95]))
@settings(deadline=None, max_examples=200)
def test_the_chosen_threshold_is_where_testing_one_after_the_other_ends(drawn, kind, limit, start):
    scores, labels = (np.array(column, float) for column in zip(*drawn, strict=True))
    demand = Demand(kind, limit, 0.8)

    def passes(threshold):
        above, positive = scores > threshold, labels > 0
        if kind == "precision":
            p = p_at_least((above & positive).sum(), above.sum(), limit)
        elif kind == "recall":
            p = p_at_least((above & positive).sum(), positive.sum(), limit)
        else:
            p = p_at_most((above & ~positive).sum(), (~positive).sum(), limit)
        return p <= 1 - demand.confidence

    edges = np.unique([-1.0, *scores, 1.0])
    order = {"precision": [start, *edges[edges < start][::-1]], "recall": edges}.get(kind, edges[::-1])
    last = None
    for threshold in order:
        if not passes(threshold):
            break
        last = threshold
    found = promised(Ranked(scores, labels), demand, start)
    assert (found is None) == (last is None)
    if found is not None:
        assert np.array_equal(scores > found.threshold, scores > last)


def test_rows_of_equal_weight_are_promised_what_rows_without_weights_are():
    generator = np.random.default_rng(0)
    scores = generator.random(600)
    labels = generator.random(600) < scores
    for demand in [Demand("recall", 0.8, 0.9), Demand("precision", 0.7, 0.9), Demand("cost", 0.4, 0.9, 1, 2)]:
        plain = promised(Ranked(scores, labels), demand, 0.8 if demand.kind == "precision" else 0.33)
        weighted = promised((scores, labels, np.full(600, 3.0)), demand, 0.8 if demand.kind == "precision" else 0.33)
        assert plain is not None
        assert weighted is not None
        assert weighted.threshold == plain.threshold


def test_many_distinct_scores_are_tested_at_a_fixed_grid(monkeypatch):
    generator = np.random.default_rng(0)
    scores = generator.random(4000)
    rows = Ranked(scores, generator.random(4000) < scores)
    demand = Demand("precision", 0.8, 0.95)
    exact = promised(rows, demand, 0.95)
    monkeypatch.setattr("trainer.decisions.guarantee.KEPT", 10)
    assert promised(rows, demand, 0.95).threshold == pytest.approx(exact.threshold, abs=1e-3)


def test_promises_are_broken_as_seldom_as_they_say_and_thresholds_without_one_are_not():
    from decisions.guarantee import broken

    for name, tally in broken(300, 150).items():
        # 5 %, and what 150 draws leave to chance.
        assert tally.broken <= 15, name
    assert tally.draws == 150
    tallies = broken(800, 60, seed=1)
    assert tallies["recall ≥ 0.8"].broken_without > 15
    assert tallies["recall ≥ 0.8"].promised == 60


def test_a_million_scores_are_tuned_with_a_guarantee_in_three_times_the_time_to_sort_them():
    from time import perf_counter

    generator = np.random.default_rng(0)
    scores = generator.random(1_000_000)
    labels = generator.random(1_000_000) < scores
    ratios = []
    for _ in range(4):
        began = perf_counter()
        np.sort(scores)
        sorted_at = perf_counter()
        promised(Ranked(scores, labels), Demand("precision", 0.8, 0.95), 0.9)
        ratios.append((perf_counter() - sorted_at) / (sorted_at - began))
    assert min(ratios) <= 3
