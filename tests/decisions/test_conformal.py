"""Sets and intervals hold the truth as often as they promise, for any model."""

import json
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.decisions import (
    Bounds,
    ClassSets,
    Intervals,
    class_scores,
    codes_of,
    conformal_quantile,
    covered,
    exact_interval,
    number_scores,
    rows_needed,
    rule_of,
)

finite = st.one_of(st.floats(-5, 5), st.sampled_from([0.0, 1.0]))
coverages = st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99])


@given(st.lists(finite, min_size=2, max_size=40), coverages)
@settings(deadline=None)
def test_each_of_some_rows_left_out_in_turn_is_covered_as_often_as_promised(scores, coverage):
    """Exchangeable rows: the coverage is the mean over which of them is the new one."""
    values = np.array(scores)
    held = [values[row] <= conformal_quantile(np.delete(values, row), coverage) for row in range(len(values))]
    assert np.mean(held) >= coverage - 1e-9


@given(st.lists(finite, min_size=1, max_size=40), coverages)
@settings(deadline=None)
def test_the_quantile_is_the_one_of_the_definition(scores, coverage):
    place = math.ceil((len(scores) + 1) * coverage - 1e-9)
    expected = math.inf if place > len(scores) else sorted(scores)[place - 1]
    assert conformal_quantile(np.array(scores), coverage) == expected
    assert conformal_quantile(np.array(scores), coverage, np.full(len(scores), 2.5)) == expected
    assert math.isinf(conformal_quantile(np.array(scores), coverage)) == (len(scores) < rows_needed(coverage))


