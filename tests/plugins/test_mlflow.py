"""Runs in MLflow: what is recorded, read back from a real database, and what happens when MLflow is not there."""

import json
import logging
import os
import shutil
import signal
import sqlite3
import sys
import time
from contextlib import nullcontext
from dataclasses import make_dataclass

import pytest
from packages import in_process, trainer
from tiny import Tiny, engine, plugin

from trainer import Interrupted, Phase, PluginError, UsageError
from trainer.catalog import registry
from trainer_plugins.mlflow import MLflow
from trainer_plugins.mlflow.record import newest_model


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """Making MLflow's tables takes seconds, so it is done once."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def runs(tmp_path, empty_database, monkeypatch):
    """A folder of runs with a database in it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    return folder


def recorder(**options):
    made = registry.create_plugin("mlflow", options, where="here")
    made.on_error = "abort"
    return made


def client(runs):
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{runs / 'mlflow.db'}")


def recorded(runs, experiment="tiny"):
    """The only run of an experiment."""
    store = client(runs)
    (found,) = store.search_runs([store.get_experiment_by_name(experiment).experiment_id])
    return found


def points(runs, name, run_id=None):
    """The points of a metric as (step, value), as they were sent."""
    history = client(runs).get_metric_history(run_id or recorded(runs).info.run_id, name)
    return [(point.step, point.value) for point in history]


def files(runs, run_id, path=None):
    found = []
    for entry in client(runs).list_artifacts(run_id, path):
        found += files(runs, run_id, entry.path) if entry.is_dir else [entry.path]
    return sorted(found)


# ---- what is recorded -----------------------------------------------------------------------------------------------


def test_the_metrics_of_each_epoch_are_there_at_their_steps(runs):
    run = engine(Tiny(train_rows=6, test_rows=2), recorder(), folder=runs / "tiny" / "one", epochs=3).fit()
    for name in ("train/loss", "validation/loss", "validation/f1"):
        assert points(runs, name) == [(entry["step"], entry[name]) for entry in run.history]
    assert points(runs, "test/loss") == [(9, run.metrics["test/loss"])]
    assert set(recorded(runs).data.metrics) == set(run.metrics)


def test_every_option_is_a_parameter_under_a_flat_name(runs):
    clipping = registry.create_plugin("gradient-clipping@a", {"norm": 2.5}, where="here")
    engine(Tiny(train_rows=6), recorder(), clipping, folder=runs / "tiny" / "one", optimizer={"name": "adam"}).fit()
    parameters = recorded(runs).data.params
    expected = {
        "epochs": "2",
        "batch-size": "2",
        "seed": "7",
        "optimizer.name": "adam",
        "optimizer.learning-rate": "0.1",
        "task.name": "tiny",
        "task.train-rows": "6",
        "task.weighted": "false",
        "gradient-clipping_a.norm": "2.5",
    }
    assert expected.items() <= parameters.items()
    assert not any("tracking" in name for name in parameters)


def test_tags_tell_status_versions_and_folder(runs):
    stop = plugin("stop", phase=Phase.DECIDE, epoch_end=lambda run: run.stop("that is enough"))
    run = engine(Tiny(), recorder(), stop, folder=runs / "tiny" / "one").fit()
    tags = recorded(runs).data.tags
    assert (tags["status"], tags["reason"], tags["folder"]) == ("stopped", "that is enough", str(run.folder))
    assert tags["version.mxnet"] == "1.9.1"
    assert {"version.gluon-trainer", "version.numpy", "version.python"} <= set(tags)


def test_experiment_and_name_are_the_tasks_and_the_folders_unless_given(runs):
    engine(Tiny(), recorder(), folder=runs / "tiny" / "one").fit()
    engine(Tiny(), recorder(experiment="trials", **{"run-name": "first"}), folder=runs / "tiny" / "two").fit()
    assert recorded(runs, "tiny").info.run_name == "one"
    assert recorded(runs, "trials").info.run_name == "first"


