"""A model evaluated on the rows of a file: the run's metrics again, at both thresholds, with intervals."""

import csv
import json
import math
from functools import partial

import numpy as np
import pytest
from modelling import table_of, train, write_table
from sklearn.metrics import f1_score

from trainer import UsageError, load_model
from trainer.catalog.registry import create_plugin
from trainer.model.evaluate import evaluate_file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("evaluate")


@pytest.fixture(scope="module")
def run(folder):
    tuner = create_plugin("threshold-tuner", {"keep-unless-better": False}, where="here")
    without = ("progress", "tensorboard", "checkpoint", "threshold-tuner")
    return train(folder, class_weight="balanced", plugins=[tuner], without=without)


@pytest.fixture
def model(run):
    return load_model(run.folder)


def test_the_test_split_from_its_file_has_the_metrics_that_the_run_logged(run, model, folder):
    found = evaluate_file(model, str(folder / "test.csv"))
    assert found.thresholds == {"given": model.about.threshold.given, "tuned": run.threshold}
    logged = {name: value for name, value in run.metrics.items() if name.startswith("test/")}
    assert found.metrics["given"]["loss"] == pytest.approx(logged["test/loss"], rel=1e-6)
    for name, value in found.metrics["given"].items():
        assert value == pytest.approx(logged[f"test/{name}"], rel=1e-6), name
    tuned = {name.removeprefix("test/tuned-"): value for name, value in logged.items() if "/tuned-" in name}
    assert len(tuned) == 9
    for name, value in tuned.items():
        assert found.metrics["tuned"][name] == pytest.approx(value, rel=1e-6), name
    assert set(found.metrics["tuned"]) == set(found.metrics["given"])


def test_sample_weights_count(model, folder, tmp_path):
    table = table_of(folder / "test.csv")
    probabilities = model.predict(table)["probability"].to_numpy()
    labels = np.array(table["rich"].to_pylist()) == "yes"
    weights = table["weight"].to_numpy()
    given = model.about.threshold.given
    found = evaluate_file(model, str(folder / "test.csv")).metrics["given"]["f1"]
    assert found == pytest.approx(f1_score(labels, probabilities > given, sample_weight=weights))
    assert found != pytest.approx(f1_score(labels, probabilities > given))


def test_labels_and_weights_have_to_be_there(model, folder, tmp_path):
    import pyarrow.csv

    table = table_of(folder / "test.csv")
    for column, what in (("rich", "label"), ("weight", "weight")):
        path = tmp_path / f"{column}.csv"
        pyarrow.csv.write_csv(table.drop([column]), path)
        with pytest.raises(UsageError, match=rf"{column}\.csv: the {what} column '{column}' is missing"):
            evaluate_file(model, str(path))
    path = tmp_path / "strange.csv"
    path.write_text((folder / "test.csv").read_text().replace(",no\n", ",never\n", 1))
    with pytest.raises(UsageError, match=r"the label in column 'rich' is 'never' at row \d+\. .*'no' and 'yes'"):
        evaluate_file(model, str(path))


def test_rows_of_one_class_have_what_can_be_said_of_them(model, folder, tmp_path):
    lines = (folder / "test.csv").read_text().splitlines()
    (tmp_path / "one.csv").write_text("\n".join([lines[0], *[line for line in lines if line.endswith(",yes")]]) + "\n")
    found = evaluate_file(model, str(tmp_path / "one.csv")).metrics["given"]
    assert math.isnan(found["roc-auc"])
    assert 0 < found["recall"] <= 1


def test_intervals_are_those_of_resampled_rows_and_repeat_with_the_seed(model, folder):
    path = str(folder / "test.csv")
    first = evaluate_file(model, path, bootstrap=200, seed=3)
    assert first.intervals == evaluate_file(model, path, bootstrap=200, seed=3).intervals
    assert first.intervals != evaluate_file(model, path, bootstrap=200, seed=4).intervals
    for at in ("given", "tuned"):
        for name, (low, high) in first.intervals[at].items():
            assert low <= first.metrics[at][name] <= high, name
    # The binomial distribution's own deviation of an accuracy, for rows with the same weight on average.
    accuracy = first.metrics["given"]["accuracy"]
    low, high = first.intervals["given"]["accuracy"]
    assert (high - low) / 2 == pytest.approx(1.96 * math.sqrt(accuracy * (1 - accuracy) / 200), rel=0.5)
    low, high = evaluate_file(model, path, bootstrap=200, seed=3, confidence=0.5).intervals["given"]["accuracy"]
    wide = first.intervals["given"]["accuracy"]
    assert wide[0] < low < high < wide[1]


