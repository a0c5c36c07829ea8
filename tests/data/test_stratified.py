"""The stratified split: sizes, shares, and rows that depend on the seed alone."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data import TooFewRows, stratified_split

FIRST = [1, 2, 5, 7, 16]
DIGEST = "8b69589a0eda06b2"


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.integers(2, 60), min_size=1, max_size=5), part=st.floats(0.05, 0.95), seed=st.integers(0, 2**31)
)
def test_each_class_gives_its_share_and_each_row_is_on_one_side(counts, part, seed):
    from sklearn.model_selection import train_test_split

    classes = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    size = max(1, round(part * len(classes)))
    try:
        theirs = train_test_split(np.arange(len(classes)), test_size=size, stratify=classes, random_state=0)[1]
    except ValueError:
        with pytest.raises(TooFewRows):
            stratified_split(classes, size, seed, "a")
        return
    taken = stratified_split(classes, size, seed, "a")
    assert len(taken) == size
    assert (np.diff(taken) > 0).all()
    assert 0 <= taken.min() <= taken.max() < len(classes)
    np.testing.assert_array_equal(stratified_split(classes, size, seed, "a"), taken)
    ours, wanted = (np.bincount(classes[rows], minlength=len(counts)) for rows in (taken, theirs))
    exact = np.array(counts) * size / len(classes)
    assert (np.abs(ours - exact) < 1).all()
    # Equal remainders are settled at random, in scikit-learn too.
    assert sorted(np.abs(ours - exact).round(9)) == sorted(np.abs(wanted - exact).round(9))


def test_seeds_and_streams_choose_other_rows_and_each_row_as_often():
    classes = np.arange(100) % 2
    drawn = [stratified_split(classes, 20, seed, "a") for seed in range(400)]
    assert len({tuple(rows) for rows in drawn}) == 400
    assert (stratified_split(classes, 20, 0, "b") != drawn[0]).any()
    often = np.bincount(np.concatenate(drawn), minlength=100)
    # 80 ± 8 each; the largest of a hundred deviations is rarely above 4 standard deviations.
    assert np.abs(often - 80).max() < 36


def test_the_rows_are_the_same_on_every_version_of_numpy():
    classes = (np.arange(1000) % 7 == 0).astype(np.float32)
    taken = stratified_split(classes, 200, 12345, "validation split")
    assert taken[:5].tolist() == FIRST
    assert hashlib.sha256(taken.astype("<i8").tobytes()).hexdigest()[:16] == DIGEST
