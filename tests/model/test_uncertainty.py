"""Standard errors and intervals of coefficients are those of statsmodels, or a sentence says why there are none."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import statsmodels.api as sm

from trainer import fit

ROWS = 300
GENERATOR = np.random.default_rng(11)
X = GENERATOR.normal(size=(ROWS, 3)) * [10, 1, 0.1] + [40, 0, 2]
SCORES = (X - [40, 0, 2]) @ [0.1, -1, 5] + 0.3
WITH_CONSTANT = sm.add_constant(X)
COUNTS = GENERATOR.integers(1, 4, ROWS).astype(float)
BINARY = (SCORES + GENERATOR.logistic(size=ROWS) > 0).astype(int)
CLASSES = (np.outer(SCORES, [0, 1, -1]) + GENERATOR.gumbel(size=(ROWS, 3))).argmax(axis=1)
NUMBER = 500 + 20 * SCORES + GENERATOR.normal(size=ROWS) * 30
EVENTS = GENERATOR.poisson(COUNTS * np.exp(1 + SCORES / 5))
NAMES = ("a", "b", "c")


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where `command` runs too


def trained(task, label, features=X, more=None, **options):
    columns = {name: features[:, place] for place, name in enumerate(NAMES)} | (more or {})
    pq.write_table(pa.table({**columns, "w": COUNTS, "y": label}), "rows.parquet")
    own = {} if "sample_weight" in options else {"ignore": "w"}
    split = {"validation_split": 0, "test_split": 0, "hidden": "", "without": ["progress", "report", "tensorboard"]}
    given = {"data": "rows.parquet", "label": "y", "solver": "lbfgs", "name": "run", **split, **own, **options}
    # Without a solver, an optimizer.
    return fit(task, **{name: value for name, value in given.items() if value is not None})


def told(command, *options):
    code, shown, _ = command("coefficients", "run", "--json", *options)
    assert code == 0
    return json.loads(shown)


def columns_of(found, key, output):
    """The values of the intercept and of each coefficient."""
    rest = [each[key][output] for each in found["coefficients"]]
    return np.array([found["intercept" if key == "value" else f"intercept_{key}"][output], *rest])


def check(found, output, peer, level=0.95):
    np.testing.assert_allclose(columns_of(found, "value", output), peer.params, rtol=2e-4, atol=1e-4)
    np.testing.assert_allclose(columns_of(found, "standard_error", output), peer.bse, rtol=2e-4)
    assert found["level"] == level
    np.testing.assert_allclose(columns_of(found, "interval", output), peer.conf_int(1 - level), rtol=1e-3, atol=1e-3)


# ---- the same as statsmodels -----------------------------------------------------------------------------------------


def test_two_classes(command):
    trained("logreg", BINARY)
    check(told(command), "1", sm.Logit(BINARY, WITH_CONSTANT).fit(disp=0, tol=1e-12))
    check(told(command, "--level", "0.8"), "1", sm.Logit(BINARY, WITH_CONSTANT).fit(disp=0, tol=1e-12), level=0.8)


def test_weights_count_rows(command):
    trained("logreg", BINARY, sample_weight="w")
    peer = sm.GLM(BINARY, WITH_CONSTANT, sm.families.Binomial(), freq_weights=COUNTS).fit(tol=1e-12)
    check(told(command), "1", peer)


def test_several_classes(command):
    trained("logreg", CLASSES)
    found = told(command)
    peer = sm.MNLogit(CLASSES, WITH_CONSTANT).fit(disp=0, tol=1e-12)
    # statsmodels has differences from the first class, here are those from the mean.
    from_mean = np.vstack([np.zeros(2), np.eye(2)]) - 1 / 3
    values = np.asarray(peer.params) @ from_mean.T
    blocks = np.asarray(peer.cov_params()).reshape(2, 4, 2, 4)
    for number in range(3):
        covariance = np.einsum("a,aibj,b->ij", from_mean[number], blocks, from_mean[number])
        np.testing.assert_allclose(columns_of(found, "value", str(number)), values[:, number], rtol=2e-4, atol=1e-4)
        errors = columns_of(found, "standard_error", str(number))
        np.testing.assert_allclose(errors, np.sqrt(np.diag(covariance)), rtol=2e-4)


@pytest.mark.parametrize("weighted", [False, True])
def test_least_squares(command, weighted):
    trained("linreg", NUMBER, **({"sample_weight": "w"} if weighted else {}))
    peer = sm.WLS(NUMBER, WITH_CONSTANT, weights=COUNTS) if weighted else sm.OLS(NUMBER, WITH_CONSTANT)
    check(told(command), "prediction", peer.fit())


def test_poisson_regression_of_rates(command):
    trained("linreg", EVENTS / COUNTS, objective="poisson", sample_weight="w")
    peer = sm.GLM(EVENTS, WITH_CONSTANT, sm.families.Poisson(), exposure=COUNTS).fit(tol=1e-12)
    found = told(command)
    assert found["quantity"] == "logarithm"
    check(found, "prediction", peer)


def test_an_optimizer_that_reaches_the_optimum_has_errors_too(command):
    trained("logreg", BINARY, solver=None, batch_size=ROWS, epochs=200, learning_rate=4.0)
    np.testing.assert_allclose(
        columns_of(told(command), "standard_error", "1"),
        sm.Logit(BINARY, WITH_CONSTANT).fit(disp=0).bse,
        rtol=0.02,
    )


# ---- what is printed -------------------------------------------------------------------------------------------------


def test_the_table_has_errors_and_intervals(command):
    trained("logreg", BINARY)
    lines = command("coefficients", "run", "--level", "0.9")[1].splitlines()
    assert lines[2].split("  ")[0] == "feature"
    assert "standard error  90 % from" in lines[2]
    assert len(lines[3].split()) == 5


def test_of_several_classes_each_has_a_line(command):
    trained("logreg", CLASSES)
    shown = command("coefficients", "run")[1]
    assert "minus the mean over the classes" in shown
    assert "feature      class  coefficient  standard error  95 % from" in shown


def test_a_level_that_is_none_is_refused(command):
    trained("logreg", BINARY)
    code, _, err = command("coefficients", "run", "--level", "95")
    assert code == 2
    assert "95 is not a level" in err


# ---- why there are none ----------------------------------------------------------------------------------------------

WITH_COPY = {"total": X[:, 0] + 2 * X[:, 1]}
COLOURS = {"colour": np.array(["red", "green"])[np.arange(ROWS) % 2]}
SEPARATED = (SCORES > 0).astype(int)


@pytest.mark.parametrize(
    ("label", "options", "sentence"),
    [
        (BINARY, {"more": WITH_COPY}, "the inputs a, b, total are collinear"),
        (BINARY, {"more": COLOURS}, "the inputs colour=green, colour=red, (constant) are collinear"),
        (BINARY, {"weight_decay": 0.1}, "the model was trained with a weight decay of 0.1"),
        (BINARY, {"class_weight": "balanced"}, "the loss weights rows by their class"),
        (BINARY, {"solver": None, "epochs": 1}, "the weights are not at the optimum"),
        (BINARY, {"solver": None, "epochs": 1, "plugins": ["label-smoothing"]}, "with the plugin 'label-smoothing'"),
        (SEPARATED, {}, "the classes are predicted with certainty in every training row"),
        (np.where(X[:, 0] > 45, 2, BINARY), {}, "the class '2' is predicted with certainty in every training row"),
        (
            np.where(np.arange(ROWS) % 2, 1, BINARY),
            {"more": {"odd": np.arange(ROWS) % 2}},
            "odd predicts rows with certainty",
        ),
    ],
)
def test_a_sentence_says_why_there_are_none(command, label, options, sentence):
    trained("logreg", label, **options)
    code, shown, _ = command("coefficients", "run")
    assert code == 0
    assert "\nno standard errors: " in shown
    assert sentence in shown
    assert "standard_error" not in command("coefficients", "run", "--json")[1]


def test_counts_that_are_all_zero_for_a_category_have_no_optimum(command):
    odd = np.arange(ROWS) % 2
    trained("linreg", EVENTS * (1 - odd), objective="poisson", more={"odd": odd})
    assert "odd predicts rows with certainty" in told(command)["why_no_intervals"]


@pytest.mark.parametrize("objective", ["absolute", "huber"])
def test_other_losses_are_not_likelihoods(command, objective):
    solver = "lbfgs" if objective == "huber" else None
    trained("linreg", NUMBER, objective=objective, solver=solver, **({} if solver else {"epochs": 1}))
    assert f"the loss ({objective}) is not the likelihood" in told(command)["why_no_intervals"]


def test_rows_that_have_changed_or_are_gone(command, tmp_path):
    trained("logreg", BINARY)
    rows = pq.read_table("rows.parquet")
    pq.write_table(rows.slice(0, 200), "rows.parquet")
    assert "the data have changed" in told(command)["why_no_intervals"]
    (tmp_path / "rows.parquet").unlink()
    assert "rows.parquet" in told(command)["why_no_intervals"]


def test_a_model_without_its_run(command, tmp_path):
    run = trained("logreg", BINARY)
    (run.folder / "model").rename(tmp_path / "copied")
    code, shown, _ = command("coefficients", "copied")
    assert code == 0
    assert "the training rows are known to the run's folder only" in shown
