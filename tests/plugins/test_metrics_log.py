"""metrics.jsonl, the record that every other log is made from, and its CSV."""

import csv
import json

import pytest
from tiny import Tiny, engine, plugin

from trainer import Phase, PluginError
from trainer_plugins.metrics_log import MetricsLog


def train(folder, *plugins, task=None, every=0, **settings):
    made = engine(task or Tiny(), MetricsLog(every=every), *plugins, folder=folder / "run", **settings)
    return made.fit()


def lines(run):
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def rows(run):
    with (run.folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_one_line_an_epoch_and_one_at_the_end(tmp_path):
    run = train(tmp_path)
    assert [(line["event"], line["epoch"], line["step"]) for line in lines(run)] == [
        ("epoch", 1, 2),
        ("epoch", 2, 4),
        ("end", 2, 4),
    ]
    assert all(line["schema"] == 1 and line["time"] > 1.6e9 for line in lines(run))
    epochs = [{"epoch": line["epoch"], "step": line["step"], **line["metrics"]} for line in lines(run)[:2]]
    assert epochs == run.history


def test_step_lines_come_every_so_many_steps(tmp_path):
    run = train(tmp_path, task=Tiny(train_rows=12), every=4, epochs=1)
    steps = [line for line in lines(run) if line["event"] == "step"]
    assert [line["step"] for line in steps] == [4]
    assert set(steps[0]["metrics"]) == {"train/batch-loss", "learning-rate"}


def test_what_is_logged_in_a_batch_has_its_step_line(tmp_path):
    logging = plugin(batch_end=lambda run: run.log({"odd": run.step}) if run.step % 2 else None)
    run = train(tmp_path, logging)
    steps = [(line["step"], line["metrics"]) for line in lines(run) if line["event"] == "step"]
    assert steps == [(1, {"odd": 1.0}), (3, {"odd": 3.0})]


def test_the_end_line_holds_the_test_metrics_and_how_it_ended(tmp_path):
    run = train(tmp_path, plugin(epoch_end=lambda run: run.stop("enough")), task=Tiny(test_rows=3))
    end = lines(run)[-1]
    assert (end["event"], end["status"], end["reason"]) == ("end", "stopped", "enough")
    assert end["metrics"] == {name: value for name, value in run.metrics.items() if name.startswith("test/")} != {}


def test_nan_is_null_in_json_and_the_file_stays_readable_by_strict_parsers(tmp_path):
    run = train(tmp_path, plugin(epoch_end=lambda run: run.log({"odd": float("nan"), "big": float("inf")})), epochs=1)
    line = (run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[0]
    metrics = json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))["metrics"]
    assert (metrics["odd"], metrics["big"]) == (None, None)


def test_csv_has_a_row_an_epoch_equal_to_the_record(tmp_path):
    run = train(tmp_path, epochs=3)
    assert [int(row["epoch"]) for row in rows(run)] == [1, 2, 3]
    assert [float(row["validation/loss"]) for row in rows(run)] == [e["validation/loss"] for e in run.history]


def test_a_column_that_appears_late_is_added_to_the_rows_before_it(tmp_path):
    run = train(tmp_path, plugin(epoch_end=lambda run: run.log({"late": run.epoch}) if run.epoch == 2 else None))
    assert [row["late"] for row in rows(run)] == ["", "2.0"]
    assert len(rows(run)) == 2


@pytest.mark.parametrize("epochs", [1, 3])
def test_the_csv_equals_the_history_also_in_what_is_not_finite_and_in_what_fit_end_logs(tmp_path, epochs):
    odd = {1: float("nan"), 2: float("inf"), 3: float("-inf")}
    logs = plugin(
        epoch_end=lambda run: run.log({"odd": odd[run.epoch]} | ({"late": float("nan")} if run.epoch == 2 else {})),
        fit_end=lambda run: run.log({"whole": 7.5}),
    )
    run = train(tmp_path, logs, task=Tiny(test_rows=3), epochs=epochs)
    assert run.history[-1]["whole"] == 7.5
    written = [{name: float(value) for name, value in row.items() if value} for row in rows(run)]
    assert repr([dict(sorted(row.items())) for row in written]) == repr(
        [{name: float(value) for name, value in sorted(entry.items())} for entry in run.history]
    )
    assert [row["epoch"] for row in rows(run)] == [str(number) for number in range(1, epochs + 1)]


def test_csv_can_be_left_out(tmp_path):
    made = engine(Tiny(), MetricsLog(csv=False), folder=tmp_path / "run")
    made.fit()
    assert not (tmp_path / "run" / "metrics.csv").exists()


def test_an_epochs_line_is_on_disk_when_the_next_one_fails(tmp_path):
    def fail(run):
        if run.epoch == 2:
            raise ValueError("broken")

    made = engine(Tiny(), MetricsLog(), plugin("p", phase=Phase.MEASURE, batch_end=fail), folder=tmp_path / "run")
    with pytest.raises(PluginError):
        made.fit()
    assert [line["event"] for line in lines(made.run)] == ["epoch", "end"]
    assert lines(made.run)[-1]["status"] == "failed"


def test_a_run_that_fails_before_the_log_is_open_says_only_what_failed(tmp_path, caplog):
    def fail(run):
        raise ValueError("broken")

    made = engine(Tiny(), MetricsLog(), plugin("first", setup=fail), folder=tmp_path / "run")
    with pytest.raises(PluginError, match="broken"):
        made.fit()
    assert caplog.text == ""


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    engine(Tiny(), MetricsLog()).fit()
    assert list(tmp_path.iterdir()) == []
