"""linreg: a number to predict, in its unit, and all that uses the model."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from sklearn import datasets, linear_model
from sklearn import metrics as sk
from tiny import weights

from trainer import UsageError, fit, load_model, resume
from trainer.data import Quantity, TableOptions, load_splits
from trainer_plugins.linreg import LinearRegression
from trainer_plugins.tensorboard import TensorBoard

QUIET = ["progress", "metrics-log", "checkpoint", "tensorboard", "report"]
EXACT = {"hidden": "", "batch_size": 10_000, "validation_split": 0, "test_split": 0, "runs_dir": None, "without": QUIET}
"""A linear model on all rows, with a step per epoch."""


def written(folder, columns, name="t.csv"):
    pyarrow.csv.write_csv(pa.table(columns), folder / name)
    return folder / name


def diabetes(folder):
    """scikit-learn's diabetes table with its label in another unit, and a column of weights."""
    bunch = datasets.load_diabetes(scaled=False)
    columns = {name: bunch.data[:, number] for number, name in enumerate(bunch.feature_names)}
    return written(folder, {**columns, "w": np.arange(442) % 3 + 1, "y": bunch.target * 1000})


def counts(folder):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(300, 3))
    y = generator.poisson(np.exp(3 + x @ [0.5, -0.3, 0.1]))
    return written(folder, {"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "y": y}, "counts.csv"), x, y


def scaled(path, **options):
    splits = load_splits(_Number(path, "y", validation_split=0, test_split=0, **options), seed=0)
    return splits.train


class _Number(TableOptions):
    def target_kind(self):
        return "number"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on the diabetes table, with all plugins that the task suggests."""
    folder = tmp_path_factory.mktemp("diabetes")
    table = {"data": diabetes(folder), "label": "y", "ignore": "w"}
    return fit("linreg", **table, hidden="", epochs=12, runs_dir=folder, name="one",
               plugins=[TensorBoard(figures=12)], without=["progress", "tensorboard"])  # fmt: skip


@pytest.fixture(scope="module")
def quantiles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantiles")
    return fit("linreg", objective="quantile", train_rows=400, epochs=6, runs_dir=folder, name="one",
               plugins=[TensorBoard(figures=6)], without=["progress", "tensorboard"])  # fmt: skip


@pytest.fixture(scope="module")
def model(run):
    return load_model(run.folder)


# ---- what it learns --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_without_hidden_layers_it_is_linear_regression(tmp_path, weighted):
    path = diabetes(tmp_path)
    own = {"sample_weight": "w"} if weighted else {"ignore": "w"}
    run = fit("linreg", data=path, label="y", epochs=500, optimizer="adam", learning_rate=0.05, **own, **EXACT)
    rows = scaled(path, **({"sample_weight": "w"} if weighted else {"ignore": ("w",)}))
    peer = linear_model.LinearRegression().fit(rows.features, rows.labels, rows.weights)
    ours = run.predict(pyarrow.csv.read_csv(path))[:, 0] * run.task.numbers().scale + run.task.numbers().offset
    theirs = peer.predict(rows.features)
    assert np.abs(ours - theirs).max() < 0.02 * rows.labels.std()
    loss = sk.mean_squared_error(rows.labels, theirs, sample_weight=rows.weights)
    assert run.metrics["train/loss"] == pytest.approx(loss, rel=2e-3)


@pytest.mark.parametrize("quantile", [0.2, 0.5])
def test_a_quantile_is_that_of_quantile_regression(tmp_path, quantile):
    path = diabetes(tmp_path)
    run = fit("linreg", data=path, label="y", ignore="w", objective="quantile", quantiles=(quantile,), epochs=600,
              learning_rate=0.01, **EXACT)  # fmt: skip
    rows = scaled(path, ignore=("w",))
    peer = linear_model.QuantileRegressor(quantile=quantile, alpha=0).fit(rows.features, rows.labels)
    best = sk.mean_pinball_loss(rows.labels, peer.predict(rows.features), alpha=quantile)
    assert run.metrics["train/loss"] == pytest.approx(best, rel=0.01)


def test_poisson_is_that_of_poisson_regression(tmp_path):
    path, x, y = counts(tmp_path)
    run = fit("linreg", data=path, label="y", objective="poisson", epochs=200, learning_rate=0.05, standardize=False,
              **EXACT)  # fmt: skip
    peer = linear_model.PoissonRegressor(alpha=0, tol=1e-8).fit(x, y)
    weight, bias = weights(run)
    np.testing.assert_allclose(weight[0], peer.coef_, atol=1e-3)
    assert bias[0] + np.log(run.task.numbers().scale) == pytest.approx(peer.intercept_, abs=1e-3)
    assert run.metrics["train/loss"] == pytest.approx(sk.mean_poisson_deviance(y, peer.predict(x)), rel=1e-3)


def test_exposures_are_weights_of_rates(tmp_path):
    generator = np.random.default_rng(1)
    x, exposure = generator.normal(size=200), generator.uniform(1, 9, 200)
    y = generator.poisson(exposure * np.exp(x / 2)) / exposure
    path = written(tmp_path, {"a": x, "exposure": exposure, "y": y})
    run = fit("linreg", data=path, label="y", objective="poisson", sample_weight="exposure", epochs=200,
              learning_rate=0.05, standardize=False, **EXACT)  # fmt: skip
    peer = linear_model.PoissonRegressor(alpha=0, tol=1e-8).fit(x[:, None], y, sample_weight=exposure)
    assert weights(run)[0][0, 0] == pytest.approx(peer.coef_[0], abs=1e-3)


@pytest.mark.parametrize("objective", ["squared", "huber", "absolute", "quantile"])
def test_a_label_in_another_unit_is_the_same_model(tmp_path, objective):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(60, 2))
    y = x @ [1, 2] + generator.normal(size=60)
    found = []
    for factor in (1.0, 1024.0):
        path = written(tmp_path, {"a": x[:, 0], "b": x[:, 1], "y": y * factor}, f"{factor}.csv")
        found.append(fit("linreg", data=path, label="y", objective=objective, epochs=2, runs_dir=None, without=QUIET))
    one, other = found
    power = 2 if objective in ("squared", "huber") else 1
    assert other.metrics["train/loss"] == pytest.approx(one.metrics["train/loss"] * 1024**power, rel=1e-4)
    assert other.metrics["test/loss"] == pytest.approx(one.metrics["test/loss"] * 1024**power, rel=1e-4)
    np.testing.assert_allclose(other.evaluation.predictions, one.evaluation.predictions * 1024, rtol=1e-3)
    for ours, theirs in zip(weights(one), weights(other), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_hubers_bend_is_in_the_labels_unit(tmp_path):
    path = diabetes(tmp_path)
    same = {"epochs": 1, "start": "random", **EXACT}  # the objectives have different starts
    common = {"data": path, "label": "y", "ignore": "w", "objective": "huber", **same}
    small, large = (fit("linreg", huber_delta=delta, **common) for delta in (1.0, 1e9))
    squared = fit("linreg", **{**common, "objective": "squared"})
    assert 2 * large.metrics["train/loss"] == pytest.approx(squared.metrics["train/loss"], rel=1e-5)
    absolute = fit("linreg", **{**common, "objective": "absolute"})
    assert small.metrics["train/loss"] == pytest.approx(absolute.metrics["train/loss"], rel=1e-3)


def test_generated_data_is_learned():
    run = fit("linreg", hidden="", runs_dir=None, without=QUIET)
    # The noise has deviation 5, and the label a variance of 385 + 25.
    assert run.metrics["validation/root-mean-squared-error"] == pytest.approx(5, rel=0.2)
    assert run.metrics["validation/r2"] > 0.85
    assert run.step_kind == "compiled"
    assert run.gradients.on_host


# ---- metrics and the model -------------------------------------------------------------------------------------------


def test_the_metrics_are_scikit_learns(run):
    found, y = run.evaluation.predictions.astype(float), run.evaluation.labels.astype(float)
    ours = {name.removeprefix("test/"): value for name, value in run.metrics.items() if name.startswith("test/")}
    assert ours == pytest.approx(
        {
            "loss": sk.mean_squared_error(y, found),
            "mean-absolute-error": sk.mean_absolute_error(y, found),
            "root-mean-squared-error": sk.root_mean_squared_error(y, found),
            "r2": sk.r2_score(y, found),
            "median-absolute-error": sk.median_absolute_error(y, found),
        },
        rel=1e-4,
    )
    assert found.shape == (88,)
    assert y.mean() > 100_000


def test_quantiles_have_pinball_losses_coverages_and_the_metrics_of_the_median(quantiles):
    found, y = quantiles.evaluation.predictions.astype(float), quantiles.evaluation.labels.astype(float)
    ours, levels = quantiles.metrics, (0.1, 0.5, 0.9)
    for number, level in enumerate(levels):
        expected = sk.mean_pinball_loss(y, found[:, number], alpha=level)
        assert ours[f"validation/pinball-loss/{level}"] == pytest.approx(expected, rel=1e-5)
        assert ours[f"validation/coverage/{level}"] == pytest.approx((y <= found[:, number]).mean())
    assert ours["validation/loss"] == pytest.approx(ours["validation/pinball-loss"], rel=1e-4)
    assert ours["validation/mean-absolute-error"] == pytest.approx(sk.mean_absolute_error(y, found[:, 1]), rel=1e-5)
    assert (np.diff(found, axis=1) > 0).all()


def test_the_model_predicts_in_the_labels_unit(run, model, tmp_path):
    from trainer.model.evaluate import evaluate_file
    from trainer.model.predict import predict_file

    table = pyarrow.csv.read_csv(run.task.data[0])
    found = model.predict(table)
    assert found.column_names == ["prediction"]
    predict_file(model, str(run.task.data[0]), str(tmp_path / "p.csv"), keep=["y"])
    written_table = pyarrow.csv.read_csv(tmp_path / "p.csv")
    assert written_table.column_names == ["y", "prediction"]
    np.testing.assert_allclose(written_table["prediction"], found["prediction"], rtol=1e-6)
    judged = evaluate_file(model, str(run.task.data[0]), bootstrap=5)
    y, predicted = table["y"].to_numpy(), found["prediction"].to_numpy()
    assert judged.metrics["given"]["r2"] == pytest.approx(sk.r2_score(y, predicted), rel=1e-5)
    assert judged.metrics["given"]["loss"] == pytest.approx(sk.mean_squared_error(y, predicted), rel=1e-4)
    low, high = judged.intervals["given"]["r2"]
    assert low < high
    assert model.about.card["predicts"] == "the number y"


def test_quantiles_are_columns_of_the_predictions(quantiles):
    model = load_model(quantiles.folder)
    found = model.predict(np.zeros((2, 10)))
    assert found.column_names == ["prediction/0.1", "prediction/0.5", "prediction/0.9"]
    assert model.about.card["quantiles"] == [0.1, 0.5, 0.9]
    info = json.loads((quantiles.folder / "model" / "model.json").read_text())["info"]
    assert info["quantiles"] == [0.1, 0.5, 0.9]
    assert info["table"]["target"]["kind"] == "number"


@pytest.mark.parametrize("objective", ["squared", "quantile", "poisson"])
def test_onnx_has_the_unit_inside(objective, run, quantiles, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    from trainer.model.export import to_onnx

    if objective == "poisson":
        data, _, _ = counts(tmp_path)
        own = fit("linreg", data=data, label="y", objective=objective, epochs=1, runs_dir=tmp_path,
                  without=["progress", "report", "tensorboard"])  # fmt: skip
    else:
        own = run if objective == "squared" else quantiles
    model = load_model(own.folder)
    to_onnx(model, tmp_path / "m.onnx", raw_inputs=objective != "quantile")
    session = runtime.InferenceSession((tmp_path / "m.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    width = model.about.inputs[0].shape[0]
    rows = np.random.default_rng(0).normal(size=(3, width))
    given = rows.astype(np.float32) if objective == "quantile" else rows
    found = session.run(["prediction"], {session.get_inputs()[0].name: given})[0].reshape(3, -1)
    expected = model.predict(rows)
    for number, name in enumerate(expected.column_names):
        np.testing.assert_allclose(found[:, number], expected[name].to_numpy(), rtol=1e-4)


@pytest.mark.parametrize("objective", ["squared", "poisson"])
def test_coefficients_are_in_the_units_of_the_table(objective, run, tmp_path):
    from trainer.model.coefficients import linear_of

    own, path = run, run.task.data
    if objective == "poisson":
        path, _, _ = counts(tmp_path)
        own = fit("linreg", data=path, label="y", objective="poisson", hidden="", epochs=1, runs_dir=tmp_path,
                  without=["progress", "report", "tensorboard"])  # fmt: skip
    model = load_model(own.folder)
    found = linear_of(model)
    table = pyarrow.csv.read_csv(path if objective == "poisson" else path[0])
    sums = found.intercepts[0] + sum(each.values[0] * table[each.feature].to_numpy() for each in found.coefficients)
    expected = model.predict(table)["prediction"].to_numpy()
    np.testing.assert_allclose(np.exp(sums) if objective == "poisson" else sums, expected, rtol=1e-4)
    assert found.quantity == ("logarithm" if objective == "poisson" else "value")


def test_several_quantiles_have_no_coefficients(tmp_path):
    from trainer.model.coefficients import linear_of

    own = fit("linreg", objective="quantile", hidden="", epochs=1, runs_dir=tmp_path,
              without=["progress", "report", "tensorboard"])  # fmt: skip
    with pytest.raises(UsageError, match="3 quantiles, of which only the lowest is linear"):
        linear_of(load_model(own.folder))


def test_a_resumed_run_equals_one_without_a_break(run, tmp_path):
    common = {"data": run.task.data, "label": "y", "ignore": "w", "hidden": "", "runs_dir": tmp_path}
    fit("linreg", epochs=5, name="broken", without=["progress", "tensorboard", "report"], **common)
    resumed = resume(tmp_path / "linreg" / "broken", epochs=12)
    assert resumed.history == run.history
    for ours, theirs in zip(weights(resumed), weights(run), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_task_keeps_its_contract():
    from trainer.testing import check_task

    check_task(lambda: LinearRegression(objective="quantile", train_rows=40, validation_rows=10), batch_size=8)


# ---- plugins ---------------------------------------------------------------------------------------------------------


def test_the_report_draws_residuals_and_weights_in_the_labels_unit(run):
    from trainer_plugins.report.document import read
    from trainer_plugins.report.page import page

    document = read(run.folder)
    found = document.data["splits"]["test"]["numbers"]
    y = run.evaluation.labels
    assert np.sum(found["plane"]["counts"]) == len(y)
    assert np.sum(found["residuals"]["share"]) == pytest.approx(1)
    assert found["deviation"] == pytest.approx(y.std(), rel=1e-5)
    numbers, (weight, bias) = run.task.numbers(), weights(run)
    kept = document.data["weights"]
    np.testing.assert_allclose(kept["values"], weight[0] * numbers.scale, rtol=1e-5)
    assert kept["bias"] == pytest.approx(bias[0] * numbers.scale + numbers.offset, rel=1e-5)
    text = page(document)
    for chart in ("predicted", "residuals", "spread"):
        assert f'<figure id="test-{chart}">' in text
    assert "its prediction is the sum of the features times their weights" in text
    assert "the mean alone: 0" in text


def test_tensorboard_draws_the_coverage_of_quantiles(quantiles):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen = EventAccumulator(str(quantiles.folder / "tensorboard"))
    seen.Reload()
    charts = {f"validation/{name}/image" for name in ("predicted", "residuals", "spread", "coverage")}
    assert set(seen.Tags()["images"]) == charts
    assert not [tag for tag in seen.Tags()["tensors"] if tag.endswith("/pr-curve")]


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (["a", "b"] * 20, {}, "holds text, such as 'a' at row 1.*trainer run logreg"),
        ([*"123456789" * 4, "12x"], {}, "the label in column 'y' is '12x', not a number at row 37.*--drop-unlabelled"),
        ([*"123456789" * 4, ""], {}, "the label in column 'y' is missing at row 37.*--drop-unlabelled"),
        ([*"123456789" * 4, "-2"], {"objective": "poisson"}, "is -2, and counts and rates are not negative at row 37"),
        (["7"] * 40, {}, "has one value in the 24 training rows: 7"),
        ([f"{17e8 + row}" for row in range(40)], {}, r"has one value .*: 1\.7e\+09.*subtract a constant"),
        (
            [f"{17e8 + 100 * row}" for row in range(40)],
            {},
            r"too close together .*Subtract a constant",
        ),
        ([*"123456789" * 4, "1e39"], {}, "too large for a 32-bit number at row 37"),
        ([*"12"], {"validation_split": 0.5, "test_split": 0.4}, "1 of 1 rows cannot be split off"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(tmp_path, labels, options, message):
    path = tmp_path / "t.csv"
    path.write_text("a,y\n" + "".join(f"{row},{label}\n" for row, label in enumerate(labels)))
    with pytest.raises(UsageError, match=message):
        fit("linreg", data=path, label="y", runs_dir=None, **options)


@pytest.mark.parametrize(("values", "word"), [([True, False], "true and false"), ([None, None], "nothing")])
def test_labels_of_another_type_are_refused_by_name(values, word):
    with pytest.raises(UsageError, match=f"holds {word}, not numbers.*classes: other"):
        Quantity.learn("y", pa.chunked_array([pa.array(values)]), non_negative=False, where="here", for_classes="other")


def test_rows_without_a_label_are_left_out_if_asked(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,y\n" + "1,2.5\n2,3\n3,NA\n4,1e2\n" * 10)
    run = fit("linreg", data=path, label="y", drop_unlabelled=True, epochs=1, runs_dir=None, without=QUIET)
    assert run.train.rows + run.validation.rows + run.test.rows == 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantiles": (0.5,)}, "--quantiles: the objective is squared.*--objective quantile"),
        ({"huber_delta": 1.0}, "--huber-delta: the objective is squared.*--objective huber"),
        ({"objective": "quantile", "quantiles": (0.5, 0.5)}, "one of the quantiles is there twice"),
        ({"objective": "quantile", "quantiles": (1.5,)}, "quantiles"),
        ({"label": "y"}, "--label: it needs a table"),
        ({"plugins": ["label-smoothing"]}, "label-smoothing.*not probabilities"),
        ({"plugins": ["threshold-tuner"]}, "no decision threshold"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        fit("linreg", epochs=1, runs_dir=None, **options)
