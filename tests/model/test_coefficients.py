"""The coefficients of a linear model are those of the table's own units."""

import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv

from trainer import UsageError, fit, load_model
from trainer.model.coefficients import linear_of

ROWS = 60


def table(classes):
    generator = np.random.default_rng(2)
    age, height = generator.normal(40, 12, ROWS), generator.normal(170, 9, ROWS)
    colour = generator.choice(["red", "green", "blue"], ROWS)
    label = np.clip((age > 40).astype(int) + (height > 170) * (classes > 2), 0, classes - 1)
    names = np.array(["none", "some", "many"])
    return pa.table({"age": age, "height": height, "colour": colour, "label": names[label]})


@pytest.fixture(params=[2, 3], ids=["two classes", "three classes"])
def trained(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where `command` runs too
    rows = table(request.param)
    csv.write_csv(rows, "rows.csv")
    run = fit("logreg", data="rows.csv", label="label", hidden=(), epochs=3, name="run", plugins=[])
    return rows, load_model(run.folder / "model")


def test_they_give_the_models_own_log_odds(trained):
    rows, model = trained
    linear = linear_of(model)
    assert [each.column for each in linear.coefficients] == ["age", "height", "colour", "colour", "colour"]
    stored = {
        "age": rows["age"].to_numpy(),
        "height": rows["height"].to_numpy(),
        **{f"colour={name}": (rows["colour"].to_numpy() == name).astype(float) for name in ("red", "green", "blue")},
    }
    outputs = np.array(linear.intercepts) + sum(
        stored[each.feature][:, None] * np.array(each.values) for each in linear.coefficients
    )
    predicted = model.predict(rows)
    probabilities = np.stack([predicted[name].to_numpy() for name in predicted.column_names if name != "class"], axis=1)
    if probabilities.shape[1] == 1:
        assert linear.outputs == model.interface.schema.target.names[1:]
        expected = np.log(probabilities / (1 - probabilities))
        np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=1e-4)
    else:
        assert linear.outputs == model.interface.schema.target.names
        odds = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        np.testing.assert_allclose(odds / odds.sum(axis=1, keepdims=True), probabilities, rtol=1e-3, atol=1e-5)


def test_a_deviation_is_that_of_the_training_rows(trained):
    _, model = trained
    ages = next(column for column in model.interface.schema.columns if column.name == "age")
    age, *_, colour = linear_of(model).coefficients
    np.testing.assert_allclose(np.array(age.values) * ages.deviation, age.per_deviation)
    assert colour.per_deviation is None


def test_the_command_prints_them(trained, command):
    _, model = trained
    linear = linear_of(model)
    code, shown, _ = command("coefficients", "run")
    assert code == 0
    assert shown.startswith("log odds of ")
    assert "\n(intercept)  " in shown
    told = json.loads(command("coefficients", "run", "--json")[1])
    assert "collinear" in told.pop("why_no_intervals")
    assert {**told, "why_no_intervals": None} == json.loads(json.dumps(linear.to_json()))
    assert [each["feature"] for each in told["coefficients"]] == model.interface.schema.feature_names


def test_other_models_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = fit("logreg", epochs=1, train_rows=40, name="deep", plugins=[])
    with pytest.raises(UsageError, match=r"its net has 4 dense layers, so it is not linear.*--hidden"):
        linear_of(load_model(run.folder / "model"))


def test_the_coefficients_of_counts_are_those_of_their_logarithm(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(3)
    age = generator.normal(40, 12, ROWS)
    csv.write_csv(pa.table({"age": age, "claims": generator.poisson(np.exp(age / 30))}), "rows.csv")
    table = {"data": "rows.csv", "label": "claims", "objective": "poisson", "hidden": "", "solver": "lbfgs"}
    run = fit("linreg", **table, name="run", without=["progress", "report", "tensorboard"])
    model = load_model(run.folder / "model")
    linear = linear_of(model)
    assert linear.quantity == "logarithm"
    (only,) = linear.coefficients
    expected = model.predict(pa.table({"age": age}))["prediction"].to_numpy()
    np.testing.assert_allclose(np.exp(linear.intercepts[0] + only.values[0] * age), expected, rtol=1e-4)
    code, shown, _ = command("coefficients", "run")
    assert code == 0
    assert shown.startswith("log of prediction = intercept + the sum of coefficient × value")
    assert "standard error" in shown


def test_of_several_classes_they_do_not_depend_on_a_common_shift(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    csv.write_csv(table(3), "rows.csv")
    still = {"data": "rows.csv", "label": "label", "hidden": (), "epochs": 1, "start": "random", "plugins": []}
    linear = linear_of(load_model(fit("logreg", **still, name="run").folder / "model"))
    np.testing.assert_allclose(np.sum([each.values for each in linear.coefficients], axis=1), 0, atol=1e-6)
    assert sum(linear.intercepts) == pytest.approx(0, abs=1e-6)