@pytest.mark.parametrize("every", [0, 1, 3])
def test_metrics_of_batches_are_recorded_where_they_are_asked_for(runs, every):
    losses = {}
    look = plugin("look", phase=Phase.MEASURE, batch_end=lambda run: losses.update({run.step: run.loss}))
    engine(Tiny(train_rows=8), look, recorder(every=every), folder=runs / "tiny" / "one").fit()
    wanted = [(step, loss) for step, loss in losses.items() if every and step % every == 0]
    assert points(runs, "train/batch-loss") == wanted
    assert points(runs, "learning-rate") == [(step, 0.1) for step, _ in wanted]


def test_metrics_are_sent_once_per_epoch(runs, monkeypatch):
    from mlflow import MlflowClient

    sent = []
    log_batch = MlflowClient.log_batch

    def counted(self, run_id, metrics=(), params=(), tags=(), **more):
        sent.append(len(metrics))
        return log_batch(self, run_id, metrics, params, tags, **more)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    engine(Tiny(train_rows=200), recorder(every=1), folder=runs / "tiny" / "one", epochs=3).fit()
    assert len([number for number in sent if number]) == 3


def test_long_epochs_are_sent_in_batches_that_mlflow_takes(runs):
    engine(Tiny(train_rows=1100), recorder(every=1), folder=runs / "tiny" / "one", epochs=1, batch_size=1).fit()
    assert [step for step, _ in points(runs, "train/batch-loss")] == list(range(1, 1101))


def test_what_mlflow_would_refuse_is_made_to_fit(runs):
    fields = [(f"option_{number}", str, "x" * 7000) for number in range(120)]
    task = make_dataclass("Wordy", fields, bases=(Tiny,), namespace={"name": "wordy"})()
    names = {"a [b] µ": 1.0, "/../c//d": 2.0, "e" * 300: 3.0, "f: g@h": float("nan"), "i": float("inf")}
    log = plugin("log", phase=Phase.MEASURE, epoch_end=lambda run: run.log(names))
    engine(task, log, recorder(), folder=runs / "wordy" / "one").fit()
    found = recorded(runs, "wordy").data
    assert [len(value) for name, value in found.params.items() if name.startswith("task.option-")] == [6000] * 120
    assert {"a _b_ µ", "c/d", "e" * 250, "f_ g_h", "i"} <= set(found.metrics)


def test_files_and_the_model_are_uploaded_at_the_end(runs):
    save = plugin("save", phase=Phase.SAVE, epoch_end=lambda run: run.save("to keep"))
    log = registry.create_plugin("metrics-log", {}, where="here")
    run = engine(Tiny(), recorder(), save, log, folder=runs / "tiny" / "one").fit()
    run_id = recorded(runs).info.run_id
    expected = ["config.toml", "metrics.csv", "metrics.jsonl", "plugins.json", "run.json"]
    found = files(runs, run_id)
    assert [path for path in found if "/" not in path] == expected
    assert {path.split("/")[0] for path in found if "/" in path} == {"model"}
    assert {"model/model.json", "model/model-symbol.json", "model/model-0000.params"} <= set(found)
    stored = client(runs).download_artifacts(run_id, "", str(runs))
    uploaded = json.loads((runs / "run.json").read_text())
    assert stored
    assert (uploaded["status"], uploaded["step"]) == ("finished", run.step)
    assert (runs / "metrics.jsonl").read_text() == (run.folder / "metrics.jsonl").read_text()


def test_files_lie_beside_the_database_and_not_where_the_process_runs(runs, tmp_path):
    engine(Tiny(), recorder(), folder=runs / "tiny" / "one").fit()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]
    assert sorted(path.name for path in runs.iterdir()) == ["mlartifacts", "mlflow.db", "tiny"]


def test_files_can_be_left_out(runs):
    engine(Tiny(), recorder(artifacts=False), folder=runs / "tiny" / "one").fit()
    assert files(runs, recorded(runs).info.run_id) == []


def test_the_newest_checkpoint_of_a_run_that_did_not_end_is_uploaded(runs):
    save = plugin("save", phase=Phase.SAVE, epoch_end=lambda run: run.save("to keep"))
    broken = plugin("broken", phase=Phase.REPORT, epoch_begin=lambda run: 1 / (run.epoch - 2))
    made = engine(Tiny(), recorder(), save, broken, folder=runs / "tiny" / "one")
    with pytest.raises(PluginError):
        made.fit()
    folders = {path.split("/")[0] for path in files(runs, recorded(runs).info.run_id) if "/" in path}
    assert folders == {"step-00000002-epoch-0001"}


