"""Cut-offs with names, bands, costs and thresholds for groups are the best there are, by trying all of them."""

import itertools
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import UsageError
from trainer.decisions import (
    ABOVE_ALL,
    Cuts,
    GroupThresholds,
    LeastCost,
    PointDemand,
    Points,
    band_by_accuracy,
    band_by_cost,
    costs_of,
    demands_of,
    fair_thresholds,
    point_metrics,
    rule_of,
)
from trainer.metrics import Ranked

score = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
labelled = st.lists(st.tuples(score, st.booleans(), st.integers(1, 3)), min_size=2, max_size=16).filter(
    lambda drawn: len({label for _, label, _ in drawn}) == 2
)


def columns(drawn):
    scores, labels, others = (np.array(column, float) for column in zip(*drawn, strict=True))
    return scores, labels, others


# ---- points ----------------------------------------------------------------------------------------------------------


@given(labelled, st.sampled_from(["recall-at-precision", "precision-at-recall", "fpr", "share"]), st.floats(0.05, 1))
@settings(deadline=None, max_examples=200)
def test_a_cut_off_meets_its_demand_and_none_that_does_is_better(drawn, kind, value):
    scores, labels, weights = columns(drawn)
    ranking = Ranked(scores, labels, weights)
    bound, better = {
        "recall-at-precision": (lambda at: at["precision"] >= value - 1e-9, "recall"),
        "precision-at-recall": (lambda at: at["recall"] >= value - 1e-9, "precision"),
        "fpr": (lambda at: at["fpr"] <= value + 1e-9, "recall"),
        "share": (lambda at: at["share"] <= value + 1e-9, "share"),
    }[kind]
    met = [at for cut in Cuts.of(ranking).thresholds if bound(at := point_metrics(ranking, cut))]
    best = max((at[better] for at in met), default=0)
    found = PointDemand("a", kind, value).cut_off(ranking)
    if found is None:
        assert best == 0
    else:
        at = point_metrics(ranking, found)
        assert bound(at)
        assert at[better] == pytest.approx(best)


def test_the_metrics_of_a_point_are_those_of_the_rows_above_it():
    ranking = Ranked(np.array([0.1, 0.4, 0.6, 0.8]), np.array([0, 1, 0, 1]))
    assert point_metrics(ranking, 0.5) == {"precision": 0.5, "recall": 0.5, "fpr": 0.5, "share": 0.5}
    assert point_metrics(ranking, ABOVE_ALL) == dict.fromkeys(("precision", "recall", "fpr", "share"), 0.0)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["review"], "'review' is not an operating point. Write NAME=KIND:NUMBER"),
        (["re view=f1"], "'re view=f1' is not an operating point"),
        (["review=f2"], "unknown kind 'f2'"),
        (["review=f1:0.5"], "f1 takes no number"),
        (["review=fpr"], "'' is not a number > 0 and ≤ 1"),
        (["review=fpr:1.5"], "'1.5' is not a number > 0 and ≤ 1"),
        (["review=cost:-1"], "'-1' is not a number > 0"),
        (["review=fpr:nan"], "'nan' is not a number"),
        (["a=f1", "a=mcc"], "the name 'a' is there twice"),
        (["none=f1"], "'none' is the name of the other rows"),
        (["a=fpr:0.01", "b=fpr:0.1"], "'a=fpr:0.01' never applies before 'b=fpr:0.1': its cut-off is not lower"),
        (["a=recall-at-precision:0.9", "c=f1", "b=recall-at-precision:0.8"], "List the points from the lowest cut-off"),
        (["a=threshold:0.5", "b=threshold:0.5"], "its cut-off is not lower"),
    ],
)
def test_points_that_are_wrong_or_contradict_each_other_are_refused(texts, message):
    with pytest.raises(UsageError) as caught:
        demands_of(texts, "none")
    assert message in str(caught.value)


def test_points_are_read_as_written():
    assert demands_of(["review=recall-at-precision:0.95", " block = fpr : 0.001 "], "none") == [
        PointDemand("review", "recall-at-precision", 0.95),
        PointDemand("block", "fpr", 0.001),
    ]


def decisions(rule, predictions, table=None):
    return rule.columns(np.asarray(predictions), table or {})[rule.names[0]].to_pylist()


def test_a_row_has_the_name_of_the_highest_cut_off_below_it():
    rule = Points((("block", 0.9), ("review", 0.5), ("never", ABOVE_ALL)), "none", "-x")
    assert rule.names == ("decision-x",)
    assert decisions(rule, [0.5, 0.51, 0.9, 0.95, 1.0, np.nan]) == ["none", "review", "review", "block", "block", None]
    assert decisions(rule, np.zeros(0)) == []
    assert rule_of(json.loads(json.dumps(rule.to_json()))) == rule


# ---- a band that goes to a person ------------------------------------------------------------------------------------


@given(labelled, st.floats(0.05, 1), st.sampled_from([(1, 1), (1, 3), (2, 0)]))
@settings(deadline=None, max_examples=150)
def test_no_band_costs_less(drawn, person, prices):
    scores, labels, weights = columns(drawn)
    cuts = Cuts.of(Ranked(scores, labels, weights))

    def cost(low, high):
        wrong = prices[0] * ((scores > high) & (labels == 0)) + prices[1] * ((scores <= low) & (labels == 1))
        return (weights * (wrong + person * ((scores > low) & (scores <= high)))).sum()

    low, high = band_by_cost(cuts, person, *prices)
    assert low <= high
    pairs = [pair for pair in itertools.product(cuts.thresholds, repeat=2) if pair[0] <= pair[1]]
    assert cost(low, high) == pytest.approx(min(cost(*pair) for pair in pairs))