@pytest.mark.parametrize(("coverage", "rows"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_the_rows_that_a_promise_needs(coverage, rows):
    assert rows_needed(coverage) == rows


def test_rows_of_weight_0_do_not_count_and_a_score_that_is_no_number_is_the_worst():
    scores, weights = np.array([1.0, 2.0, 3.0, np.nan]), np.array([1.0, 1.0, 1.0, 0.0])
    assert conformal_quantile(scores, 0.75, weights) == 3.0
    assert conformal_quantile(scores, 0.75) == math.inf
    assert conformal_quantile(np.array([1.0, 2.0]), 0.5, np.array([1.0, 9.0])) == 2.0


# ---- classes ---------------------------------------------------------------------------------------------------------


def probabilities_and_classes(rows, seed=0, classes=4):
    generator = np.random.default_rng(seed)
    found = generator.dirichlet(np.ones(classes), size=rows)
    return found.astype(np.float32), (generator.random(rows)[:, None] > np.cumsum(found, axis=1)).sum(axis=1)


@pytest.mark.parametrize("method", ["lac", "aps"])
def test_sets_of_90_percent_cover_90_percent_over_draws_of_1000_rows(method):
    draws, rows = 100, 1000
    found, classes = probabilities_and_classes(2 * draws * rows)
    # A model that is badly off: the promise does not depend on it.
    found = found**2 / (found**2).sum(axis=1, keepdims=True)
    scores = class_scores(found, method)
    own = scores[np.arange(len(classes)), classes].reshape(draws, 2, rows)
    shares = [(new <= conformal_quantile(old, 0.9)).mean() for old, new in own]
    assert np.mean(shares) == pytest.approx(0.9, abs=0.01)


def test_lac_has_the_smaller_sets_and_aps_the_larger_ones_for_difficult_rows():
    found, classes = probabilities_and_classes(20_000)
    difficult = found.max(axis=1) < 0.5
    sizes, shares = {}, {}
    for method in ("lac", "aps"):
        scores = class_scores(found, method)
        own = scores[np.arange(len(classes)), classes]
        bound = conformal_quantile(own[:10_000], 0.9)
        sizes[method] = (scores[10_000:] <= bound).sum(axis=1).mean()
        shares[method] = (own <= bound)[difficult].mean()
    assert sizes["lac"] < sizes["aps"]
    assert abs(shares["aps"] - 0.9) < abs(shares["lac"] - 0.9)


def test_two_classes_are_those_of_the_probability_of_class_1():
    one = np.array([0.1, 0.5, 0.9], np.float32)
    assert np.array_equal(class_scores(one, "lac"), class_scores(np.stack([1 - one, one], axis=1), "lac"))
    rule = ClassSets(0.9, "lac", ("no", "yes"), Bounds(100, 0.6))
    assert rule.columns(one, {})["set"].to_pylist() == [["no"], ["no", "yes"], ["yes"]]


def sets(rule, found, table=None):
    return rule.columns(np.asarray(found, np.float32), table or {})["set"].to_pylist()


def test_a_set_has_the_likeliest_class_first_and_the_same_row_always_the_same_set():
    found, classes = probabilities_and_classes(300)
    scores = class_scores(found, "aps")[np.arange(300), classes]
    rule = ClassSets(0.9, "aps", ("a", "b", "c", "d"), Bounds.chosen(scores, 0.9))
    whole = sets(rule, found)
    for row, names in zip(found, whole, strict=True):
        assert names == [rule.classes[place] for place in np.argsort(-row)][: len(names)]
        assert sets(rule, row[None]) == [names]
    assert rule_of(json.loads(json.dumps(rule.to_json()))) == rule


def test_a_set_may_be_empty_has_everything_without_enough_rows_and_for_what_is_no_number():
    two = ("no", "yes")
    assert sets(ClassSets(0.9, "lac", two, Bounds(50, 0.2)), [0.5, 0.99]) == [[], ["yes"]]
    assert sets(ClassSets(0.9, "lac", two, Bounds(5, None)), [0.5, 0.99]) == [["no", "yes"], ["yes", "no"]]
    assert sorted(sets(ClassSets(0.9, "lac", two, Bounds(50, 0.2)), [np.nan])[0]) == ["no", "yes"]
    assert sets(ClassSets(0.9, "lac", two, Bounds(50, 0.2)), np.zeros(0)) == []


# ---- numbers ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=20), st.floats(-3, 3))
@settings(deadline=None)
def test_an_interval_has_exactly_the_labels_whose_score_is_at_most_its_bound(drawn, bound):
    low, label, high = (np.array(column) for column in zip(*drawn, strict=True))
    predicted = np.stack([np.minimum(low, high), np.maximum(low, high)], axis=1)
    lower, upper = Intervals(0.9, "cqr", Bounds(100, bound)).ends(predicted, np.full(len(label), bound))
    scores = number_scores(predicted, label)
    assert (lower <= upper).all()
    inside = (lower <= label) & (label <= upper)
    clear = np.abs(scores - bound) > 1e-9
    wide = predicted[:, 1] - predicted[:, 0] + 2 * bound >= 0
    assert np.array_equal(inside[clear & wide], (scores <= bound)[clear & wide])


def test_intervals_of_90_percent_cover_90_percent_and_follow_the_spread_with_quantiles():
    generator = np.random.default_rng(0)
    x = generator.uniform(0.1, 3, 40_000)
    y = x + x * generator.normal(size=len(x))
    for predicted in (x[:, None], np.stack([x - x, x, x + x], axis=1)):
        scores = number_scores(predicted, y)
        rule = Intervals(0.9, "cqr", Bounds.chosen(scores[:20_000], 0.9))
        columns = rule.columns(predicted[20_000:], {})
        lower, upper = (columns[name].to_numpy() for name in ("lower", "upper"))
        inside = (lower <= y[20_000:]) & (y[20_000:] <= upper)
        assert inside.mean() == pytest.approx(0.9, abs=0.01)
    wide = x[20_000:] > 2
    assert (upper - lower)[wide].mean() > 1.5 * (upper - lower)[~wide].mean()


def test_intervals_end_at_the_least_number_are_infinite_without_enough_rows_and_come_back_from_json():
    rule = Intervals(0.9, "absolute", Bounds(100, 2.0), least=0.0)
    assert [column.to_pylist() for column in rule.columns(np.array([1.0, 5.0]), {}).values()] == [[0, 3], [3, 7]]
    assert rule_of(json.loads(json.dumps(rule.to_json()))) == rule
    lower, upper = Intervals(0.9, "absolute", Bounds(5, None)).ends(np.array([1.0]), np.array([np.inf]))
    assert (lower[0], upper[0]) == (-np.inf, np.inf)


# ---- groups ----------------------------------------------------------------------------------------------------------


def test_each_group_is_covered_and_groups_with_too_few_rows_share_a_promise():
    generator = np.random.default_rng(0)
    spread, codes = np.array([1.0, 5.0, 2.0, 2.0]), generator.choice(4, 20_000, p=[0.6, 0.3998, 0.0001, 0.0001])
    errors = np.abs(generator.normal(size=len(codes)) * spread[codes])
    names = ("a", "b", "few", "fewer")
    bounds = Bounds.chosen(errors[:10_000], 0.9, group="kind", groups=names, codes=codes[:10_000])
    assert set(bounds.by_group) == {"a", "b"}
    own = bounds.of_rows(10_000, {"kind": pa.array(np.array(names)[codes[10_000:]])})
    for group in (0, 1):
        chosen = codes[10_000:] == group
        assert (errors[10_000:] <= own)[chosen].mean() == pytest.approx(0.9, abs=0.03)
    assert (bounds.bound, bounds.reads) == (None, ("kind",))
    unseen = bounds.of_rows(3, {"kind": pa.chunked_array([["a", None], ["new"]])})
    assert unseen.tolist() == [bounds.by_group["a"], math.inf, math.inf]


def test_values_of_a_column_are_groups_by_their_texts():
    for column in (
        pa.array([1, None, 2]),
        pa.chunked_array([[1, None], [2]]),
        pa.array(["1", None, "2"]).dictionary_encode(),
        pa.array([1.0, None, 2.0], pa.float32()),
        pa.array([" 1", "NA", "2"]),
    ):
        assert codes_of(column, ["missing", "1"]).tolist() == [1, 0, -1]
    assert codes_of(["b", "a"], ["a", "b"]).tolist() == [1, 0]
    assert codes_of([], ["a"]).tolist() == codes_of([], []).tolist() == []


# ---- how much is covered ---------------------------------------------------------------------------------------------


def test_the_interval_of_a_share_is_scipys():
    from scipy.stats import binomtest

    for hits, rows in ((0, 10), (10, 10), (3, 17), (90, 100)):
        expected = binomtest(hits, rows).proportion_ci(0.95, "exact")
        assert exact_interval(hits, rows) == pytest.approx((expected.low, expected.high))


def test_weighted_rows_count_by_their_effective_number():
    held = np.array([True, True, False, True])
    assert covered(held) == covered(held, np.full(4, 3.0))
    found = covered(held, np.array([1.0, 1.0, 2.0, 0.0]))
    assert found["coverage"] == 0.5
    assert found["coverage-low"] < covered(np.array([True, False, True, False]))["coverage-low"]
    assert np.isnan(covered(np.zeros(0, bool))["coverage"])
