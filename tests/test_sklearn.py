"""The estimators are scikit-learn's: its own checks pass, and its tools take them."""

import copy
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from trainer import load_model, on
from trainer.mxnet import gluon
from trainer.sklearn import GluonClassifier, GluonRegressor
from trainer_plugins.early_stopping import EarlyStopping
from trainer_plugins.threshold_tuner import ThresholdTuner

BOTH = pytest.mark.parametrize("estimator", [GluonClassifier, GluonRegressor])
X, Y = load_iris(return_X_y=True)


def quick(estimator=GluonClassifier, **parameters):
    return estimator(**{"epochs": 3, "random_state": 0, **parameters})


def made(outputs):
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Dense(8, activation="tanh"), gluon.nn.Dense(outputs))
    return net


class Plain(gluon.Block):
    """A block without a symbol."""

    def __init__(self, outputs):
        super().__init__()
        self.dense = gluon.nn.Dense(outputs)

    def forward(self, data):
        return self.dense(data)


# ---- scikit-learn's own checks ---------------------------------------------------------------------------------------

FAILING = {
    "check_sample_weight_equivalence_on_dense_data": "rows are drawn in batches, and their columns are standardised "
    "without weights, so a row of weight 2 is not two rows"
}


@pytest.fixture
def memory(monkeypatch):
    """Temporary folders in memory if there is room: half of a short training is waiting for the disk."""
    if Path("/dev/shm").is_dir():
        monkeypatch.setattr(tempfile, "tempdir", "/dev/shm")


@pytest.mark.slow
@BOTH
def test_scikit_learns_checks_pass(estimator, memory):
    results = check_estimator(estimator(), expected_failed_checks=FAILING, on_skip=None, on_fail=None)
    assert len(results) > 50
    failed = {each["check_name"]: each["exception"] for each in results if each["status"] == "failed"}
    assert failed == {}
    assert {each["check_name"] for each in results if each["status"] == "xfail"} == set(FAILING)


# ---- what it learns --------------------------------------------------------------------------------------------------


def test_without_hidden_layers_it_is_logistic_regression():
    data, labels = load_breast_cancer(return_X_y=True)
    ours = GluonClassifier(hidden=(), epochs=100, learning_rate=0.02, random_state=0).fit(data, labels)
    theirs = make_pipeline(StandardScaler(), LogisticRegression()).fit(data, labels)
    assert (ours.predict(data) == theirs.predict(data)).mean() > 0.97


def test_without_hidden_layers_it_is_linear_regression_in_the_units_of_the_table():
    data, numbers = load_diabetes(return_X_y=True)
    numbers = 1e6 * numbers + 1e9
    ours = GluonRegressor(hidden=(), epochs=60, random_state=0).fit(data, numbers)
    theirs = LinearRegression().fit(data, numbers)
    assert ours.score(data, numbers) == pytest.approx(theirs.score(data, numbers), abs=0.02)


def test_quantiles_and_other_objectives_of_numbers():
    data, numbers = load_diabetes(return_X_y=True)
    several = quick(GluonRegressor, objective="quantile", quantiles=(0.9, 0.1), epochs=20).fit(data, numbers)
    low, high = several.predict(data).T
    assert several.quantiles_ == (0.1, 0.9)
    assert (numbers < low).mean() < 0.2 < 0.8 < (numbers < high).mean()
    assert 0.1 < several.score(data, numbers) < 0.5
    one = quick(GluonRegressor, objective="quantile", quantiles=(0.9,), net=made, epochs=20).fit(data, numbers)
    assert (numbers < one.predict(data)).mean() > 0.8
    counts = quick(GluonRegressor, objective="poisson", hidden=(), epochs=20).fit(data, numbers.round())
    assert counts.score(data, numbers) > 0.3
    robust = quick(GluonRegressor, objective="huber", options={"huber_delta": 20.0}, epochs=10).fit(data, numbers)
    assert robust.model_.task.huber_delta == 20
    with pytest.raises(ValueError, match="counts and rates are not negative"):
        quick(GluonRegressor, objective="poisson").fit(data, -numbers)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.where(Y == 0, "no", "yes"), ["no", "yes"]),
        (Y == 0, [False, True]),
        (np.where(Y == 0, 1.0, -1.0), [-1.0, 1.0]),
        (np.where(Y == 0, "yes", "zebra"), ["yes", "zebra"]),  # a table takes yes for the positive class
        (np.where(Y == 0, "1", "x"), ["1", "x"]),
        (np.where(Y == 0, "", "NA"), ["", "NA"]),  # which are missing values in a table
        (np.array(["b", "a", "B"])[Y], ["B", "a", "b"]),
        (Y + 0.0, [0.0, 1.0, 2.0]),
    ],
)
def test_classes_have_the_order_of_scikit_learn_whatever_their_names(labels, classes):
    found = GluonClassifier(epochs=10, random_state=0).fit(X, labels)
    assert found.classes_.tolist() == classes
    assert found.score(X, labels) > 0.9
    shares = found.predict_proba(X)
    assert shares.sum(axis=1) == pytest.approx(1)
    assert (found.classes_[shares.argmax(axis=1)] == found.predict(X)).all()
    if len(classes) == 2:
        assert ((found.decision_function(X) > 0) == (found.predict(X) == classes[1])).all()


