"""Fitted calibrators equal scikit-learn's, and a calibrator is chosen only if it helps beyond chance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV

from trainer.decisions.calibrators import logits, sigmoid, softmax
from trainer.decisions.choosing import ERRORS, choose_calibrator, cross_fitted
from trainer.decisions.fitting import FITS, SEVERAL_CLASSES, TWO_CLASSES
from trainer.decisions.folds import folds_of
from trainer.decisions.reliability import Reliability
from trainer.decisions.scored import Pooled, Scored
from trainer.metrics import BinaryClassification, Ranked

EPS = float(np.finfo(np.float32).eps)


class Scores(ClassifierMixin, BaseEstimator):
    """A classifier whose only feature is its score."""

    def fit(self, rows, labels, sample_weight=None):
        self.classes_ = np.unique(labels)
        return self

    def decision_function(self, rows):
        return np.ravel(rows)

    def predict(self, rows):
        return (np.ravel(rows) > 0).astype(int)


def two_classes(rows, *, sharpness=1.0, shift=0.0, seed=0, weighted=False):
    """Rows whose logits are `sharpness` times too large and `shift` too high."""
    draw = np.random.default_rng(seed)
    logit = draw.normal(size=rows) * 1.5
    labels = (draw.random(rows) < sigmoid(logit)).astype(int)
    weights = draw.uniform(0.5, 2, rows) if weighted else None
    return Scored.of_rows(sigmoid(sharpness * logit + shift).astype(np.float32), labels, weights)


def several_classes(rows, *, sharpness=1.0, offsets=(0, 0, 0), seed=0):
    draw = np.random.default_rng(seed)
    scores = draw.normal(size=(rows, 3)) * 1.5
    labels = (softmax(scores).cumsum(axis=1) < draw.random((rows, 1))).sum(axis=1)
    return Scored.of_rows(softmax(sharpness * scores + np.array(offsets)).astype(np.float32), labels, None)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("kind", "method"), [("platt", "sigmoid"), ("isotonic", "isotonic")])
def test_fits_equal_those_of_scikit_learn(kind, method, weighted):
    rows = two_classes(800, sharpness=2, shift=0.5, weighted=weighted)
    # Its isotonic regression takes any score, ours takes the probability: the order is the same.
    scores = logits(rows.probabilities)[:, np.newaxis]
    theirs = CalibratedClassifierCV(Scores(), method=method, ensemble=False)
    theirs.fit(scores, rows.labels, sample_weight=rows.weights)
    mine = FITS[kind](rows).apply(rows.probabilities)
    np.testing.assert_allclose(mine, theirs.predict_proba(scores)[:, 1], atol=3e-3)


def test_each_fit_undoes_what_it_can_describe():
    rows = two_classes(20_000, sharpness=2.5)
    assert FITS["temperature"](rows).temperature == pytest.approx(2.5, rel=0.05)
    rows = two_classes(20_000, sharpness=2, shift=-1)
    found = FITS["platt"](rows)
    assert (found.slope, found.offset) == (pytest.approx(0.5, rel=0.05), pytest.approx(0.5, rel=0.1))
    found = FITS["beta"](rows)
    assert (found.a, found.b, found.offset) == pytest.approx((0.5, 0.5, 0.5), rel=0.15)
    rows = several_classes(20_000, sharpness=2, offsets=(1, 0, -1))
    found = FITS["vector"](rows)
    assert found.factors == pytest.approx([0.5] * 3, rel=0.1)
    assert np.diff(found.offsets) == pytest.approx([0.5, 0.5], rel=0.2)


@pytest.mark.parametrize("kind", [*TWO_CLASSES, *SEVERAL_CLASSES])
def test_rows_that_are_told_apart_without_error_do_not_become_certain(kind):
    if kind in TWO_CLASSES:
        rows = Scored.of_rows(np.repeat([0.1, 0.9], 20), np.repeat([0, 1], 20), None)
        found = FITS[kind](rows).apply(rows.probabilities)
    if kind in SEVERAL_CLASSES:
        rows = Scored.of_rows(np.repeat(0.1 + 0.7 * np.eye(3), 20, axis=0), np.repeat(range(3), 20), None)
        found = FITS[kind](rows).apply(rows.probabilities)
    assert 0.001 < found.min() < 0.1


@given(st.sampled_from(TWO_CLASSES), st.integers(0, 1000), st.integers(20, 60))
@settings(deadline=None, max_examples=40)
def test_fits_of_any_rows_are_finite_and_not_worse_than_nothing(kind, seed, count):
    draw = np.random.default_rng(seed)
    labels = np.append([0, 1], draw.integers(0, 2, count))
    rows = Scored.of_rows(draw.choice([0, 1e-40, 0.2, 0.5, 0.9, 1], len(labels)).astype(np.float32), labels, None)
    found = FITS[kind](rows).apply(rows.probabilities)
    assert np.isfinite(found).all()
    assert rows.mean(rows.log_losses(found, EPS)) <= rows.mean(rows.log_losses(rows.probabilities, EPS)) + 0.15


def test_a_weight_counts_as_so_many_rows():
    rows = two_classes(200, sharpness=2)
    doubled = rows.take(np.repeat(np.arange(200), 2))
    for kind in TWO_CLASSES:
        one = FITS[kind](Scored(rows.probabilities, rows.labels, rows.weights * 2, rows.squares * 2))
        np.testing.assert_allclose(one.apply(rows.probabilities), FITS[kind](doubled).apply(rows.probabilities), 1e-6)


def test_good_probabilities_stay_and_bad_ones_are_calibrated():
    chosen = []
    for seed in range(20):
        rows = two_classes(500, seed=seed)
        folds = folds_of(rows.labels, 5, seed)
        chosen.append(choose_calibrator(rows, ["none", *TWO_CLASSES], folds, resolution=EPS))
    assert sum(each.calibrator is not None for each in chosen) <= 2
    rows = two_classes(500, sharpness=3)
    found = choose_calibrator(rows, ["none", *TWO_CLASSES], folds_of(rows.labels, 5, 1), resolution=EPS)
    assert found.calibrator.kind == "temperature"
    assert rows.mean(rows.log_losses(found.probabilities, EPS)) == found.losses["temperature"]
    rows = two_classes(500, sharpness=3, shift=3)
    assert (
        choose_calibrator(rows, ["none", *TWO_CLASSES], folds_of(rows.labels, 5, 1), resolution=EPS).calibrator.kind
        == "platt"
    )
    rows = several_classes(500, sharpness=3)
    found = choose_calibrator(rows, ["none", *SEVERAL_CLASSES], folds_of(rows.labels, 5, 1), resolution=EPS)
    assert found.calibrator.kind == "temperature"
    assert ERRORS > 1


def test_cross_fitted_probabilities_of_a_fold_do_not_depend_on_its_labels():
    rows = two_classes(100, sharpness=2)
    folds = folds_of(rows.labels, 4, 3)
    first = cross_fitted("isotonic", rows, folds)
    labels = np.where(folds == 2, 1 - rows.labels, rows.labels)
    other = cross_fitted("isotonic", Scored(rows.probabilities, labels, rows.weights, rows.squares), folds)
    np.testing.assert_array_equal(first[folds == 2], other[folds == 2])
    assert (first[folds != 2] != other[folds != 2]).any()


@given(st.integers(2, 8), st.integers(0, 9), st.lists(st.integers(8, 40), min_size=2, max_size=4))
def test_folds_have_the_same_share_of_each_class(folds, seed, counts):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    found = folds_of(labels, folds, seed)
    for number in range(len(counts)):
        sizes = np.bincount(found[labels == number], minlength=folds)
        assert sizes.max() - sizes.min() <= 1
    sizes = np.bincount(found, minlength=folds)
    assert sizes.max() - sizes.min() <= 1


def test_a_ranking_is_as_good_as_its_rows():
    rows = two_classes(3000, sharpness=2)
    ranked = Ranked(rows.probabilities, rows.labels)
    for most in (1 << 16, 500):
        pooled = Pooled.of(ranked.points(), ranked.distinct, float(ranked.rows), most)
        assert pooled.positive.sum() == rows.labels.sum()
        assert len(pooled.probabilities) <= most or most > 3000
        for kind in TWO_CLASSES:
            mine, other = (FITS[kind](each).apply(rows.probabilities) for each in (pooled.scored(), rows))
            assert np.abs(mine - other).mean() < (1e-6 if most > 3000 else 0.005)
        parts, folds = pooled.in_folds(5, np.random.default_rng(0))
        assert parts.weights.sum() == 3000
        assert np.bincount(folds, parts.weights) == pytest.approx([600] * 5, rel=0.2)
        loss = parts.mean(parts.log_losses(cross_fitted("platt", parts, folds), EPS))
        own = rows.mean(rows.log_losses(cross_fitted("platt", rows, folds_of(rows.labels, 5, 0)), EPS))
        assert loss == pytest.approx(own, rel=0.005)


def test_weighted_rankings_keep_a_score_in_one_fold():
    rows = two_classes(400, weighted=True)
    ranked = Ranked(rows.probabilities, rows.labels, rows.weights)
    pooled = Pooled.of(ranked.points(), ranked.distinct, ranked.positives + ranked.negatives)
    parts, folds = pooled.in_folds(4, np.random.default_rng(0))
    assert not pooled.are_counts
    assert len(folds) == len(parts.labels) == 400
    assert parts.weights.sum() == pytest.approx(rows.weights.sum())


def test_losses_are_those_of_the_metrics():
    rows = two_classes(300, weighted=True)
    metric = BinaryClassification()
    metric.update(rows.probabilities, rows.labels, rows.weights)
    found = metric.compute()
    assert rows.mean(rows.log_losses(rows.probabilities, EPS)) == pytest.approx(found["log-loss"])
    assert rows.mean(rows.squared_errors(rows.probabilities)) == pytest.approx(found["brier-score"])


# ---- reliability ----------------------------------------------------------------------------------------------------


def test_the_calibration_error_of_calibrated_probabilities_is_near_zero():
    found = [Reliability.of(two_classes(1000, seed=seed, weighted=seed % 2)).ece for seed in range(200)]
    # Without subtracting what chance adds, the mean would be 0.055.
    assert np.mean(found) < 0.02
    assert np.mean([each == 0 for each in found]) > 0.4
    several = [Reliability.of(several_classes(1000, seed=seed)).ece for seed in range(50)]
    assert np.mean(several) < 0.02


def test_the_calibration_error_finds_what_is_wrong():
    rows = Scored.of_rows(np.repeat([0.2, 0.8], 5000), np.tile([0, 0, 1, 1], 2500), None)
    found = Reliability.of(rows)
    assert found.ece == pytest.approx(0.3, abs=0.002)
    assert found.predicted == pytest.approx([0.2, 0.8])
    assert found.observed == pytest.approx([0.5, 0.5])
    low, high = found.intervals()
    assert (low < 0.5).all()
    assert (high > 0.5).all()
    assert high - low == pytest.approx([0.0277] * 2, rel=0.01)


@given(st.integers(1, 200), st.integers(1, 20), st.booleans())
def test_bins_hold_every_row_once(count, bins, weighted):
    rows = two_classes(count, weighted=weighted)
    found = Reliability.of(rows, np.round(rows.probabilities, 1), bins)
    assert len(found.weights) <= bins
    assert found.weights.sum() == pytest.approx(rows.weights.sum())
    assert (np.diff(found.predicted) > 0).all()
    assert np.dot(found.weights, found.observed) == pytest.approx(rows.weights[rows.labels == 1].sum())
