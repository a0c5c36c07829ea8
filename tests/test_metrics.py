"""Metrics: scikit-learn's definitions, and values that do not depend on how the rows were cut or ordered."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from trainer import TrainerError, UsageError
from trainer.metrics import (
    BinaryClassification,
    EvalMetricAdapter,
    MulticlassClassification,
    Regression,
    as_metric,
    average_precision,
    binary_metrics_at,
    direction_of,
    roc_auc,
)

probability = st.one_of(
    st.floats(0, 1, width=32),
    st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),  # ties are the hard part
)
row = st.tuples(probability, st.sampled_from([0.0, 1.0]), st.floats(0.125, 8, width=32))


@st.composite
def rows(draw, min_size=1):
    drawn = draw(st.lists(row, min_size=min_size, max_size=40))
    probabilities, labels, weights = (np.array(column, np.float32) for column in zip(*drawn, strict=True))
    return probabilities, labels, weights if draw(st.booleans()) else None


def collected(metric, predictions, labels, weights=None, cuts=()):
    metric.reset()
    for part in np.split(np.arange(len(labels)), sorted(cuts)):
        if len(part):
            metric.update(predictions[part], labels[part], None if weights is None else weights[part])
    return metric.compute()


def assert_same(ours, theirs, tolerance=1e-12):
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name] == pytest.approx(theirs[name], abs=tolerance, rel=tolerance, nan_ok=True), name


def by_scikit_learn(probabilities, labels, weights, threshold):
    predicted = probabilities > threshold
    common = {"sample_weight": weights}
    both = len(np.unique(labels)) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one class, or nothing predicted: scikit-learn warns, and so do its zeros
        tn, fp, fn, tp = sk.confusion_matrix(labels, predicted, labels=[0, 1], **common).ravel()
        return {
            "accuracy": sk.accuracy_score(labels, predicted, **common),
            "f1": sk.f1_score(labels, predicted, zero_division=0, **common),
            "precision": sk.precision_score(labels, predicted, zero_division=0, **common),
            "recall": sk.recall_score(labels, predicted, zero_division=0, **common),
            "matthews-correlation": sk.matthews_corrcoef(labels, predicted, **common),
            "roc-auc": sk.roc_auc_score(labels, probabilities, **common) if both else float("nan"),
            "average-precision": sk.average_precision_score(labels, probabilities, **common)
            if labels.any()
            else float("nan"),
            "log-loss": sk.log_loss(labels, probabilities, labels=[0, 1], **common),
            "brier-score": sk.brier_score_loss(labels, probabilities, labels=[0, 1], **common),
            "true-positives": tp,
            "false-positives": fp,
            "true-negatives": tn,
            "false-negatives": fn,
        }


@given(rows(), st.sampled_from([0.0, 0.25, 0.5, 0.9]))
@settings(deadline=None)
def test_binary_values_are_scikit_learns(data, threshold):
    probabilities, labels, weights = data
    ours = collected(BinaryClassification(threshold), probabilities, labels, weights)
    # scikit-learn clips the log loss in the type of the probabilities, and adds up in it: float32 rounds at 1e-6.
    assert_same(ours, by_scikit_learn(probabilities, labels, weights, threshold), tolerance=2e-5)


@given(rows())
@settings(deadline=None)
def test_counts_and_ranks_are_scikit_learns_to_the_last_digits(data):
    probabilities, labels, weights = (None if part is None else part.astype(np.float64) for part in data)
    theirs = by_scikit_learn(probabilities, labels, weights, 0.5)
    assert roc_auc(probabilities, labels, weights) == pytest.approx(theirs["roc-auc"], rel=1e-11, nan_ok=True)
    assert average_precision(probabilities, labels, weights) == pytest.approx(
        theirs["average-precision"], rel=1e-11, nan_ok=True
    )
    for name, value in binary_metrics_at(0.5, probabilities, labels, weights).items():
        assert value == pytest.approx(theirs[name], rel=1e-9, abs=1e-9), name


@given(rows(), st.lists(st.integers(0, 40)), st.randoms())
@settings(deadline=None)
def test_neither_batches_nor_order_change_a_binary_value(data, cuts, random):
    probabilities, labels, weights = data
    whole = collected(BinaryClassification(), probabilities, labels, weights)
    order = list(range(len(labels)))
    random.shuffle(order)
    shuffled = [None if part is None else part[order] for part in (probabilities, labels, weights)]
    assert_same(collected(BinaryClassification(), *shuffled, cuts=cuts), whole)


@given(rows(min_size=2), st.integers(1, 39))
@settings(deadline=None)
def test_the_parts_of_several_processes_add_up_to_the_whole(data, cut):
    probabilities, labels, weights = data
    cut = min(cut, len(labels) - 1)
    first, second = BinaryClassification(), BinaryClassification()
    for metric, part in ((first, slice(None, cut)), (second, slice(cut, None))):
        metric.update(probabilities[part], labels[part], None if weights is None else weights[part])
    first.add_state(second.state())
    assert_same(first.compute(), collected(BinaryClassification(), probabilities, labels, weights))


def test_a_probability_at_the_threshold_is_class_0():
    assert binary_metrics_at(0.5, np.array([0.5, np.nextafter(0.5, 1)]), np.array([0, 1]))["accuracy"] == 1.0


def test_the_threshold_may_change_before_compute():
    metric = BinaryClassification(0.5)
    metric.update(np.array([0.4, 0.6]), np.array([1, 1]), None)
    assert metric.compute()["recall"] == 0.5
    metric.threshold = 0.3
    assert metric.compute()["recall"] == 1.0


def test_the_confusion_matrix_has_actual_rows_and_predicted_columns():
    metric = BinaryClassification()
    metric.update(np.array([0.1, 0.9, 0.9, 0.9, 0.1, 0.1]), np.array([0, 0, 1, 1, 1, 0]), None)
    assert metric.confusion.tolist() == [[2, 1], [1, 2]]


def test_an_evaluation_without_rows_or_with_nan_is_nan_and_silent():
    values = BinaryClassification().compute()
    assert all(np.isnan(value) for name, value in values.items() if name in BinaryClassification.directions)
    metric = BinaryClassification()
    metric.update(np.array([np.nan, 0.5]), np.array([0, 1]), None)
    assert all(np.isnan(metric.compute()[n]) for n in ("roc-auc", "average-precision", "log-loss", "brier-score"))


def test_two_output_neurons_are_named_as_the_cause():
    with pytest.raises(UsageError, match=r"4 predictions for 2 rows.*one neuron"):
        BinaryClassification().update(np.zeros((2, 2)), np.zeros(2), None)


def test_labels_other_than_0_and_1_are_an_error():
    with pytest.raises(UsageError, match="a label is -1"):
        BinaryClassification().update(np.zeros(2), np.array([-1, 1]), None)


@given(
    st.integers(2, 5).flatmap(
        lambda classes: st.lists(
            st.tuples(
                st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.9]), min_size=classes, max_size=classes),
                st.integers(0, classes - 1),
            ),
            min_size=1,
            max_size=20,
        )
    ),
    st.lists(st.integers(0, 20)),
)
@settings(deadline=None)
def test_multiclass_values_are_scikit_learns_whatever_the_batches(drawn, cuts):
    scores, labels = np.array([s for s, _ in drawn]), np.array([label for _, label in drawn])
    ours = collected(MulticlassClassification(top_k=(1, 2)), scores, labels, cuts=cuts)
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(labels, scores.argmax(axis=1)))
    best_two = np.argsort(-scores, axis=1, kind="stable")[:, :2]
    assert ours["top-2-accuracy"] == pytest.approx((best_two == labels[:, None]).any(axis=1).mean())


def test_multiclass_parts_add_up_and_wrong_shapes_are_errors():
    scores, labels = np.eye(3)[[0, 1, 2, 2]], np.array([0, 1, 2, 1])
    first, second = MulticlassClassification(), MulticlassClassification()
    first.update(scores[:1], labels[:1], None)
    second.update(scores[1:], labels[1:], None)
    first.add_state(second.state())
    assert first.compute() == {"accuracy": 0.75}
    with pytest.raises(UsageError, match="a label is 3, and there are 3 classes"):
        first.update(scores, labels + 2, None)
    with pytest.raises(UsageError, match=r"have to be .rows, classes."):
        first.update(labels, labels, None)
    with pytest.raises(UsageError, match="Use numbers from 1"):
        MulticlassClassification(top_k=(0,))


numbers = st.floats(-1e3, 1e3)


@given(
    st.lists(st.tuples(numbers, numbers, st.floats(0.125, 8)), min_size=2, max_size=30), st.lists(st.integers(0, 30))
)
@settings(deadline=None)
def test_regression_values_are_scikit_learns_whatever_the_batches(drawn, cuts):
    predicted, actual, weights = (np.array(column) for column in zip(*drawn, strict=True))
    ours = collected(Regression(), predicted, actual, weights, cuts=cuts)
    common = {"sample_weight": weights}
    assert ours["mean-absolute-error"] == pytest.approx(sk.mean_absolute_error(actual, predicted, **common))
    squared = sk.mean_squared_error(actual, predicted, **common)
    assert ours["root-mean-squared-error"] == pytest.approx(np.sqrt(squared))
    if np.ptp(actual) > 1e-3:
        assert ours["r2"] == pytest.approx(sk.r2_score(actual, predicted, **common), rel=1e-6, abs=1e-6)


def test_regression_parts_add_up():
    first, second, whole = Regression(), Regression(), Regression()
    predicted, actual = np.arange(6.0), np.array([1e6, 1e6 + 1, 1e6 + 2, 1e6, 1e6 + 5, 1e6])
    first.update(predicted[:2], actual[:2], None)
    second.update(predicted[2:], actual[2:], None)
    whole.update(predicted, actual, None)
    first.add_state(second.state())
    assert_same(first.compute(), whole.compute())


def test_mxnets_metrics_are_taken_as_they_are():
    from trainer._mxnet import mx

    metric = as_metric(mx.metric.Accuracy())
    assert isinstance(metric, EvalMetricAdapter)
    metric.update(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]), None)
    assert metric.compute() == {"accuracy": 0.5}
    assert direction_of("validation/accuracy", [metric]) == "max"
    metric.reset()
    assert np.isnan(metric.compute()["accuracy"])
    with pytest.raises(TrainerError, match="cannot be added up"):
        metric.state()


def test_what_is_no_metric_is_an_error():
    with pytest.raises(UsageError, match="a int is no metric"):
        as_metric(3)


def test_directions_are_known_by_the_logged_name():
    metrics = [BinaryClassification()]
    assert direction_of("validation/loss", []) == "min"
    assert direction_of("test/brier-score", metrics) == "min"
    assert direction_of("validation/f1", metrics) == "max"
    assert direction_of("validation/true-positives", metrics) is None
