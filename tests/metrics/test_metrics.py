"""Metrics: scikit-learn's definitions, and values that do not depend on how the rows were cut or ordered."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from trainer import TrainerError, UsageError
from trainer.evaluation import MeanLoss, Rows
from trainer.metrics import (
    BinaryClassification,
    EvalMetricAdapter,
    MedianAbsoluteError,
    MulticlassClassification,
    OfColumn,
    PoissonDeviance,
    Quantiles,
    Regression,
    as_metric,
    average_precision,
    binary_metrics_at,
    direction_of,
    metrics_for,
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
    predicted = probabilities.astype(np.float64) > threshold
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
            "brier-score": sk.brier_score_loss(labels, probabilities, pos_label=1, **common),
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
def test_binary_values_are_scikit_learns_to_the_last_digits(data):
    probabilities, labels, weights = (None if part is None else part.astype(np.float64) for part in data)
    theirs = by_scikit_learn(probabilities, labels, weights, 0.5)
    assert roc_auc(probabilities, labels, weights) == pytest.approx(theirs["roc-auc"], rel=1e-11, nan_ok=True)
    assert average_precision(probabilities, labels, weights) == pytest.approx(
        theirs["average-precision"], rel=1e-11, nan_ok=True
    )
    values = collected(BinaryClassification(), probabilities, labels, weights)
    for name in ("log-loss", "brier-score"):
        # scikit-learn takes the logarithm of 1 - p, ours is exact for small p: 1e-16 a row, from either.
        assert values[name] == pytest.approx(theirs[name], rel=1e-11, abs=1e-15), name
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


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_log_loss_is_clipped_for_the_type_of_the_probabilities_also_after_merging(dtype):
    probabilities, labels = np.array([0, 1, 0.5], dtype), np.array([1, 0, 1])
    expected = sk.log_loss(labels, probabilities, labels=[0, 1])
    with_rows, without_rows = BinaryClassification(), BinaryClassification()
    with_rows.update(probabilities, labels, None)
    without_rows.add_state(with_rows.state())
    assert with_rows.compute()["log-loss"] == pytest.approx(expected, rel=1e-3 if dtype is np.float16 else 1e-6)
    assert without_rows.compute() == pytest.approx(with_rows.compute(), nan_ok=True)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_leaves_the_ranks_undefined_and_the_rest_scikit_learns(label):
    probabilities, labels = np.array([0.2, 0.7, 0.7]), np.full(3, label)
    values = collected(BinaryClassification(), probabilities, labels)
    assert_same(values, by_scikit_learn(probabilities, labels, None, 0.5))
    assert np.isnan(values["roc-auc"])
    assert np.isnan(values["average-precision"]) == (label == 0)


def test_order_and_cuts_change_nothing_for_many_weighted_rows():
    generator = np.random.default_rng(3)
    probabilities = generator.random(50_000).round(3)
    labels, weights = (generator.random(50_000) < probabilities).astype(float), generator.random(50_000)
    whole = collected(BinaryClassification(), probabilities, labels, weights)
    order = generator.permutation(50_000)
    shuffled = (part[order] for part in (probabilities, labels, weights))
    assert_same(collected(BinaryClassification(), *shuffled, cuts=range(0, 50_000, 1000)), whole)


def test_a_probability_at_the_threshold_is_class_0():
    assert binary_metrics_at(0.5, np.array([0.5, np.nextafter(0.5, 1)]), np.array([0, 1]))["accuracy"] == 1.0


def test_the_function_and_the_class_compare_in_the_same_type():
    probabilities, labels = np.array([[0.3], [0.2]], np.float32), np.array([[1], [0]])
    metric = BinaryClassification(0.3)
    metric.update(probabilities, labels, None)
    at = binary_metrics_at(0.3, probabilities, labels)
    assert at["recall"] == 1.0  # 0.3 in float32 is above 0.3 in float64
    assert at.items() <= metric.compute().items()


def test_infinite_scores_can_be_ranked():
    assert roc_auc(np.array([np.inf, np.inf, -np.inf, -np.inf]), np.array([1, 0, 1, 0])) == 0.5


def test_the_callers_arrays_may_be_written_to_again():
    metric = BinaryClassification()
    probabilities, labels, weights = np.array([0.9, 0.1]), np.array([1.0, 0.0]), np.ones(2)
    metric.update(probabilities, labels, weights)
    for part in (probabilities, labels, weights):
        part[:] = 0
    assert metric.compute()["accuracy"] == 1.0


def test_rows_may_follow_a_compute_and_reset_forgets_them_all():
    metric = BinaryClassification()
    metric.update(np.array([0.9]), np.array([1]), None)
    assert metric.compute()["accuracy"] == 1.0
    metric.update(np.array([0.9]), np.array([0]), np.array([3.0]))
    assert metric.compute()["accuracy"] == 0.25
    metric.reset()
    assert np.isnan(metric.compute()["accuracy"])


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
    with pytest.raises(UsageError, match=r"4 predictions for 2 rows.*one output neuron"):
        BinaryClassification().update(np.zeros((2, 2)), np.zeros(2), None)


def test_weights_that_are_not_one_a_row_are_an_error():
    with pytest.raises(UsageError, match="2 weights for 3 rows"):
        BinaryClassification().update(np.zeros(3), np.zeros(3), np.ones(2))
    with pytest.raises(UsageError, match="2 weights for 3 rows"):
        MulticlassClassification().update(np.eye(3), np.zeros(3), np.ones(2))
    with pytest.raises(UsageError, match="weights"):
        Regression().update(np.zeros(3), np.zeros(3), np.ones(2))


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


@given(
    st.lists(st.tuples(st.permutations(range(4)), st.integers(0, 3), st.floats(0.125, 8)), min_size=1, max_size=20),
    st.lists(st.integers(0, 20)),
    st.integers(0, 20),
)
@settings(deadline=None)
def test_weighted_multiclass_values_are_scikit_learns_and_parts_of_processes_add_up(drawn, cuts, cut):
    scores, labels, weights = (np.array(column) for column in zip(*drawn, strict=True))
    metric = MulticlassClassification(top_k=(1, 3))
    ours = collected(metric, scores, labels, weights, cuts=cuts)
    common = {"sample_weight": weights, "labels": range(4)}
    expected = {
        "accuracy": sk.accuracy_score(labels, scores.argmax(axis=1), sample_weight=weights),
        "top-3-accuracy": sk.top_k_accuracy_score(labels, scores, k=3, **common),
    }
    assert_same(ours, expected)
    confusion = sk.confusion_matrix(labels, scores.argmax(axis=1), **common)
    assert metric.confusion == pytest.approx(confusion)
    first, second = MulticlassClassification(top_k=(1, 3)), MulticlassClassification(top_k=(1, 3))
    for part, rows_of in ((first, slice(None, cut)), (second, slice(cut, None))):
        part.update(scores[rows_of], labels[rows_of], weights[rows_of])  # either may have no row at all
    first.add_state(second.state())
    assert_same(first.compute(), ours)
    assert first.confusion == pytest.approx(confusion)


def test_a_row_with_nan_scores_is_wrong_and_predicts_no_class():
    metric = MulticlassClassification(top_k=(1, 2, 5))
    metric.update(np.array([[np.nan, np.nan], [0.1, 0.9], [0.9, np.nan]]), np.array([0, 1, 0]), None)
    assert metric.compute() == pytest.approx({"accuracy": 1 / 3, "top-2-accuracy": 1 / 3, "top-5-accuracy": 1 / 3})
    assert metric.confusion.tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize("label", [1.5, np.nan, -1])
def test_a_label_that_is_not_a_class_number_is_an_error(label):
    with pytest.raises(UsageError, match="class numbers from 0"):
        MulticlassClassification().update(np.eye(3), np.array([0, label, 2]), None)


def test_the_number_of_classes_may_not_change():
    first, second = MulticlassClassification(), MulticlassClassification()
    first.update(np.eye(3), np.arange(3), None)
    second.update(np.eye(2), np.arange(2), None)
    with pytest.raises(UsageError, match="2 classes after 3"):
        first.add_state(second.state())
    with pytest.raises(UsageError, match="2 classes after 3"):
        first.update(np.eye(2), np.arange(2), None)


def test_multiclass_parts_add_up_and_wrong_shapes_are_errors():
    scores, labels = np.eye(3)[[0, 1, 2, 2]], np.array([0, 1, 2, 1])
    first, second = MulticlassClassification(), MulticlassClassification()
    first.update(scores[:1], labels[:1], None)
    second.update(scores[1:], labels[1:], None)
    first.add_state(second.state())
    assert first.compute() == {"accuracy": 0.75}
    with pytest.raises(UsageError, match="a label is 3, but there are only 3 classes"):
        first.update(scores, labels + 2, None)
    with pytest.raises(UsageError, match=r"have to be .rows, classes."):
        first.update(labels, labels, None)
    with pytest.raises(UsageError, match="Use numbers ≥ 1"):
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
    empty = Regression()
    empty.add_state(first.state())
    first.add_state(Regression().state())
    assert_same(empty.compute(), first.compute())


@pytest.mark.parametrize("cuts", [(), (3,), (1, 2, 5)])
def test_equal_labels_leave_r2_undefined_however_they_are_cut(cuts):
    labels = np.full(7, 0.1)
    assert np.isnan(collected(Regression(), labels + 0.1, labels, cuts=cuts)["r2"])


def test_regression_takes_batches_without_rows_columns_of_one_and_several_outputs():
    metric = Regression()
    metric.update(np.zeros((0, 1)), np.zeros(0), None)
    assert all(np.isnan(value) for value in metric.compute().values())
    metric.update(np.array([[1.0], [2.0]]), np.array([1.0, 4.0]), np.array([1.0, 3.0]))
    assert metric.compute()["mean-absolute-error"] == 1.5
    several = collected(Regression(), np.zeros((2, 2)), np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 0.0]))
    assert several["mean-absolute-error"] == 1.5
    with pytest.raises(UsageError, match=r"predictions have shape \(5,\), labels \(4,\)"):
        metric.update(np.zeros(5), np.zeros(4), None)


@pytest.mark.parametrize("prediction", [np.nan, np.inf, 1e300])
def test_a_diverged_regression_is_silent_and_a_weight_of_0_leaves_its_row_out(prediction):
    predicted, actual = np.array([prediction, 1.0]), np.array([0.0, 2.0])
    assert not np.isfinite(collected(Regression(), predicted, actual)["root-mean-squared-error"])
    assert collected(Regression(), predicted, actual, np.array([0.0, 1.0]))["mean-absolute-error"] == 1.0


def test_mxnets_metrics_are_taken_as_they_are():
    from trainer.mxnet import mx

    metric = as_metric(mx.metric.Accuracy())
    assert isinstance(metric, EvalMetricAdapter)
    metric.update(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]), None)
    assert metric.compute() == {"accuracy": 0.5}
    assert direction_of("validation/accuracy", [metric]) == "max"
    metric.reset()
    assert np.isnan(metric.compute()["accuracy"])
    with pytest.raises(TrainerError, match="cannot be merged across processes"):
        metric.state()


def test_something_that_is_not_a_metric_is_an_error():
    with pytest.raises(UsageError, match="a int is not a metric"):
        as_metric(3)
    with pytest.raises(UsageError, match=r"Regression is a class.*Use Regression\(\)"):
        as_metric(Regression)
    metric = Regression()
    assert as_metric(metric) is metric


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("TopKAccuracy", {"top_k": 5}, {"top-k-accuracy-5": "max"}),
        ("F1", {}, {"f1": "max"}),
        ("MCC", {}, {"mcc": "max"}),
        ("RMSE", {}, {"rmse": "min"}),
        ("CrossEntropy", {}, {"cross-entropy": "min"}),
        ("NegativeLogLikelihood", {}, {"nll-loss": "min"}),
        ("Perplexity", {"ignore_label": None}, {"perplexity": "min"}),
        ("Loss", {"name": "my_own"}, {}),
    ],
)
def test_mxnets_well_known_names_have_directions_before_the_first_row(name, options, expected):
    from trainer.mxnet import mx

    assert as_metric(getattr(mx.metric, name)(**options)).directions == expected


def test_every_direction_belongs_to_a_name_that_compute_gives():
    for metric in (BinaryClassification(), MulticlassClassification(top_k=(1, 5)), Regression()):
        assert metric.directions.keys() <= metric.compute().keys()


def test_directions_are_known_by_the_logged_name():
    metrics = [BinaryClassification()]
    assert direction_of("validation/loss", []) == "min"
    assert direction_of("test/brier-score", metrics) == "min"
    assert direction_of("validation/f1", metrics) == "max"
    assert direction_of("validation/true-positives", metrics) is None


NAMES = ("a", "b", "c", "d")


@st.composite
def classified(draw):
    """Scores with ties, (rows, 4), labels, and weights or None."""
    drawn = draw(
        st.lists(
            st.tuples(
                st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.9]), min_size=4, max_size=4),
                st.integers(0, 3),
                st.floats(0.125, 8),
            ),
            min_size=1,
            max_size=25,
        )
    )
    scores, labels, weights = (np.array(column) for column in zip(*drawn, strict=True))
    return scores, labels, weights if draw(st.booleans()) else None


def with_classes():
    return MulticlassClassification(macro_f1=True, classes=NAMES, log_loss=True, roc_auc=True)


@given(classified())
@settings(deadline=None)
def test_the_metrics_of_several_classes_are_scikit_learns(data):
    scores, labels, weights = data
    ours = collected(with_classes(), scores, labels, weights)
    common = {"labels": range(4), "sample_weight": weights}
    predicted = scores.argmax(axis=1)
    expected = {
        "accuracy": sk.accuracy_score(labels, predicted, sample_weight=weights),
        "macro-f1": sk.f1_score(labels, predicted, average="macro", zero_division=0, **common),
    }
    own = scores[np.arange(len(labels)), labels]
    clipped = own.clip(np.finfo(float).eps, 1 - np.finfo(float).eps)
    expected["log-loss"] = np.average(-np.log(clipped), weights=weights)
    areas = [sk.roc_auc_score(labels == number, scores[:, number], sample_weight=weights)
             for number in set(labels.tolist())] if len(set(labels.tolist())) > 1 else [np.nan]  # fmt: skip
    expected["roc-auc"] = np.mean(areas)
    precisions = sk.precision_score(labels, predicted, average=None, zero_division=0, **common)
    recalls = sk.recall_score(labels, predicted, average=None, zero_division=np.nan, **common)
    expected |= {f"precision/{name}": precision for name, precision in zip(NAMES, precisions, strict=True)}
    expected |= {f"recall/{name}": recall for name, recall in zip(NAMES, recalls, strict=True)}
    assert_same(ours, expected)


@given(classified(), st.lists(st.integers(0, 25)), st.integers(0, 25))
@settings(deadline=None)
def test_neither_pieces_nor_processes_nor_the_form_of_labels_change_macro_f1(data, cuts, cut):
    scores, labels, weights = data
    whole = collected(with_classes(), scores, labels, weights)
    assert_same(collected(with_classes(), scores, labels, weights, cuts=cuts), whole)
    assert_same(collected(with_classes(), scores, np.eye(4)[labels], weights, cuts=cuts), whole)
    first, second, merged = with_classes(), with_classes(), with_classes()
    for part, rows_of in ((first, slice(None, cut)), (second, slice(cut, None))):
        part.update(scores[rows_of], labels[rows_of], None if weights is None else weights[rows_of])
    for part in (first, second):
        merged.add_state(part.state())
    assert_same(merged.compute(), whole)


def test_a_row_with_nan_scores_counts_against_its_class_and_for_no_other():
    scores, labels = np.array([[0.9, 0.1, 0.0], [np.nan, 0.9, 0.1], [0.1, 0.9, 0.0]]), np.array([0, 0, 1])
    found = collected(MulticlassClassification(macro_f1=True, classes=("x", "y", "z")), scores, labels)
    # Class x: one of two rows right and nothing wrongly called x, so recall 1/2, precision 1, F1 2/3.
    assert_same(
        found,
        {
            "accuracy": 2 / 3,
            "macro-f1": (2 / 3 + 1 + 0) / 3,
            "precision/x": 1.0,
            "precision/y": 1.0,
            "precision/z": 0.0,
            "recall/x": 0.5,
            "recall/y": 1.0,
            "recall/z": float("nan"),
        },
    )


def test_the_classes_metrics_are_nan_before_a_row_and_after_a_reset():
    metric = with_classes()
    by_class = {f"{what}/{name}" for what in ("precision", "recall") for name in NAMES}
    names = {"accuracy", "macro-f1", "log-loss", "roc-auc", *by_class}
    for _ in range(2):
        found = metric.compute()
        assert found.keys() == names == metric.directions.keys()
        assert np.isnan(list(found.values())).all()
        metric.update(np.eye(4), np.arange(4), None)
        found = metric.compute()
        assert found.pop("log-loss") < 1e-9
        assert set(found.values()) == {1.0}
        metric.reset()


def test_another_number_of_names_than_classes_is_an_error():
    metric = MulticlassClassification(classes=("x", "y"))
    with pytest.raises(UsageError, match="2 names for 3 classes"):
        metric.update(np.eye(3), np.arange(3), None)
    counted = MulticlassClassification()
    counted.update(np.eye(3), np.arange(3), None)
    with pytest.raises(UsageError, match="2 names for 3 classes"):
        metric.add_state(counted.state())


def test_one_hot_labels_that_are_not_finite_are_an_error():
    with pytest.raises(UsageError, match="a label is NaN or infinite"):
        MulticlassClassification().update(np.eye(2), np.array([[1, 0], [np.nan, 1]]), None)


def test_a_row_of_weight_0_counts_nowhere_even_if_its_score_is_nan():
    scores, labels = np.array([0.2, 0.9, np.nan, np.inf]), np.array([0, 1, 1, 0])
    metric, expected = BinaryClassification(), BinaryClassification()
    metric.update(scores, labels, np.array([1.0, 2.0, 0.0, 0.0]))
    expected.update(scores[:2], labels[:2], np.array([1.0, 2.0]))
    assert metric.compute() == expected.compute()
    assert np.isfinite(metric.compute()["log-loss"])
    mean = MeanLoss()
    mean.add(Rows(scores, labels, np.array([1.0, 2.0, 0.0, 0.0]), scores))
    assert mean.value == pytest.approx(1.1 / 3)


@given(rows(), st.floats(-0.5, 1.5))
@settings(deadline=None, max_examples=100)
def test_ranked_rows_know_the_metrics_at_every_threshold(drawn, threshold):
    metric = BinaryClassification()
    metric.update(*drawn)
    for each in (threshold, 0.0, -1.0, *drawn[0][:3]):
        assert metric.ranked(*drawn).metrics_at(each) == binary_metrics_at(each, *drawn)


def test_the_metrics_rows_are_sorted_once_and_other_rows_again():
    metric = BinaryClassification()
    scores, labels = np.array([0.1, 0.7, 0.4], np.float32), np.array([0, 1, 1], np.float32)
    metric.update(scores, labels, None)
    assert metric.ranked(scores, labels, None) is metric.ranked(scores, labels, None)
    others = metric.ranked(scores, np.array([1, 0, 0]), None)
    assert (others.true.tolist(), others.false.tolist()) == ([0, 0, 1], [1, 2, 2])
    metric.update(scores[:1], labels[:1], None)
    assert metric.ranked(np.append(scores, scores[0]), np.append(labels, labels[0]), None).false.tolist() == [0, 0, 2]


@given(classified())
@settings(deadline=None)
def test_log_loss_and_roc_auc_of_probabilities_are_scikit_learns(data):
    scores, labels, weights = data
    scores = (scores + 0.05) / (scores + 0.05).sum(axis=1, keepdims=True)
    labels[:1] = 0
    # Every class has rows, as scikit-learn demands.
    scores, labels = np.concatenate([scores, scores[:1].repeat(4, 0)]), np.append(labels, range(4))
    weights = None if weights is None else np.append(weights, [1.0] * 4)
    found = collected(with_classes(), scores, labels, weights)
    assert found["log-loss"] == pytest.approx(sk.log_loss(labels, scores, sample_weight=weights))
    area = sk.roc_auc_score(labels, scores, multi_class="ovr", sample_weight=weights)
    assert found["roc-auc"] == pytest.approx(area)


def test_the_usual_metrics_depend_on_the_number_of_classes():
    def names(count, **options):
        return set(MulticlassClassification.of_classes([str(n) for n in range(count)], **options).directions)

    assert names(2) == {"accuracy", "macro-f1", "precision/0", "precision/1", "recall/0", "recall/1"}
    assert names(3) - names(2) == {"top-2-accuracy", "precision/2", "recall/2"}
    assert names(21) == {"accuracy", "macro-f1", "top-5-accuracy"}
    assert names(21, probabilities=True) - names(21) == {"log-loss", "roc-auc"}
    assert names(101, probabilities=True) - names(101) == {"log-loss"}


def test_a_metric_of_a_class_has_a_direction_whatever_the_class_is_called():
    metric = MulticlassClassification(classes=("loss", "a/b"))
    assert direction_of("validation/recall/loss", [metric]) == direction_of("test/precision/a/b", [metric]) == "max"
    assert direction_of("validation/loss", [metric]) == "min"
    assert direction_of("validation/recall/x", [metric]) is None


# ---- numbers: medians, quantiles, counts -----------------------------------------------------------------------------

NUMBER_METRICS = {
    "median-absolute-error": MedianAbsoluteError,
    "poisson-deviance": PoissonDeviance,
    "pinball-loss": lambda: Quantiles((0.1, 0.8)),
}


def numbers_of(name, rows, seed):
    generator = np.random.default_rng(seed)
    labels = generator.poisson(3, rows).astype(np.float32)
    shape = (rows, 2) if name == "pinball-loss" else (rows,)
    return generator.uniform(0.1, 9, shape).astype(np.float32), labels, generator.integers(0, 4, rows).astype(float)


@pytest.mark.parametrize("name", NUMBER_METRICS)
@given(st.integers(2, 30), st.integers(0, 99), st.integers(0, 30), st.booleans())
@settings(max_examples=25, deadline=None)
def test_metrics_of_numbers_are_scikit_learns_in_any_pieces(name, rows, seed, cut, weighted):
    predictions, labels, weights = numbers_of(name, rows, seed)
    weights[0] = 1
    pieces = [slice(None, cut), slice(cut, None)]
    one, other = NUMBER_METRICS[name](), NUMBER_METRICS[name]()
    for metric, piece in zip((one, other), pieces, strict=True):
        metric.update(predictions[piece], labels[piece], weights[piece] if weighted else None)
    one.add_state(other.state())
    repeated = np.repeat(np.arange(rows), weights.astype(int)) if weighted else np.arange(rows)
    p, y = predictions[repeated].astype(float), labels[repeated].astype(float)
    found = one.compute()
    if name == "pinball-loss":
        both = [sk.mean_pinball_loss(y, p[:, column], alpha=alpha) for column, alpha in enumerate((0.1, 0.8))]
        expected = {
            "pinball-loss": np.mean(both),
            **dict(zip(("pinball-loss/0.1", "pinball-loss/0.8"), both, strict=True)),
            **{f"coverage/{alpha}": (y <= p[:, column]).mean() for column, alpha in enumerate((0.1, 0.8))},
        }
    elif name == "poisson-deviance":
        expected = {name: sk.mean_poisson_deviance(y, p)}
    else:
        expected = {name: sk.median_absolute_error(y, p)}
    assert found == pytest.approx(expected, rel=1e-9)
    assert set(one.directions) == {each for each in expected if "coverage" not in each}


@pytest.mark.parametrize("name", NUMBER_METRICS)
def test_metrics_of_numbers_without_rows_are_undefined_and_other_shapes_refused(name):
    metric = NUMBER_METRICS[name]()
    assert all(np.isnan(value) for value in metric.compute().values())
    with pytest.raises(UsageError, match="regression metrics: predictions have shape"):
        metric.update(np.ones((3, 5)), np.ones(3), None)


def test_a_mean_of_zero_for_a_label_above_it_is_infinitely_wrong():
    metric = PoissonDeviance()
    metric.update(np.array([0.0, 1.0]), np.array([2.0, 0.0]), None)
    assert metric.compute()["poisson-deviance"] == float("inf")
    metric.update(np.array([-1.0]), np.array([1.0]), None)
    assert np.isnan(metric.compute()["poisson-deviance"])


def test_a_metric_of_one_column_of_the_predictions():
    metric = OfColumn(Regression(), 1)
    metric.update(np.array([[9.0, 1.0], [9.0, 3.0]]), np.array([1.0, 2.0]), None)
    assert metric.compute()["mean-absolute-error"] == 0.5
    assert metric.directions["r2"] == "max"


def test_metrics_of_numbers_have_names():
    found = metrics_for("l2", ["median-absolute-error", "poisson-deviance", "mae"])
    assert {name for metric in found for name in metric.compute()} == {
        "median-absolute-error", "poisson-deviance", "mean-absolute-error"
    }  # fmt: skip
