"""logreg with three or more classes: training, metrics, predictions, and all that uses the model."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import datasets
from sklearn import metrics as sk
from tiny import weights

from trainer import UsageError, fit, load_model, resume
from trainer.data import Classes, Number, Rows, Schema
from trainer_plugins.early_stopping import EarlyStopping
from trainer_plugins.logreg import LogisticRegression
from trainer_plugins.tensorboard import TensorBoard
from trainer_plugins.threshold_tuner import ThresholdTuner

QUIET = ["progress", "metrics-log", "checkpoint", "tensorboard", "report"]
IRIS = ["setosa", "versicolor", "virginica"]


def written(folder, name):
    """One of scikit-learn's data sets as a CSV file, with its classes by name."""
    bunch = getattr(datasets, f"load_{name}")()
    names = [str(each).partition(" (")[0] for each in bunch.feature_names]
    columns = {each: bunch.data[:, number] for number, each in enumerate(names)}
    pyarrow.csv.write_csv(
        pa.table({**columns, "y": np.array(bunch.target_names)[bunch.target]}), folder / f"{name}.csv"
    )
    return folder / f"{name}.csv"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on the iris table, with all plugins that the task suggests."""
    folder = tmp_path_factory.mktemp("iris")
    return fit("logreg", data=written(folder, "iris"), label="y", hidden="", epochs=12, runs_dir=folder, name="iris",
               plugins=[TensorBoard(figures=12)], without=["progress", "tensorboard"])  # fmt: skip


@pytest.fixture(scope="module")
def model(run):
    return load_model(run.folder)


# ---- the net and its loss --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["wine", "digits"])
def test_it_learns_what_scikit_learn_learns(name, tmp_path):
    from sklearn.linear_model import LogisticRegression as Peer

    from trainer.data import TableOptions, load_splits

    path = written(tmp_path, name)
    run = fit("logreg", data=path, label="y", hidden="", epochs=10, runs_dir=None, without=["progress"])
    splits = load_splits(TableOptions(path, "y"), seed=12345)
    peer = Peer(max_iter=200).fit(splits.train.features, splits.train.labels)
    assert run.metrics["test/accuracy"] >= peer.score(splits.test.features, splits.test.labels) - 0.04
    assert run.metrics["test/roc-auc"] > 0.98


def test_without_hidden_layers_it_is_one_weight_for_each_class_and_feature(run):
    assert [each.shape for each in weights(run)] == [(3, 4), (3,)]
    assert type(run.task.loss()).__name__ == "SoftmaxCrossEntropyLoss"
    assert run.task.headline[-1] == "validation/macro-f1"
    assert run.threshold is None


def test_hidden_layers_lead_to_one_output_for_each_class(tmp_path):
    options = {"data": written(tmp_path, "iris"), "label": "y", "epochs": 1, "runs_dir": None, "without": QUIET}
    run = fit("logreg", hidden="5", dropout=0.5, **options)
    assert [each.shape for each in weights(run)] == [(5, 4), (5,), (3, 5), (3,)]
    one = fit("logreg", hidden="", positive_class="versicolor", **options)
    assert [each.shape for each in weights(one)] == [(1, 4), (1,)]
    assert one.task.class_names() == ("not versicolor", "versicolor")
    assert one.evaluation.labels.mean() == pytest.approx(1 / 3)


def test_a_weight_column_counts_rows_as_if_they_were_repeated(tmp_path):
    generator = np.random.default_rng(2)
    features, counts = generator.normal(size=(60, 2)).astype(np.float32), generator.integers(1, 4, size=60)
    columns = {"a": features[:, 0], "b": features[:, 1], "y": np.arange(60) % 3}
    for name, made in (
        ("weighted", {**columns, "w": counts}),
        ("repeated", {key: np.repeat(values, counts) for key, values in columns.items()}),
    ):
        pyarrow.csv.write_csv(pa.table(made), tmp_path / f"{name}.csv")
    common = {"label": "y", "hidden": "", "validation_split": 0, "test_split": 0, "epochs": 20, "batch_size": 1000,
              "standardize": False, "runs_dir": None, "without": QUIET}  # fmt: skip
    one = fit("logreg", data=tmp_path / "weighted.csv", sample_weight="w", **common)
    other = fit("logreg", data=tmp_path / "repeated.csv", **common)
    for ours, theirs in zip(weights(one), weights(other), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert one.metrics["train/loss"] == pytest.approx(other.metrics["train/loss"], abs=1e-5)


@given(st.lists(st.integers(0, 3), max_size=20), st.lists(st.floats(0.1, 9), min_size=24, max_size=24) | st.none())
@settings(max_examples=30)
def test_balanced_classes_have_the_same_sum_of_weights(labels, given_weights):
    labels = [0, 1, 2, 3, *labels]
    own = None if given_weights is None else np.array(given_weights[: len(labels)], np.float32)
    task = LogisticRegression(class_weight="balanced")
    task.adopt(Schema((Number("a"),), "y", Classes(("0", "1", "2", "3"), "number")))
    (arrays,) = task._weighted(Rows(np.ones((len(labels), 1), np.float32), np.array(labels, np.float32), own, {}))
    sums = np.bincount(labels, weights=arrays.weights.ravel())
    np.testing.assert_allclose(sums, sums[0], rtol=1e-4)
    assert arrays.weights.mean() == pytest.approx(1, rel=1e-5)


# ---- metrics and the model -------------------------------------------------------------------------------------------


def test_the_metrics_are_scikit_learns(run):
    found, labels = run.evaluation.predictions.astype(np.float64), run.evaluation.labels
    predicted = found.argmax(axis=1)
    expected = {
        "accuracy": sk.accuracy_score(labels, predicted),
        "top-2-accuracy": sk.top_k_accuracy_score(labels, found, k=2),
        "macro-f1": sk.f1_score(labels, predicted, average="macro"),
        "log-loss": sk.log_loss(labels, run.evaluation.predictions),
        "roc-auc": sk.roc_auc_score(labels, found / found.sum(axis=1, keepdims=True), multi_class="ovr"),
        **dict(zip([f"precision/{name}" for name in IRIS], sk.precision_score(labels, predicted, average=None),
                   strict=True)),
        **dict(zip([f"recall/{name}" for name in IRIS], sk.recall_score(labels, predicted, average=None),
                   strict=True)),
    }  # fmt: skip
    ours = {name.removeprefix("test/"): value for name, value in run.metrics.items() if name.startswith("test/")}
    assert ours.pop("loss") == pytest.approx(ours["log-loss"], rel=1e-5)
    assert ours == pytest.approx(expected, rel=1e-5)
    assert run.direction("validation/recall/setosa") == "max"
    assert run.direction("validation/log-loss") == "min"


def test_predictions_have_the_probability_of_each_class_and_the_likeliest(model, run):
    table = pyarrow.csv.read_csv(run.task.data[0])
    found = model.predict(table)
    assert found.column_names == [*(f"probability/{name}" for name in IRIS), "class"]
    probabilities = np.stack([found[name].to_numpy() for name in found.column_names[:3]], axis=1)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert found["class"].to_pylist() == [IRIS[number] for number in probabilities.argmax(axis=1)]
    one = model.predict(table.slice(7, 1))
    np.testing.assert_allclose([one[name][0].as_py() for name in found.column_names[:3]], probabilities[7], atol=1e-6)
    with pytest.raises(UsageError, match="the model has no decision threshold"):
        model.predict(table, threshold=0.5)
    assert model.about.card["classes"] == IRIS
    assert "each of 3 classes of y" in model.about.card["predicts"]


def test_a_file_is_predicted_and_evaluated_like_the_rows_of_the_run(model, run, tmp_path):
    from trainer.model.evaluate import evaluate_file
    from trainer.model.predict import predict_file

    predict_file(model, str(run.task.data[0]), str(tmp_path / "p.csv"), keep=None)
    found = pyarrow.csv.read_csv(tmp_path / "p.csv")
    assert found.column_names[4:] == ["y", *(f"probability/{name}" for name in IRIS), "class"]
    right = np.mean(np.array(found["y"]) == np.array(found["class"]))
    evaluated = evaluate_file(model, str(run.task.data[0]), bootstrap=5)
    assert evaluated.metrics["given"]["accuracy"] == pytest.approx(right)
    assert evaluated.metrics["given"]["loss"] == pytest.approx(evaluated.metrics["given"]["log-loss"], rel=1e-5)
    assert evaluated.intervals["given"].keys() == evaluated.metrics["given"].keys()
    with pytest.raises(UsageError, match="column 'class' cannot be kept"):
        predict_file(model, str(tmp_path / "p.csv"), str(tmp_path / "q.csv"), keep=["class"])


def test_rows_without_a_label_are_left_out_of_an_evaluation_as_in_training(tmp_path):
    from trainer.model.evaluate import evaluate_file

    path = tmp_path / "t.csv"
    path.write_text("a,y\n" + "1,x\n2,y\n3,z\n4,\n" * 10)
    common = {"data": path, "label": "y", "epochs": 1, "test_split": 0, "runs_dir": tmp_path, "without": QUIET}
    run = fit("logreg", drop_unlabelled=True, name="one", **common)
    assert run.train.rows + run.validation.rows == 30
    found = evaluate_file(load_model(run.folder), str(path))
    assert found.rows == 30
    assert found.report.notes() == ["10 of 40 rows have no label and are left out"]


def test_onnx_computes_the_same_probabilities(model, tmp_path):
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    from trainer.model.export import to_onnx

    exported = to_onnx(model, tmp_path / "m.onnx", raw_inputs=True)
    assert exported.outputs == ["output", "prediction"]
    session = runtime.InferenceSession((tmp_path / "m.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    rows = np.array([[5.1, 3.5, 1.4, 0.2], [6.0, np.nan, 5.0, 1.9]])
    found = session.run(["prediction"], {session.get_inputs()[0].name: rows})[0]
    expected = model.predict(rows)
    for number, name in enumerate(IRIS):
        np.testing.assert_allclose(found[:, number], expected[f"probability/{name}"].to_numpy(), atol=1e-5)
    told = {each.key: each.value for each in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert json.loads(told["classes"]) == IRIS
    assert "threshold" not in told


# ---- plugins ---------------------------------------------------------------------------------------------------------


def test_the_threshold_tuner_says_once_that_it_has_nothing_to_do(tmp_path, caplog):
    common = {"data": written(tmp_path, "iris"), "label": "y", "epochs": 2, "runs_dir": tmp_path}
    run = fit("logreg", name="one", without=["progress", "tensorboard", "report"], **common)
    said = [each.getMessage() for each in caplog.records if "threshold-tuner" in each.getMessage()]
    assert said == ["threshold-tuner has nothing to do: the task 'logreg' has no decision threshold for 3 classes"]
    assert not any("tuned" in name or "threshold" in name for name in run.metrics)
    # A run's own file lists the plugin, which nobody has asked for.
    again = fit("logreg", config=run.folder / "config.toml", runs_dir=None)
    assert again.history == run.history
    assert resume(run.folder, epochs=3).epoch == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plugins": ["threshold-tuner"]}, "the task 'logreg' has no decision threshold for 3 classes.*--no-plugin"),
        (
            {"plugins": [ThresholdTuner(objective="mcc")], "without": ["threshold-tuner"]},
            "no decision threshold for 3 cl",
        ),
        (
            {"plugins": [EarlyStopping(monitor="validation/tuned-f1")]},
            "plugin 'early-stopping': it watches 'validation/tuned-f1', which threshold-tuner does not log: .* 3 cl",
        ),
        ({"threshold": 0.5}, "--threshold: y has 3 classes.*--positive-class"),
        ({"plugins": ["label-smoothing"]}, "label-smoothing.*not probabilities.*or leave the plugin out"),
        ({"plugins": ["mixup"]}, "mixup.*not probabilities"),
        ({"positive_class": "x"}, "'x' is not a class of column 'y'. Its classes are 'setosa'"),
    ],
)
def test_what_needs_two_classes_is_refused_with_the_fix(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        fit("logreg", data=written(tmp_path, "iris"), label="y", epochs=1, runs_dir=None, **options)


def test_numbers_that_are_no_classes_name_both_ways_out(tmp_path):
    (tmp_path / "t.csv").write_text("a,price\n" + "".join(f"{row},{row / 4}\n" for row in range(60)))
    message = r"holds numbers, 60 different ones.*trainer run linreg.*--categorical price"
    with pytest.raises(UsageError, match=message):
        fit("logreg", data=tmp_path / "t.csv", label="price", runs_dir=None)


def test_a_resumed_run_equals_one_without_a_break(run, tmp_path):
    common = {"data": run.task.data, "label": "y", "hidden": "", "runs_dir": tmp_path}
    fit("logreg", epochs=5, name="broken", without=["progress", "tensorboard", "report"], **common)
    resumed = resume(tmp_path / "logreg" / "broken", epochs=12)
    assert resumed.history == run.history
    for ours, theirs in zip(weights(resumed), weights(run), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_report_draws_each_class_against_the_rest(run):
    from trainer_plugins.report.document import read
    from trainer_plugins.report.page import page

    document = read(run.folder)
    test = document.data["splits"]["test"]
    assert test["class_curves"]["classes"] == [0, 1, 2]
    assert np.mean(test["class_curves"]["roc_auc"]) == pytest.approx(run.metrics["test/roc-auc"])
    assert np.sum(test["classes"]) == test["rows"] == np.sum(list(test["class_curves"]["scores"].values()))
    found = document.data["weights"]
    assert found["classes"] == IRIS
    np.testing.assert_allclose(found["values"], weights(run)[0])
    text = page(document)
    for split in ("validation", "test"):
        for chart in ("roc", "precision-recall", "calibration", "scores"):
            assert f'<figure id="{split}-{chart}">' in text
    assert "predicted versicolor" in text
    assert '<th scope="row">petal length</th>' in text
    assert "recall by class" in text
    assert '<th scope="row">recall/setosa</th>' in text


def test_many_classes_keep_the_curves_of_the_worst():
    from trainer_plugins.report.class_curves import MOST_CURVES, class_curves

    generator = np.random.default_rng(0)
    labels = np.arange(600) % 12
    scores = generator.random((600, 12)) + 2.0 * np.eye(12)[labels] * (labels[:, None] % 4 > 0)
    curves = class_curves(scores / scores.sum(axis=1, keepdims=True), labels, None)
    assert (len(curves.classes), curves.ranked) == (MOST_CURVES, 12)
    assert {0, 4, 8} <= set(curves.classes)
    assert max(len(curve["recall"]) for curve in curves.roc) <= 250
    assert class_curves(scores * 9, labels, None) is None
    assert class_curves(scores / scores.sum(axis=1, keepdims=True), labels * 0, None) is None


@given(st.integers(2, 5), st.integers(1, 6), st.integers(0, 9))
def test_centred_weights_give_the_same_probabilities(classes, features, seed):
    from trainer_plugins.report.weights import centred

    generator = np.random.default_rng(seed)
    values, biases = generator.normal(size=(classes, features)), generator.normal(size=classes)
    # One column of categories: each row has one of them.
    rows = np.eye(features)

    def probabilities(weight, bias):
        logits = np.exp(rows @ np.array(weight).T + np.array(bias))
        return logits / logits.sum(axis=1, keepdims=True)

    found = centred(values.tolist(), biases.tolist(), ["one"] * features)
    np.testing.assert_allclose(probabilities(*found), probabilities(values, biases))
    np.testing.assert_allclose(np.sum(found[0], axis=0), 0, atol=1e-12)


def test_tensorboard_has_the_charts_and_a_precision_recall_curve_of_each_class(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen = EventAccumulator(str(run.folder / "tensorboard"))
    seen.Reload()
    charts = {f"validation/{name}/image" for name in ("roc", "precision-recall", "calibration", "scores", "confusion")}
    assert set(seen.Tags()["images"]) == charts
    curves = {tag for tag in seen.Tags()["tensors"] if tag.endswith("/pr-curve")}
    assert curves == {f"validation/{name}/pr-curve" for name in IRIS}
    assert [event.value for event in seen.Scalars("validation/recall/setosa")][-1] == pytest.approx(
        run.metrics["validation/recall/setosa"]
    )


def test_a_search_knows_which_values_of_a_metric_of_classes_are_better(tmp_path):
    from trainer.launch import Request
    from trainer_plugins.tune.options import StudyOptions

    def direction(monitor):
        request = Request("logreg", {"data": tmp_path / "iris.csv", "label": "y"}, runs_dir=tmp_path)
        asked = StudyOptions(request, [], None, monitor, "auto", "random", "none", "study", None, None)
        return asked.resolved_direction(asked.checked()[0])

    assert direction("validation/macro-f1") == direction("validation/recall/a/b") == "max"
    assert direction("validation/log-loss") == "min"
