"""Sets and intervals are chosen on the calibration rows alone, cover new rows, and are written by the saved model."""

import json

import numpy as np
import pyarrow as pa
import pytest
from tiny import Tiny, engine, plugin

from trainer import UsageError, fit, load_model
from trainer.decisions import ClassSets, Intervals, class_scores, conformal_quantile
from trainer.testing.tiny import TinyImages, TinyWithThreshold
from trainer_plugins.conformal import Conformal


def made(name="conformal", **options):
    found = Conformal(**options)
    found.name = name
    return found


def trained(*plugins, task=None, **values):
    task = task or TinyWithThreshold(100, 50, 400, calibration_rows=200)
    return engine(task, *plugins, **{"batch_size": 20, "epochs": 1, **values}).fit()


def numbers(rows=1200, seed=0):
    """A number whose spread depends on a column."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, 2))
    return pa.table({"a": x[:, 0], "b": x[:, 1], "y": 100 + x[:, 0] + np.exp(x[:, 1]) * generator.normal(size=rows)})


def regression(tmp_path, *plugins, **values):
    options = {
        "label": "y", "test_split": 0.3, "calibration_split": 0.3, "epochs": 4, "runs_dir": tmp_path, "name": "one",
        "without": ("progress", "tensorboard", "report", "checkpoint"),
    }  # fmt: skip
    return fit("linreg", data=numbers(), plugins=list(plugins), **{**options, **values})


@pytest.mark.parametrize("method", ["auto", "aps"])
def test_the_bound_is_that_of_the_calibration_rows_and_the_test_split_shows_the_coverage(method):
    seen = {}
    keeps = plugin("keeps", calibration_end=lambda run: seen.update(rows=run.evaluation))
    run = trained(made(method=method), keeps)
    rule, metrics = run.rules["conformal"], run.metrics
    kind = "lac" if method == "auto" else "aps"
    labels = seen["rows"].labels.ravel().astype(int)
    scores = class_scores(seen["rows"].predictions, kind)[np.arange(200), labels]
    assert (rule.method, rule.bounds.rows, rule.bounds.bound) == (kind, 200, conformal_quantile(scores, 0.9))
    sets = rule.columns(run.evaluation.predictions, {})["set"].to_pylist()
    held = [str(int(label)) in names for label, names in zip(run.evaluation.labels.ravel(), sets, strict=True)]
    assert metrics["test/coverage"] == pytest.approx(np.mean(held))
    assert metrics["test/coverage-low"] < metrics["test/coverage"] < metrics["test/coverage-high"]
    assert metrics["test/coverage"] == pytest.approx(0.9, abs=0.06)
    assert metrics["test/set-size"] == pytest.approx(np.mean([len(names) for names in sets]))
    assert metrics["test/empty-sets"] == pytest.approx(np.mean([not names for names in sets]))


def test_classes_with_one_hot_labels_have_sets_of_their_names():
    class Calibrated(TinyImages):
        def splits(self, run):
            found = super().splits(run)
            return type(found)(found.train, found.validation, found.validation, calibration=found.train)

    run = trained(made(coverage=0.5), task=Calibrated(60, 30))
    assert run.rules["conformal"].classes == ("top", "middle", "bottom")
    assert 0 <= run.metrics["test/coverage"] <= 1


def test_sets_are_those_of_calibrated_probabilities():
    class Squared:
        def apply(self, probabilities):
            return probabilities**2

        def to_json(self):
            return None

    def calibrate(run):
        run.calibrator = Squared()

    run = trained(plugin("squares", setup=calibrate), made())
    raw = trained(made())
    assert run.rules["conformal"].bounds.bound != raw.rules["conformal"].bounds.bound
    assert run.metrics["test/coverage"] == pytest.approx(0.9, abs=0.06)


def test_intervals_have_one_width_or_follow_the_predicted_quantiles(tmp_path):
    run = regression(tmp_path, made())
    rule = run.rules["conformal"]
    assert (rule.method, rule.least) == ("absolute", None)
    assert run.metrics["test/coverage"] == pytest.approx(0.9, abs=0.06)
    assert run.metrics["test/interval-width"] == pytest.approx(2 * rule.bounds.bound)
    table = load_model(run.folder).predict(numbers(5, seed=1))
    assert table.column_names == ["prediction", "lower", "upper"]
    width = table["upper"].to_numpy() - table["lower"].to_numpy()
    assert width == pytest.approx(2 * rule.bounds.bound)
    run = regression(tmp_path, made(), made("conformal@half", coverage=0.5), objective="quantile", name="quantiles")
    assert run.rules["conformal"].method == "cqr"
    assert run.metrics["test/coverage"] == pytest.approx(0.9, abs=0.06)
    assert run.metrics["test/coverage-half"] == pytest.approx(0.5, abs=0.1)
    table = load_model(run.folder).predict(numbers(200, seed=1))
    assert {"lower", "upper", "lower-half", "upper-half"} <= set(table.column_names)
    assert np.std(table["upper"].to_numpy() - table["lower"].to_numpy()) > 0.1


def test_counts_have_no_interval_below_0(tmp_path):
    run = regression(tmp_path, made(), objective="poisson")
    assert isinstance(run.rules["conformal"], Intervals)
    assert run.rules["conformal"].least == 0


def test_the_model_card_says_what_the_sets_promise(tmp_path):
    run = regression(tmp_path, made())
    card = json.loads((run.folder / "model" / "model.json").read_text())["card"]
    assert card["decisions"] == [
        {
            "columns": ["lower", "upper"],
            "coverage": 0.9,
            "calibration rows": 360,
            "intervals": "hold the true number with probability 0.9 (absolute)",
        }
    ]


# ---- what it refuses, and what it says -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (Tiny(), {}, "there are no calibration rows. Add --calibration-split 0.2"),
        (Tiny(calibration_rows=9), {"method": "cqr"}, "the method cqr is for numbers, and the task 'tiny' predicts"),
    ],
)
def test_a_run_without_calibration_rows_and_a_method_of_another_kind_are_refused(task, options, message):
    with pytest.raises(UsageError) as caught:
        trained(made(**options), task=task)
    assert message in str(caught.value)


@pytest.mark.parametrize(("method", "message"), [("lac", "is for classes"), ("cqr", "--quantiles 0.05,0.95")])
def test_a_method_that_does_not_fit_numbers_is_refused(method, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        regression(tmp_path, made(method=method))


def test_too_few_rows_leave_nothing_out_and_say_how_many_are_needed(caplog):
    run = trained(made(coverage=0.95), task=TinyWithThreshold(20, 10, 10, calibration_rows=18))
    rule = run.rules["conformal"]
    assert isinstance(rule, ClassSets)
    assert (rule.bounds.bound, run.metrics["test/set-size"]) == (None, 2.0)
    assert "18 calibration rows are too few for 95 %, so every set has everything; it needs 19 or more" in caplog.text


def test_weights_make_the_promise_approximate(caplog):
    task = TinyWithThreshold(100, 50, 200, calibration_rows=200, weighted=True)
    assert trained(made(), task=task).metrics["test/coverage"] == pytest.approx(0.9, abs=0.08)
    assert "the rows have weights, so the coverage of 90 % is approximate" in caplog.text


def test_rows_beyond_memory_are_sampled_and_the_promise_holds(caplog, monkeypatch):
    monkeypatch.setattr("trainer.evaluation.SAMPLE", 100)
    task = TinyWithThreshold(100, 50, 2000, calibration_rows=2000)
    run = trained(made(), task=task, memory="1KB")
    rows = run.rules["conformal"].bounds.rows
    assert 10 < rows <= 100
    assert f"a sample of {rows} of the 2000 calibration rows" in caplog.text


def test_predictions_that_are_not_probabilities_get_no_sets(caplog):
    class Logits(Tiny):
        def predictions(self, outputs):
            return outputs.reshape(-1) * 10

        def metrics(self):
            return []

    run = trained(made(), task=Logits(50, 20, 20, calibration_rows=30))
    assert (run.rules, [name for name in run.metrics if "coverage" in name]) == ({}, [])
    assert "conformal gives no sets: the predictions are neither" in caplog.text