def frames():
    frame = load_iris(as_frame=True).data
    frame["colour"] = np.where(frame.iloc[:, 0] > 5.5, "red", "blue")
    return {
        "pandas": frame,
        "polars": pl.from_pandas(frame),
        "arrow": pa.Table.from_pandas(frame, preserve_index=False),
        "dict": {name: frame[name].to_numpy() for name in frame},
        "array": frame.to_numpy(),
    }


def test_tables_with_text_are_taken_in_every_form():
    words = np.array(["setosa", "versicolor", "virginica"])[Y]
    given = frames()
    expected = quick().fit(given["pandas"], pd.Series(words)).predict_proba(given["pandas"])
    for form, rows in given.items():
        found = quick().fit(rows, words)
        assert (found.predict_proba(rows) == expected).all(), form
        if form != "array":
            assert found.feature_names_in_[-1] == "colour"


def test_text_counts():
    colour = np.where(Y == 1, "red", "blue")
    numbers = np.where(Y == 1, 5.0, -5.0)
    assert GluonClassifier(random_state=0).fit({"colour": colour}, Y == 1).score({"colour": colour}, Y == 1) == 1
    assert GluonRegressor(random_state=0).fit({"colour": colour}, numbers).score({"colour": colour}, numbers) > 0.99


@BOTH
def test_missing_numbers_are_filled(estimator):
    rows = X.copy()
    rows[::7, 1] = np.nan
    assert np.isfinite(quick(estimator).fit(rows, Y).predict(rows)).all()


@BOTH
def test_a_row_of_weight_0_does_not_count(estimator):
    weights = np.linspace(0.5, 2, len(X)) * (np.arange(len(X)) % 3 > 0)
    kept = weights > 0
    one = quick(estimator).fit(X, Y, sample_weight=weights).predict(X)
    two = quick(estimator).fit(X[kept], Y[kept], sample_weight=weights[kept]).predict(X)
    assert (one == two).all()


def test_class_weights_move_the_border():
    rare = np.where((Y == 2) & (X[:, 0] > 6.2), 1, 0)
    found = {
        name: quick(hidden=(), class_weight=weight).fit(X, rare).predict(X).sum()
        for name, weight in {"none": None, "balanced": "balanced", "dict": {0: 1, 1: 50}}.items()
    }
    assert found["none"] < found["balanced"] < found["dict"]


# ---- scikit-learn's tools --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_folds_are_trained_in_several_processes():
    # Two short trainings; most of the time is the start of the two processes.
    plugins = [on.epoch_end(lambda run: run.log({"train/steps": run.step}), name="steps")]
    scaled = ColumnTransformer([("scaled", StandardScaler(), [0, 1, 2, 3])])
    pipeline = make_pipeline(scaled, quick(hidden=(), epochs=1, plugins=plugins))
    found = cross_validate(pipeline, X, Y, cv=2, n_jobs=2, return_estimator=True)
    assert (found["test_score"] == cross_val_score(pipeline, X, Y, cv=2)).all()
    assert all("train/steps" in fitted[-1].history_[0] for fitted in found["estimator"])


def test_it_is_calibrated():
    found = CalibratedClassifierCV(quick(epochs=10), cv=2).fit(X, Y)
    assert found.score(X, Y) > 0.8


