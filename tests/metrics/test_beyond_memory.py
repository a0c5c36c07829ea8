"""Metrics whose rows do not fit in memory: the same bits from temporary files, and clear errors."""

import errno
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import UsageError
from trainer.evaluation import Collected, Rows
from trainer.metrics import BinaryClassification, MedianAbsoluteError, Memory, MulticlassClassification, metrics_for
from trainer.metrics.exact import ExactSum
from trainer.metrics.ranked import POINTS

score = st.one_of(st.floats(-1, 1, width=32), st.sampled_from([0.0, -0.0, 0.25, 0.5, 1.0, float("nan"), float("inf")]))
row = st.tuples(score, st.booleans(), st.floats(0, 8, width=32))
many = st.lists(row, min_size=1, max_size=60)
cut = st.integers(1, 20)
LIMIT = st.integers(0, 2000)


def fed(metric, columns, size, limit=None):
    if limit is not None:
        metric.keep_within(Memory(limit))
        metric.reset()
    for start in range(0, len(columns[0]), size):
        metric.update(*(None if column is None else column[start : start + size] for column in columns))
    return metric


def points_of(ranking):
    return [[part.tobytes() for part in (each.probabilities, each.true, each.false)] for each in ranking.points()]


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def same(one, other):
    """To the last bit; NaN equals NaN."""
    assert repr(one) == repr(other)


@given(many, st.booleans(), cut, cut, LIMIT)
@settings(deadline=None)
def test_two_classes_have_the_same_bits_from_files(drawn, weighted, size, other_size, limit):
    scores, labels, weights = (np.array(column, np.float32) for column in zip(*drawn, strict=True))
    columns = scores, labels, weights if weighted else None
    kept = fed(BinaryClassification(0.25), columns, size)
    filed = fed(BinaryClassification(0.25), columns, other_size, limit)
    same(kept.compute(), filed.compute())
    np.testing.assert_array_equal(kept.confusion, filed.confusion)
    if not np.isnan(scores).any():
        assert points_of(kept.ranking()) == points_of(filed.ranking())
    for threshold in (-1.0, 0.0, float(scores[0]), 2.0):
        same(kept.ranking().metrics_at(threshold), filed.ranking().metrics_at(threshold))


def test_many_runs_and_several_blocks_of_points_have_the_same_bits():
    generator = np.random.default_rng(0)
    scores = generator.random(2 * POINTS + 5_000)
    labels, weights = generator.random(len(scores)) < scores, generator.random(len(scores))
    for own in (None, weights):
        kept = fed(BinaryClassification(), (scores, labels, own), len(scores))
        # About 70 runs, more than are merged at once.
        filed = fed(BinaryClassification(), (scores, labels, own), 500, 96 * 1900)
        same(kept.compute(), filed.compute())
        one, other = kept.ranking(), filed.ranking()
        assert one.distinct == other.distinct > 2 * POINTS
        places = np.array([0, 5, POINTS - 1, POINTS, one.distinct - 1])
        for column in ("probabilities", "true", "false"):
            np.testing.assert_array_equal(getattr(one.at(places), column), getattr(other.at(places), column))


def test_rows_may_follow_a_computed_value():
    first, second = np.array([0.2, 0.9]), np.array([0.4, 0.6])
    labels = np.array([0, 1])
    metric = fed(BinaryClassification(), (first, labels, None), 1, 0)
    metric.compute()
    metric.update(second, labels, None)
    whole = fed(BinaryClassification(), (np.concatenate([first, second]), np.tile(labels, 2), None), 4)
    same(metric.compute(), whole.compute())
    other = BinaryClassification()
    other.add_state(metric.state())
    same(other.compute(), whole.compute())


@given(
    st.lists(st.tuples(st.floats(-9, 9), st.sampled_from([0.1, 1.0, 2.0])), min_size=1, max_size=60),
    st.integers(0, 2),
    cut,
    LIMIT,
)
@settings(deadline=None)
def test_a_median_has_the_same_bits_from_files(drawn, kind, size, limit):
    errors, weights = (np.array(column) for column in zip(*drawn, strict=True))
    columns = errors, np.zeros(len(errors)), (None, np.full(len(errors), 0.1), weights)[kind]
    kept, filed = fed(MedianAbsoluteError(), columns, 7), fed(MedianAbsoluteError(), columns, size, limit)
    same(kept.compute(), filed.compute())
    if kind < 2:
        assert filed.compute()["median-absolute-error"] == np.median(np.abs(errors))


@given(st.integers(0, 2**32), st.integers(2, 5), st.booleans(), cut, LIMIT)
@settings(deadline=None, max_examples=40)
def test_several_classes_have_the_same_bits_from_files(seed, classes, weighted, size, limit):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 9, (50, classes)).astype(np.float32) / 8
    labels, weights = generator.integers(0, classes, 50), generator.integers(0, 3, 50) / 2
    columns = scores, labels, weights if weighted else None
    kept = fed(MulticlassClassification(roc_auc=True), columns, size)
    filed = fed(MulticlassClassification(roc_auc=True), columns, size, limit)
    same(kept.compute(), filed.compute())
    other = MulticlassClassification(roc_auc=True)
    other.add_state(filed.state())
    same(other.compute()["roc-auc"], kept.compute()["roc-auc"])


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=40), cut)
def test_a_sum_is_exact_in_any_order_and_division(values, size):
    first, second = ExactSum(), ExactSum()
    for start in range(0, len(values), size):
        first.add(np.array(values[start : start + size]))
    second.add(np.array(values[::-1]))
    exact = sum(map(Fraction, values))
    try:
        expected = float(exact)
    except OverflowError:
        expected = float("inf") if exact > 0 else float("-inf")
    assert first.value == second.value == expected
    first.add(np.array([np.inf]))
    assert first.value == np.inf
    second.add(np.array([np.nan]))
    assert np.isnan(second.value)


