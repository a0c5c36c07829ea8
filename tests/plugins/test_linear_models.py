"""Linear models of tables with --solver lbfgs are those of scikit-learn."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn import datasets, linear_model
from sklearn.metrics import log_loss, mean_poisson_deviance, mean_squared_error
from tiny import weights

from trainer import fit
from trainer.data import ClassOptions, TableOptions, load_splits

PLUGINS = ["progress", "metrics-log", "checkpoint", "tensorboard", "report"]
TABLE = {"label": "y", "validation_split": 0, "test_split": 0}
PENALTY = 0.01
"""The weight decay of the penalized models, without that of biases."""


class _Classes(ClassOptions):
    pass


class _Number(TableOptions):
    def target_kind(self):
        return "number"


def rows_of(name):
    if name == "twenty classes":
        generator = np.random.default_rng(0)
        features = generator.normal(size=(2000, 6))
        chances = features @ generator.normal(size=(6, 20)) + generator.gumbel(size=(2000, 20))
        return features, chances.argmax(axis=1)
    bunch = getattr(datasets, f"load_{name}")()
    return bunch.data[:, bunch.data.std(axis=0) > 0], bunch.target


def written(folder, features, labels, **more):
    columns = {f"x{number}": features[:, number] for number in range(features.shape[1])}
    pq.write_table(pa.table({**columns, **more, "y": labels}), folder / "rows.parquet")
    return folder / "rows.parquet"


def trained(task, path, **options):
    left_out = [*PLUGINS, "threshold-tuner"] if task == "logreg" else PLUGINS
    set_ = {"hidden": "", "solver": "lbfgs", "runs_dir": None, "without": left_out, **TABLE, **options}
    run = fit(task, data=path, **set_)
    assert "has converged" in run.reason
    weight, bias = (value.astype(np.float64) for value in weights(run))
    return run, weight, bias


def without_decay_of_biases(folder):
    (folder / "config.toml").write_text("[optimizer]\ndecay-bias = false\n")
    return {"config": folder / "config.toml", "weight_decay": PENALTY}


@pytest.mark.parametrize("name", ["breast_cancer", "wine", "iris", "digits", "twenty classes"])
@pytest.mark.parametrize("penalized", [True, False], ids=["l2", "unpenalized"])
def test_logistic_regression(tmp_path, name, penalized):
    path = written(tmp_path, *rows_of(name))
    run, weight, bias = trained("logreg", path, **(without_decay_of_biases(tmp_path) if penalized else {}))
    rows = load_splits(_Classes(path, **TABLE), seed=0).train
    features, labels = rows.features.astype(np.float64), rows.labels.astype(int)
    strength = 1 / (len(labels) * PENALTY) if penalized else np.inf
    peer = linear_model.LogisticRegression(C=strength, tol=1e-9, max_iter=10_000).fit(features, labels)
    if penalized or name == "twenty classes":
        # Of several classes, all may be shifted together.
        shift = weight.mean(axis=0) if len(weight) > 1 else 0
        np.testing.assert_allclose(weight - shift, peer.coef_, atol=1e-4)
    logits = features @ weight.T + bias
    logits = np.hstack([0 * logits, logits]) if len(weight) == 1 else logits
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    ours = log_loss(labels, odds / odds.sum(axis=1, keepdims=True))
    assert ours == pytest.approx(log_loss(labels, peer.predict_proba(features)), abs=1e-6)
    assert run.metrics["train/loss"] == pytest.approx(ours, abs=1e-6)


@pytest.mark.parametrize("options", [{"sample_weight": "w"}, {"class_weight": "balanced"}], ids=["rows", "classes"])
def test_weights_count(tmp_path, options):
    features, labels = rows_of("iris")
    labels = np.where(labels == 1, "versicolor", "other")
    counted = np.arange(len(labels)) % 3 + 1.0
    own = {"ignore": "w"} if "class_weight" in options else {}
    path = written(tmp_path, features, labels, w=counted)
    _, weight, _ = trained("logreg", path, **options, **own)
    rows = load_splits(_Classes(path, ignore=("w",), **TABLE), seed=0).train
    peer = linear_model.LogisticRegression(
        C=np.inf, tol=1e-9, max_iter=10_000, class_weight=options.get("class_weight")
    )
    peer.fit(rows.features.astype(np.float64), rows.labels, None if own else counted)
    np.testing.assert_allclose(weight, peer.coef_, atol=1e-4)


@pytest.mark.parametrize("penalized", [True, False], ids=["ridge", "least squares"])
def test_linear_regression(tmp_path, penalized):
    bunch = datasets.load_diabetes(scaled=False)
    path = written(tmp_path, bunch.data, bunch.target * 1000)
    run, weight, bias = trained("linreg", path, **(without_decay_of_biases(tmp_path) if penalized else {}))
    rows = load_splits(_Number(path, **TABLE), seed=0).train
    known, features = run.task.numbers(), rows.features.astype(np.float64)
    labels = (rows.labels - known.offset) / known.scale
    # The net's loss is half the squared error.
    alpha = len(labels) * PENALTY
    peer = linear_model.Ridge(alpha, tol=1e-12) if penalized else linear_model.LinearRegression()
    peer.fit(features, labels)
    np.testing.assert_allclose(weight[0], peer.coef_, atol=1e-4)
    assert bias[0] == pytest.approx(peer.intercept_, abs=1e-4)
    loss = mean_squared_error(rows.labels, peer.predict(features) * known.scale + known.offset)
    assert run.metrics["train/loss"] == pytest.approx(loss, rel=1e-6)


def test_poisson_regression(tmp_path):
    generator = np.random.default_rng(0)
    features, exposure = generator.normal(size=(400, 4)), generator.uniform(1, 5, 400)
    rates = generator.poisson(exposure * np.exp(1 + features @ [0.5, -0.3, 0.1, 0])) / exposure
    path = written(tmp_path, features, rates, w=exposure)
    own = {"objective": "poisson", "standardize": False, "sample_weight": "w"}
    run, weight, bias = trained("linreg", path, **own, **without_decay_of_biases(tmp_path))
    # The net's loss is that of the rates divided by their mean.
    alpha = PENALTY * run.task.numbers().scale
    peer = linear_model.PoissonRegressor(alpha=alpha, tol=1e-10, max_iter=1000).fit(features, rates, exposure)
    np.testing.assert_allclose(weight[0], peer.coef_, atol=1e-4)
    assert bias[0] + np.log(run.task.numbers().scale) == pytest.approx(peer.intercept_, abs=1e-4)
    deviance = mean_poisson_deviance(rates, peer.predict(features), sample_weight=exposure)
    assert run.metrics["train/loss"] == pytest.approx(deviance, rel=1e-5)


def test_huber_is_where_its_gradient_vanishes(tmp_path):
    generator = np.random.default_rng(1)
    features = generator.normal(size=(200, 3))
    labels = features @ [1, 2, 3] + generator.standard_t(1.5, size=200)
    path = written(tmp_path, features, labels)
    run, weight, bias = trained("linreg", path, objective="huber", huber_delta=0.5, standardize=False)
    known = run.task.numbers()
    errors = (features @ weight[0] + bias[0]) * known.scale + known.offset - labels
    inside = np.clip(errors, -0.5, 0.5)
    np.testing.assert_allclose([inside.mean(), *(inside @ features / 200)], 0, atol=1e-5)