@given(labelled, st.sampled_from([0.5, 0.6, 0.75, 0.9, 1.0]))
@settings(deadline=None, max_examples=150)
def test_no_band_that_keeps_the_accuracy_is_narrower(drawn, accuracy):
    scores, labels, weights = columns(drawn)
    cuts = Cuts.of(Ranked(scores, labels, weights))

    def outside(low, high):
        right = ((scores > high) & (labels == 1)) | ((scores <= low) & (labels == 0))
        decided = (scores > high) | (scores <= low)
        return (weights * decided).sum(), (weights * right).sum()

    low, high = band_by_accuracy(cuts, accuracy)
    assert low <= high
    decided, right = outside(low, high)
    assert right >= accuracy * decided - 1e-9
    pairs = [outside(*pair) for pair in itertools.product(cuts.thresholds, repeat=2) if pair[0] <= pair[1]]
    assert decided == max(each for each, good in pairs if good >= accuracy * each - 1e-9)


def test_many_distinct_scores_are_thinned_out_with_exact_sums():
    generator = np.random.default_rng(0)
    scores = generator.random(5000)
    labels = generator.random(5000) < scores
    cuts = Cuts.of(Ranked(scores, labels), most=100)
    assert len(cuts.thresholds) == 101
    for place in (0, 50, 99):
        above = scores > cuts.thresholds[place]
        assert (cuts.tp[place], cuts.fp[place]) == ((above & labels).sum(), (above & ~labels).sum())


# ---- fairness --------------------------------------------------------------------------------------------------------


@given(labelled, labelled, st.sampled_from([0.0, 0.1, 0.4]), st.booleans())
@settings(deadline=None, max_examples=100)
def test_no_fair_thresholds_cost_less(first, second, gap, opportunity):
    groups = [columns(first), columns(second)]
    cuts = [Cuts.of(Ranked(scores, labels, weights)) for scores, labels, weights in groups]

    def outcome(thresholds):
        cost, rates = 0.0, []
        for (scores, labels, weights), threshold in zip(groups, thresholds, strict=True):
            above = scores > threshold
            cost += (weights * (above & (labels == 0)) + 2 * weights * (~above & (labels == 1))).sum()
            counted = weights * (labels if opportunity else 1)
            rates.append((counted * above).sum() / counted.sum())
        return cost, max(rates) - min(rates)

    constraint = "equal-opportunity" if opportunity else "demographic-parity"
    cost, apart = outcome(fair_thresholds(cuts, constraint, gap, 1.0, 2.0))
    assert apart <= gap + 1e-9
    every = map(outcome, itertools.product(*(each.thresholds for each in cuts)))
    assert cost == pytest.approx(min(each for each, difference in every if difference <= gap + 1e-9))


def test_each_group_has_its_threshold_and_others_that_of_all():
    rule = GroupThresholds("sex", {"f": 0.3, "m": 0.6}, 0.5, ("no", "yes"))
    table = {"sex": pa.chunked_array([["f", "m"], ["f", None]])}
    assert decisions(rule, [0.4, 0.4, np.nan, 0.55], table) == ["yes", "no", None, "yes"]
    assert (rule.reads, rule_of(json.loads(json.dumps(rule.to_json())))) == (("sex",), rule)


# ---- costs -----------------------------------------------------------------------------------------------------------


def test_the_decision_has_the_least_expected_cost():
    rule = costs_of("0,1,9; 1,0,9; 5,5,0", ("a", "b", "c"), "person")
    generator = np.random.default_rng(0)
    found = generator.dirichlet(np.ones(3), size=200)
    expected = [min(rule.decisions, key=lambda name: row @ np.array(rule.costs)[:, "abc".index(name)]) for row in found]
    assert decisions(rule, found) == expected
    assert decisions(rule, [[np.nan, 0.5, 0.5]]) == [None]
    assert rule_of(json.loads(json.dumps(rule.to_json()))) == rule


def test_a_column_more_is_a_person_and_two_classes_have_one_probability():
    rule = costs_of("0,1,0.2;5,0,0.2", ("no", "yes"), "clerk")
    assert decisions(rule, [0.01, 0.1, 0.5, 0.9]) == ["no", "clerk", "clerk", "yes"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,1;x,0", "it is not a matrix of numbers"),
        ("0,1", "the matrix is 1 × 2, and there are 2 classes: no, yes"),
        ("0,1;1", "the matrix is 2 × 1/2"),
        ("0,1;inf,0", "a cost is not finite"),
        ("0,1;0,1", "the costs are the same for every class"),
    ],
)
def test_a_matrix_that_does_not_fit_is_refused(text, message):
    with pytest.raises(UsageError) as caught:
        costs_of(text, ("no", "yes"), "person")
    assert message in str(caught.value)


def test_a_stored_matrix_that_does_not_fit_is_damaged():
    with pytest.raises(UsageError, match="it is damaged: a rule of kind least-cost"):
        rule_of({**LeastCost(((0.0, 1.0), (1.0, 0.0)), ("a", "b")).to_json(), "decisions": ["a"]})