def test_the_model_is_its_folder_or_else_the_newest_checkpoint(tmp_path):
    assert newest_model(tmp_path) is None
    for name in ("step-00000009", "step-00000010", "step-00000010-epoch-2", ".step-00000011.ab", "failed-00000012"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert newest_model(tmp_path).name == "step-00000010-epoch-2"
    (tmp_path / "model").mkdir()
    assert newest_model(tmp_path, has_ended=False).name == "step-00000010-epoch-2"
    assert newest_model(tmp_path) == tmp_path / "model"


# ---- how it ends ----------------------------------------------------------------------------------------------------


def fail(run):
    raise ValueError("no more")


@pytest.mark.parametrize(
    ("happening", "error", "status", "tag"),
    [
        (lambda run: None, None, "FINISHED", "finished"),
        (lambda run: run.stop("enough"), None, "FINISHED", "stopped"),
        (lambda run: os.kill(os.getpid(), signal.SIGTERM), Interrupted, "KILLED", "interrupted"),
        (fail, PluginError, "FAILED", "failed"),
    ],
)
def test_the_mlflow_run_ends_as_the_run_does(runs, happening, error, status, tag):
    happens = plugin("happens", phase=Phase.DECIDE, batch_end=happening)
    with pytest.raises(error) if error else nullcontext():
        engine(Tiny(), recorder(), happens, folder=runs / "tiny" / "one").fit()
    found = recorded(runs)
    assert (found.info.status, found.data.tags["status"]) == (status, tag)
    assert "run.json" in files(runs, found.info.run_id)


def test_a_run_that_cannot_begin_leaves_no_mlflow_run(runs):
    def refuse(run):
        raise UsageError("not like this")

    with pytest.raises(UsageError, match="not like this"):
        engine(
            Tiny(), recorder(), plugin("refuse", phase=Phase.REPORT, setup=refuse), folder=runs / "tiny" / "one"
        ).fit()
    assert client(runs).search_runs([client(runs).get_experiment_by_name("tiny").experiment_id]) == []


def test_a_store_that_fails_in_mid_run_switches_it_off_and_the_run_continues(runs, caplog):
    def break_it(run):
        if run.epoch == 2:
            with sqlite3.connect(runs / "mlflow.db") as connection:
                connection.execute("DROP TABLE metrics")

    made = recorder()
    made.on_error = type(made).on_error
    breaking = plugin("break", phase=Phase.DECIDE, epoch_begin=break_it)
    run = engine(Tiny(), made, breaking, folder=runs / "tiny" / "one", epochs=4).fit()
    assert (run.status, run.epoch) == ("finished", 4)
    assert [(each.plugin, each.action, each.epoch) for each in run.decisions] == [("mlflow", "disable", 2)]
    assert "plugin 'mlflow' in on_epoch_end at epoch 2" in caplog.text
    assert "no such table: metrics" in caplog.text


def test_a_failed_upload_still_ends_the_mlflow_run(runs):
    # The folder for the files cannot be made, because a file has its name.
    (runs / "mlartifacts").write_text("")
    with pytest.raises(PluginError, match="mlartifacts"):
        engine(Tiny(), recorder(), folder=runs / "tiny" / "one").fit()
    assert recorded(runs).info.status == "FINISHED"


# ---- resuming -------------------------------------------------------------------------------------------------------


def first_process(runs, at_epoch, **options):
    """A run that is killed: its state at the end of an epoch, as a checkpoint holds it, and the run as it went on."""
    made, states = recorder(**options), {}
    save = plugin(
        "save",
        phase=Phase.REPORT,
        epoch_end=lambda run: states.update({run.epoch: json.loads(json.dumps(made.state_dict()))}),
    )
    type(save).before = ("mlflow",)
    run = engine(Tiny(train_rows=6), save, made, folder=runs / "tiny" / "one", epochs=4).fit()
    return states[at_epoch], run


def second_process(runs, state, before, at_epoch, **options):
    """Goes on after that epoch with what the first one had computed, as a resumed run does."""
    made = recorder(**options)
    second = engine(Tiny(train_rows=6), made, folder=runs / "tiny" / "one", epochs=options.get("epochs", 4))
    run, fire = second.run, second.dispatch
    run.resumed, run.epoch, run.step = True, at_epoch, before.history[at_epoch - 1]["step"]
    run._state.log.history = [dict(entry) for entry in before.history[:at_epoch]]
    made.load_state_dict(state)
    fire.setup(run)
    fire.fit_begin(run)
    for entry in before.history[at_epoch:]:
        run.epoch, run.step = entry["epoch"], entry["step"]
        run._state.log.of_epoch = {name: value for name, value in entry.items() if name not in ("epoch", "step")}
        fire.epoch_end(run)
    run.status = "finished"
    fire.teardown(run)
    return run


def test_a_resumed_run_continues_in_the_same_mlflow_run_without_a_point_twice(runs):
    state, before = first_process(runs, at_epoch=2)
    client(runs).set_terminated(state["run_id"], "KILLED")
    before.history.append({**before.history[-1], "epoch": 5, "step": before.step + 3})
    second_process(runs, state, before, at_epoch=2)
    found = recorded(runs)
    assert (found.info.run_id, found.info.status) == (state["run_id"], "FINISHED")
    for name in ("train/loss", "validation/f1"):
        assert points(runs, name) == [(entry["step"], entry[name]) for entry in before.history]


def test_points_that_a_killed_process_had_not_sent_are_sent_by_the_next(runs):
    state, before = first_process(runs, at_epoch=3, every=1)
    with sqlite3.connect(runs / "mlflow.db") as connection:
        connection.execute("DELETE FROM metrics WHERE step > 6")
        connection.execute("DELETE FROM latest_metrics")
        connection.execute(
            "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid)"
            " SELECT key, value, timestamp, max(step), is_nan, run_uuid FROM metrics GROUP BY key"
        )
    second_process(runs, state, before, at_epoch=3, every=1)
    assert [step for step, _ in points(runs, "train/batch-loss")] == list(range(1, 10))
    assert points(runs, "train/loss") == [(entry["step"], entry["train/loss"]) for entry in before.history]


def test_an_mlflow_run_that_is_gone_is_replaced_by_one_with_the_whole_history(runs, caplog):
    state, before = first_process(runs, at_epoch=2)
    client(runs).delete_run(state["run_id"])
    second_process(runs, state, before, at_epoch=2)
    found = recorded(runs)
    assert found.info.run_id != state["run_id"]
    assert points(runs, "train/loss") == [(entry["step"], entry["train/loss"]) for entry in before.history]
    assert f"the MLflow run {state['run_id']} cannot be continued" in caplog.text


def test_an_option_that_a_resumed_run_has_changed_is_told_in_a_tag(runs):
    state, before = first_process(runs, at_epoch=2)
    made = recorder()
    second = engine(Tiny(train_rows=6), made, folder=runs / "tiny" / "one", epochs=9)
    run, fire = second.run, second.dispatch
    run.resumed = True
    run._state.log.history = before.history
    made.load_state_dict(state)
    fire.setup(run)
    fire.fit_begin(run)
    found = recorded(runs).data
    assert (found.params["epochs"], found.tags["resumed with epochs"]) == ("4", "9")


def test_a_plugin_that_was_added_to_a_resumed_run_records_its_history_too(runs):
    _, before = first_process(runs, at_epoch=2)
    second_process(runs, {"run_id": None, "pending": []}, before, at_epoch=2, experiment="later")
    run_id = recorded(runs, "later").info.run_id
    assert [step for step, _ in points(runs, "train/loss", run_id)] == [3, 6, 9, 12]


# ---- where it is recorded -------------------------------------------------------------------------------------------


def test_the_environment_says_where_unless_the_option_does(runs, tmp_path, monkeypatch):
    for name in ("environment", "option"):
        (tmp_path / name).mkdir()
        shutil.copy(runs / "mlflow.db", tmp_path / name / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/environment/mlflow.db")
    engine(Tiny(), recorder(), epochs=1).fit()
    engine(Tiny(), recorder(**{"tracking-uri": f"sqlite:///{tmp_path}/option/mlflow.db"}), epochs=3).fit()
    assert recorded(tmp_path / "environment").data.params["epochs"] == "1"
    assert recorded(tmp_path / "option").data.params["epochs"] == "3"


def test_a_run_that_writes_nothing_has_to_be_told_where(runs):
    with pytest.raises(UsageError, match=r"without a folder needs a tracking URI.*mlflow\.tracking-uri=URI"):
        engine(Tiny(), recorder()).fit()


def not_a_database(tmp_path):
    (tmp_path / "table.csv").write_text("a,b\n1,2\n" * 1000)
    return f"sqlite:///{tmp_path}/table.csv"


@pytest.mark.parametrize(
    ("uri", "what"),
    [
        # Port 9 is nobody's: the connection is refused at once.
        ("http://127.0.0.1:9", "failed with exception"),
        ("htp://somewhere", "unsupported URI 'htp://somewhere'"),
        (not_a_database, "file is not a database"),
        ("postgresql+nothing://somewhere/db", "postgresql.nothing"),
        ("mlruns", "filesystem tracking backend"),
    ],
)
def test_a_store_that_cannot_be_used_is_an_error_before_training_and_at_once(runs, tmp_path, monkeypatch, uri, what):
    def wait(seconds):
        raise AssertionError(f"waiting for {seconds} s")

    monkeypatch.setattr(time, "sleep", wait)
    uri = uri if isinstance(uri, str) else uri(tmp_path)
    with pytest.raises(UsageError) as caught:
        engine(Tiny(), recorder(**{"tracking-uri": uri}), folder=runs / "tiny" / "one").fit()
    assert what in caught.value.what
    assert caught.value.fix == "Check --set mlflow.tracking-uri, or MLFLOW_TRACKING_URI."
    assert not (runs / "tiny").exists()


def test_a_password_is_not_shown(runs):
    with pytest.raises(UsageError, match=r"at http://…@127\.0\.0\.1:9: ") as caught:
        engine(Tiny(), recorder(**{"tracking-uri": "http://me:secret@127.0.0.1:9"}), folder=runs / "tiny" / "one").fit()
    assert "secret" not in str(caught.value)


def test_an_experiment_that_was_deleted_is_an_error(runs):
    client(runs).delete_experiment(client(runs).create_experiment("tiny"))
    with pytest.raises(UsageError, match=r"the MLflow experiment 'tiny' was deleted.*mlflow\.experiment=NAME"):
        engine(Tiny(), recorder(), folder=runs / "tiny" / "one").fit()


@pytest.mark.parametrize("missing", ["mlflow", "sqlalchemy"])
def test_without_mlflow_the_error_names_the_extra(runs, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UsageError, match=r'pip install "gluon-trainer\[mlflow\]"'):
        engine(Tiny(), recorder(), folder=runs / "tiny" / "one").fit()


def test_the_environment_is_left_as_it_was(runs, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    before = {name: value for name, value in os.environ.items() if name != "MLFLOW_DISABLE_TELEMETRY"}
    seen = {}
    from trainer_plugins.mlflow.client import quiet

    with quiet(retries=0, timeout=5):
        seen.update(os.environ)
    engine(Tiny(), recorder(), folder=runs / "tiny" / "one").fit()
    assert (seen["MLFLOW_HTTP_REQUEST_TIMEOUT"], seen["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]) == ("3", "0")
    assert {name: value for name, value in os.environ.items() if name != "MLFLOW_DISABLE_TELEMETRY"} == before


@pytest.mark.slow
def test_on_the_command_line_it_says_nothing_of_its_own(tmp_path):
    """Its database is made here, too, by MLflow itself."""
    arguments = ["run", "logreg", "--epochs", "2", "--set", "task.train-rows=40"]
    plain = in_process(*arguments, cwd=tmp_path)
    watched = trainer(*arguments, "--plugin", "mlflow", cwd=tmp_path)
    assert (watched.returncode, watched.stderr) == (0, "")
    assert watched.stdout.splitlines()[:3] == plain.stdout.splitlines()[:3]
    assert len(watched.stdout.splitlines()) == len(plain.stdout.splitlines())
    assert recorded(tmp_path / "runs", "logreg").info.status == "FINISHED"


def test_it_is_a_plugin_that_only_watches():
    assert (MLflow.phase, MLflow.on_error) == (Phase.REPORT, "disable")