@given(many, cut, cut)
@settings(deadline=None)
def test_log_loss_and_brier_score_do_not_depend_on_order_and_division(drawn, size, other):
    scores, labels, weights = (np.array(column, np.float32) for column in zip(*drawn, strict=True))
    scores = np.nan_to_num(scores, posinf=1.0)
    one = fed(BinaryClassification(), (scores, labels, weights), size).compute()
    turned = fed(BinaryClassification(), (scores[::-1], labels[::-1], weights[::-1]), other).compute()
    for name in ("log-loss", "brier-score", "accuracy", "true-positives"):
        same(one[name], turned[name])


def test_metrics_chosen_by_name_keep_to_the_limit_too():
    (metric,) = metrics_for("sigmoid-binary-cross-entropy", ["roc-auc"])
    values = fed(metric, (np.array([0.1, 0.8, 0.7]), np.array([0.0, 1.0, 0.0]), None), 1, 0)
    assert type(values.ranking()).__name__ == "StoredRanking"
    assert values.compute() == {"roc-auc": 1.0}


def test_files_have_no_name_and_end_with_the_rows(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = open_files()
    metric = fed(BinaryClassification(), (np.linspace(0, 1, 9), np.arange(9) % 2, None), 1, 0)
    metric.compute()
    assert list(tmp_path.iterdir()) == []
    assert open_files() > before
    metric.reset()
    assert open_files() == before


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "is full: a file of at least [0-9,]+ bytes is needed there, and .* are free"),
        (errno.EFBIG, "takes no file of [0-9,]+ bytes"),
        (errno.EIO, "cannot be written: Input/output error"),
    ],
)
def test_a_folder_that_takes_no_more_is_named_with_the_bytes_needed(monkeypatch, tmp_path, number, said):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(UsageError, match=rf"{tmp_path} {said}.*TMPDIR"):
        fed(BinaryClassification(), (np.ones(3), np.ones(3), None), 3, 0)


def test_a_folder_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="none cannot be written: No such file"):
        fed(BinaryClassification(), (np.ones(3), np.ones(3), None), 3, 0)


def collected(count, size, limit):
    found = Collected(Memory(limit))
    for start in range(0, count, size):
        values = np.arange(start, min(start + size, count), dtype=np.float32)
        found.add(Rows(values, values, None, np.empty(0)))
    return found


@given(st.integers(1, 900), st.integers(1, 900), st.integers(1, 20_000))
@settings(deadline=None, max_examples=50)
def test_a_sample_is_the_same_in_any_division(size, other, limit):
    one, another = collected(1000, size, limit), collected(1000, other, limit)
    assert one.fits is another.fits is (limit >= 16_000)
    rows = one.joined().labels
    np.testing.assert_array_equal(rows, another.joined().labels)
    assert len(rows) <= max(limit // 16, 1)
    assert (np.diff(rows) > 0).all()


def test_memory_that_is_asked_for_is_only_asked_once_and_for_many_rows():
    asked = []

    def ask():
        asked.append(1)
        return 10**9

    memory = Memory(ask)
    half = memory.share(2)
    assert half.allows(10**6)
    assert not asked
    assert half.allows(5 * 10**8)
    assert not memory.share(4).allows(5 * 10**8)
    assert len(asked) == 1


@given(many, st.booleans(), cut, LIMIT)
@settings(deadline=None)
def test_mapped_rankings_are_those_of_the_mapped_rows(drawn, weighted, size, limit):
    scores, labels, weights = (np.array(column, np.float32) for column in zip(*drawn, strict=True))

    def function(part):
        return np.round(np.asarray(part, np.float64) * 4) / 8  # some scores become equal

    given_weights = weights if weighted else None
    wanted = fed(BinaryClassification(), (function(scores), labels, given_weights), size).ranking()
    for most in (None, limit):
        found = fed(BinaryClassification(), (scores, labels, given_weights), size, most).ranking().mapped(function)
        assert (found.rows, found.not_numbers) == (wanted.rows, wanted.not_numbers)
        for threshold in (-1.0, 0.0, float(function(scores[:1])[0]), 2.0):
            same(found.metrics_at(threshold), wanted.metrics_at(threshold))
        if not np.isnan(scores).any():
            parts = zip(found.points(), wanted.points(), strict=True)
            for mine, other in parts:
                np.testing.assert_array_equal(mine.probabilities, other.probabilities)
                np.testing.assert_allclose(mine.true, other.true)
                np.testing.assert_allclose(mine.false, other.false)