@BOTH
@pytest.mark.parametrize("net", [None, made, Plain])
def test_a_copy_predicts_the_same(estimator, net):
    fitted = quick(estimator, net=net).fit(X, Y)
    for copied in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        assert (copied.predict(X) == fitted.predict(X)).all()
    assert not hasattr(clone(fitted), "history_")
    assert len(pickle.dumps(fitted)) < 100_000


def test_a_regressors_model_is_the_trainers(tmp_path):
    rows = frames()["pandas"]
    fitted = quick(GluonRegressor).fit(rows, X[:, 0])
    fitted.save_model(tmp_path / "iris")
    table = load_model(tmp_path / "iris").predict(rows)
    assert table["prediction"].to_numpy() == pytest.approx(fitted.predict(rows), rel=1e-5)


def test_its_model_is_the_trainers(tmp_path):
    words = np.array(["setosa", "versicolor", "virginica"])[Y]
    rows = frames()["pandas"]
    fitted = quick().fit(rows, words)
    fitted.save_model(tmp_path / "models" / "iris")
    table = load_model(tmp_path / "models" / "iris").predict(rows)
    assert table["class"].to_pylist() == fitted.predict(rows).tolist()
    found = np.column_stack([table[f"probability/{name}"] for name in fitted.classes_])
    assert found == pytest.approx(fitted.predict_proba(rows), abs=1e-6)
    with pytest.raises(FileExistsError):
        fitted.save_model(tmp_path / "models" / "iris")


@pytest.mark.parametrize("net", [made, Plain, lambda: gluon.nn.Dense(3)])
def test_any_net_is_taken(net):
    assert quick(net=net, epochs=30).fit(X, Y).score(X, Y) > 0.8


# ---- plugins, and what it says ---------------------------------------------------------------------------------------


@BOTH
def test_plugins_are_copied_for_each_training(estimator):
    steps = []
    stopping = EarlyStopping(patience=1, monitor="validation/loss")
    fitted = quick(
        estimator,
        epochs=60,
        validation_split=0.3,
        plugins=[stopping, on.epoch_end(lambda run: steps.append(run.step), name="steps")],
    )
    first = fitted.fit(X, Y).n_iter_
    assert first < 60
    assert fitted.fit(X, Y).n_iter_ == first
    assert len(steps) == 2 * first
    assert "validation/loss" in fitted.history_[-1]


def test_a_tuned_threshold_decides():
    data, labels = load_breast_cancer(return_X_y=True)
    fitted = quick(validation_split=0.2, plugins=[ThresholdTuner(keep_unless_better=False)]).fit(data, labels)
    threshold = fitted.model_.threshold
    assert threshold != 0.5
    assert (fitted.predict(data) == (fitted.predict_proba(data)[:, 1] > threshold)).all()


@BOTH
def test_it_is_quiet_and_leaves_nothing_behind(estimator, tmp_path, monkeypatch, capfd, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    digits = {"a": X[:, 0], "b": np.array([str(label) for label in Y])}
    quick(estimator).fit(digits, Y).predict(digits)
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""
    assert list(tmp_path.iterdir()) == []


@BOTH
def test_it_can_show_its_progress_and_keep_its_runs(estimator, tmp_path, capfd):
    quick(estimator, verbose=True, runs_dir=tmp_path).fit(X, Y)
    assert "epoch 3/3" in capfd.readouterr().out
    assert len(list(tmp_path.rglob("run.json"))) == 1


@BOTH
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"epochs": 0}, "epochs: 0 does not fit"),
        ({"hidden": 5}, "hidden: 5 does not fit"),
        ({"activation": "elu"}, "activation: 'elu' does not fit"),
        ({"optimizer": "nope"}, "MXNet has no optimizer 'nope'"),
        ({"plugins": ["nope"]}, "there is no plugin 'nope'"),
        ({"validation_split": 2}, "2 "),
        ({"options": {"stepz": 1}}, "no option 'stepz'"),
        ({"options": {"categorical": ["nope"]}}, "there is no column 'nope'"),
        ({"net": gluon.nn.Dense(1)}, "it is a Dense, not a function that gives a net"),
        ({"net": lambda: 3}, "it gave a int, not a Gluon block"),
        ({"net": lambda: gluon.nn.Dense(7)}, "its net gives 7 numbers per row"),
    ],
)
def test_a_wrong_parameter_is_a_value_error_with_the_fix(estimator, parameters, message):
    with pytest.raises(ValueError, match=message):
        quick(estimator, **parameters).fit(X, Y)