def test_a_threshold_that_was_not_tuned_has_one_column(folder):
    place = folder / "plain"
    place.mkdir()
    run = train(place, without=("progress", "tensorboard", "checkpoint", "threshold-tuner"), epochs=1)
    found = evaluate_file(load_model(run.folder), str(place / "test.csv"))
    assert list(found.metrics) == ["given"]


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def evaluate(folder, run, monkeypatch, command):
    """Runs `trainer evaluate …` in the folder of the runs."""
    monkeypatch.chdir(folder)
    return partial(command, "evaluate")


def test_the_table_has_both_thresholds_side_by_side(evaluate, run, model):
    code, out, err = evaluate("one", "--data", "test.csv", "--bootstrap", 20)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split("  ")[0] == "threshold"
    assert f"given: {model.about.threshold.given:.4g}" in lines[0]
    assert f"tuned: {run.threshold:.4g}" in lines[0]
    assert f"{run.metrics['test/f1']:.4f} [" in next(line for line in lines if line.startswith("f1"))
    assert f"{run.metrics['test/tuned-f1']:.4f} [" in next(line for line in lines if line.startswith("f1"))
    assert lines[-1] == "200 rows; 95% confidence intervals"
    assert err.splitlines() == [
        "note: not used by the model: id",
        "note: missing values, treated as in training: age 16, job 50",
    ]


def test_json_and_csv_hold_the_same_numbers(evaluate):
    _, out, _ = evaluate("one", "--data", "test.csv", "--json", "--bootstrap", 10)
    told = json.loads(out)
    assert (told["rows"], told["missing"]) == (200, {"age": 16, "job": 50})
    _, out, _ = evaluate("one", "--data", "test.csv", "--csv", "--bootstrap", 10)
    rows = {row["metric"]: row for row in csv.DictReader(out.splitlines())}
    assert float(rows["threshold"]["tuned"]) == told["thresholds"]["tuned"]
    for name, value in told["metrics"]["tuned"].items():
        assert float(rows[name]["tuned"]) == value
        assert [float(rows[name]["tuned-low"]), float(rows[name]["tuned-high"])] == told["intervals"]["tuned"][name]


def test_rows_can_come_through_a_pipe(evaluate, folder, run, monkeypatch):
    with (folder / "test.csv").open() as file:
        monkeypatch.setattr("sys.stdin", file)
        code, out, err = evaluate(run.folder, "--data", "-", "--json")
    assert code == 0, err
    assert json.loads(out)["metrics"]["given"]["f1"] == pytest.approx(run.metrics["test/f1"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tow", "--data", "test.csv"), "there is no run 'tow'. In runs there are: one."),
        (("one", "--data", "tset.csv"), "tset.csv: there is no such file. Did you mean 'test.csv'?"),
        (("one", "--data", "test.csv", "--json", "--csv"), "cannot be combined"),
        (("one", "--data", "test.csv", "--confidence", "2"), "--confidence: 2 is not a confidence level"),
        (("one", "--data", "test.csv", "--bootstrap", "-1"), "--bootstrap"),
        (("one",), "--data"),
        ((".", "--data", "test.csv"), "is not the folder of a run"),
        (("one", "--data", "test.csv", "--device", "tpu"), "--device: 'tpu' is not a device name"),
        (("one", "--data", "test.csv", "--device", "cpu:0,1"), "--device: 'cpu:0,1' names 2 devices"),
    ],
)
def test_a_mistake_is_named_and_exits_with_two(evaluate, arguments, message):
    write = list(map(str, arguments))
    code, out, err = evaluate(*write)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_a_table_for_another_label_is_refused(evaluate, folder):
    write_table(folder / "other.csv", 20, labels=("0", "1"))
    code, _, err = evaluate("one", "--data", "other.csv")
    assert code == 2
    assert "The classes are 'no' and 'yes'." in err


def test_little_memory_changes_no_value_and_refuses_resamples(model, folder):
    path = str(folder / "test.csv")
    assert evaluate_file(model, path, memory="1kB").metrics == evaluate_file(model, path).metrics
    with pytest.raises(UsageError, match="--bootstrap: the resamples need all rows in memory"):
        evaluate_file(model, path, memory="1kB", bootstrap=2)
    with pytest.raises(UsageError, match="--memory: 'much' is not a size"):
        evaluate_file(model, path, memory="much")
