"""Calibrators: monotone, exact as JSON, and right at the ends of the unit interval."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trainer import UsageError
from trainer.decisions import calibrator_of
from trainer.decisions.calibrators import Beta, Isotonic, Platt, Temperature, VectorScaling

slope = st.floats(0, 50)
number = st.floats(-50, 50)
share = st.floats(0, 1)


@st.composite
def steps(draw):
    scores = sorted(set(draw(st.lists(share, min_size=1, max_size=12))))
    return Isotonic(tuple(scores), tuple(sorted(draw(st.lists(share, min_size=len(scores), max_size=len(scores))))))


two_classes = st.one_of(
    st.builds(Temperature, st.floats(0.01, 100)),
    st.builds(Platt, slope, number),
    st.builds(Beta, slope, slope, number),
    steps(),
)
several = st.one_of(
    st.builds(Temperature, st.floats(0.01, 100)),
    st.tuples(*[slope] * 3, *[number] * 3).map(lambda drawn: VectorScaling(drawn[:3], drawn[3:])),
)


@given(two_classes, hnp.arrays(np.float32, st.integers(1, 30), elements=st.floats(0, 1, width=32)))
@settings(deadline=None)
def test_calibrated_probabilities_of_two_classes_keep_the_order_of_rows(calibrator, probabilities):
    found = calibrator.apply(np.sort(probabilities))
    assert found.dtype == np.float64
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found) >= -1e-12).all()


@given(several, hnp.arrays(np.float64, st.tuples(st.integers(1, 9), st.just(3)), elements=st.floats(0, 1)))
@settings(deadline=None)
def test_calibrated_probabilities_of_several_classes_sum_to_one(calibrator, probabilities):
    found = calibrator.apply(probabilities)
    assert found.shape == probabilities.shape
    np.testing.assert_allclose(found.sum(axis=1), 1)


@given(st.one_of(two_classes, several))
@settings(deadline=None)
def test_json_gives_the_same_calibrator_back(calibrator):
    assert calibrator_of(json.loads(json.dumps(calibrator.to_json()))) == calibrator
    assert calibrator.describe()


def test_ends_stay_ends_without_infinities_and_nan_stays_nan():
    given = np.array([0.0, 1.0, np.nan, 0.5], np.float32)
    for calibrator in (Temperature(2.0), Platt(0.5, 0.1), Beta(0.5, 0.7, 0.0)):
        low, high, missing, _ = calibrator.apply(given)
        assert 0 < low < 0.01 < 0.99 < high < 1
        assert np.isnan(missing)
    rows = np.array([[0.0, 1.0, 0.0], [np.nan, 0.5, 0.5]])
    found = Temperature(3.0).apply(rows)
    assert found[0].argmax() == 1
    assert np.isnan(found[1]).all()
    assert np.isnan(Isotonic((0.0, 1.0), (0.1, 0.9)).apply(given)[2])


def test_temperature_divides_logits():
    np.testing.assert_allclose(Temperature(2.0).apply(np.array([0.8])), 1 / (1 + np.exp(-np.log(4) / 2)))
    # Two classes as columns give the same as one.
    columns = Temperature(2.0).apply(np.array([[0.2, 0.8]]))
    np.testing.assert_allclose(columns[:, 1], Temperature(2.0).apply(np.array([0.8])))


@pytest.mark.parametrize(
    "stored",
    [
        {"kind": "temperature", "temperature": 0},
        {"kind": "platt", "slope": -1, "offset": 0},
        {"kind": "platt", "slope": 1, "offset": float("nan")},
        {"kind": "isotonic", "scores": [0.1, 0.1], "probabilities": [0, 1]},
        {"kind": "isotonic", "scores": [0.1, 0.2], "probabilities": [1, 0]},
        {"kind": "vector", "factors": [1, 1], "offsets": [1]},
        {"kind": "magic"},
    ],
)
def test_damaged_calibrators_are_refused(stored):
    with pytest.raises(UsageError, match="damaged"):
        calibrator_of(stored)
