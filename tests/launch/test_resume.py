"""A run that goes on from a checkpoint equals, bit for bit, one that never stopped."""

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nets import Given, dense, images, regression
from tiny import Recorder, Tiny, engine, plugin

from trainer import Phase, Plugin, PluginError, UsageError, fit, resume
from trainer.catalog.registry import create_plugin
from trainer.mxnet import gluon, mx
from trainer.runs import checkpoint
from trainer.runs.state import capture, differences
from trainer_plugins.logreg import LogisticRegression
from trainer_plugins.metrics_log import MetricsLog
from trainer_plugins.report.plugin import Report
from trainer_plugins.tensorboard.plugin import TensorBoard


class Killed(Exception):
    """What stands for the end of the process."""


class KillAt(Plugin):
    """Ends the run behind the checkpoint of a step, as abruptly as it can be done within one process."""

    phase = Phase.REPORT
    name = "kill"

    def __init__(self, step: int, *, after_epoch: bool = False) -> None:
        self.step, self.after_epoch = step, after_epoch

    def on_batch_end(self, run: Any) -> None:
        if run.step == self.step and not self.after_epoch:
            run.save("before the end")

    def on_epoch_end(self, run: Any) -> None:
        if run.step == self.step and self.after_epoch:
            run.save("before the end")

    def on_checkpoint(self, run: Any) -> None:
        raise Killed


class AtTheEnd(Plugin):
    """Keeps the state at the end of training."""

    phase = Phase.REPORT
    name = "end"

    def on_fit_end(self, run: Any) -> None:
        self.state = capture(run, run._state)


def plugins_of(make):
    return make() if make else []


def both_ways(
    tmp_path, task, at, *, make=None, after_epoch=False, compiled=True, devices="cpu", resumed_on=None, **values
):
    """The states at the end of a run that was never stopped, and of one that was killed at a step and resumed."""
    whole, cut = AtTheEnd(), AtTheEnd()
    folder = tmp_path / "run"
    engine(task(), *plugins_of(make), whole, compiled=compiled, devices=devices, **values).fit()
    kill = KillAt(at, after_epoch=after_epoch)
    with pytest.raises(PluginError):
        engine(task(), *plugins_of(make), kill, folder=folder, compiled=compiled, devices=devices, **values).fit()
    again = engine(
        task(),
        *plugins_of(make),
        cut,
        folder=folder,
        compiled=compiled,
        devices=resumed_on or devices,
        resume_from=checkpoint.complete_checkpoints(folder)[0],
        **values,
    )
    assert again.run.resumed
    assert again.run.step == at
    again.fit()
    for state in (whole.state, cut.state):
        state["plugins"] = {name: part for name, part in state["plugins"].items() if name not in ("kill", "end")}
    return whole.state, cut.state


def same(tmp_path, task, at, **values):
    whole, cut = both_ways(tmp_path, task, at, **values)
    assert differences(whole, cut) == []
    assert whole["run"]["step"] > at


def of(*nets, rows=23, **values):
    return lambda: Given(regression(rows, **values), regression(7, seed=1, **values), make_net=lambda: dense(*nets))


ALL_OPTIMIZERS = sorted(
    name for name in mx.optimizer.Optimizer.opt_registry if name not in {"test", "groupadagrad", "ccsgd"}
)


@pytest.mark.parametrize("name", ALL_OPTIMIZERS)
def test_every_optimizer_continues_exactly(tmp_path, name):
    optimizer = {"name": name, "learning_rate": 0.01}
    if name in {"sgd", "nag", "signum", "lbsgd"}:
        optimizer["momentum"] = 0.9
    if name == "lbsgd":
        optimizer["batch_scale"] = 2
    same(tmp_path, of(4, 3), 7, optimizer=optimizer, epochs=2, batch_size=5)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "recorded"])
@pytest.mark.parametrize("at", [1, 2, 4, 5, 6, 9, 14])
def test_any_step_can_be_gone_on_from(tmp_path, at, compiled):
    same(tmp_path, of(4), at, compiled=compiled, epochs=3, batch_size=5, optimizer={"name": "adam"})


@pytest.mark.parametrize("at", [5, 10])
def test_the_end_of_an_epoch_can_be_gone_on_from(tmp_path, at):
    same(tmp_path, of(4), at, after_epoch=True, epochs=3, batch_size=5)


def with_dropout(norm=False):
    return lambda: Given(regression(60), regression(7, seed=1), make_net=lambda: dense(8, 4, dropout=0.4, norm=norm))


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "recorded"])
@pytest.mark.parametrize("at", [1, 7, 12, 13, 20])
def test_dropout_draws_the_same_numbers(tmp_path, at, compiled):
    same(tmp_path, with_dropout(), at, compiled=compiled, epochs=3, batch_size=5)


@pytest.mark.parametrize("block", [1, 3])
def test_dropout_draws_the_same_numbers_whatever_the_length_of_a_block(tmp_path, monkeypatch, block):
    monkeypatch.setattr("trainer.seeding.SEED_BLOCK", block)
    same(tmp_path, with_dropout(norm=True), 8, epochs=2, batch_size=5)


def test_dropout_draws_the_same_numbers_behind_an_evaluation_within_the_epoch(tmp_path):
    def make():
        return [plugin("look", batch_end=lambda run: run.evaluate("now") if run.step % 4 == 0 else None)]

    same(tmp_path, with_dropout(), 6, make=make, epochs=2, batch_size=5)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "recorded"])
def test_running_statistics_continue_exactly(tmp_path, compiled):
    def convolution():
        net = gluon.nn.HybridSequential()
        net.add(gluon.nn.Conv2D(4, 3), gluon.nn.BatchNorm(), gluon.nn.Dropout(0.3), gluon.nn.Dense(1))
        return net

    same(tmp_path, lambda: Given(images(20), make_net=convolution), 6, compiled=compiled, epochs=3, batch_size=4)


@pytest.mark.parametrize("at", [3, 8])
def test_several_contexts_continue_exactly(tmp_path, at):
    same(tmp_path, of(4, weighted=True), at, devices="cpu:0,1,2", epochs=2, batch_size=5)


def test_another_number_of_contexts_can_continue(tmp_path):
    whole, cut = both_ways(tmp_path, of(4), 7, devices="cpu:0,1", resumed_on="cpu:0", epochs=2, batch_size=5)
    for name, value in whole["parameters"].items():
        assert np.abs(value - cut["parameters"][name]).max() < 1e-6
    assert cut["run"]["metrics"]["train/loss"] == pytest.approx(whole["run"]["metrics"]["train/loss"], rel=1e-6)


def test_a_data_loader_continues_exactly(tmp_path):
    def loaded():
        data = regression(23)
        dataset = gluon.data.ArrayDataset(data.features, data.labels)
        return Given(gluon.data.DataLoader(dataset, batch_size=5, shuffle=True), make_net=lambda: dense(4))

    same(tmp_path, loaded, 7, epochs=3)


def installed(*given):
    return lambda: [create_plugin(name, options, where="here") for name, options in given]


PLUGINS = {
    "everything": [
        ("lr-schedule", {"schedule": "cosine", "warmup": 1}),
        ("gradient-accumulation", {"batches": 3}),
        ("gradient-clipping", {"norm": 0.5}),
        ("threshold-tuner", {"min-rows": 2}),
        ("early-stopping", {"patience": 2, "restore-best": True}),
        ("early-stopping@f1", {"monitor": "validation/f1", "patience": 3}),
        ("stop-on-non-finite", {}),
    ],
    "plateau": [("lr-schedule", {"schedule": "plateau", "patience": 1})],
    "exponential average": [("weight-averaging", {"decay": 0.5}), ("early-stopping", {"restore-best": True})],
    "stochastic average": [("weight-averaging", {"kind": "stochastic"})],
    "accumulation": [("gradient-accumulation", {"batches": 4})],
    "penalties": [("proximal", {"l1": 0.02, "l2": 0.01}), ("gradient-accumulation", {"batches": 2})],
}


@pytest.mark.parametrize("given", PLUGINS.values(), ids=PLUGINS)
@pytest.mark.parametrize("at", [2, 7, 11])
def test_plugins_continue_exactly(tmp_path, given, at):
    def task():
        made = Tiny(train_rows=40, validation_rows=20, test_rows=10, make_net=lambda: dense(6, 1, dropout=0.2))
        made.threshold = 0.5
        return made

    same(tmp_path, task, at, make=installed(*given), epochs=6, batch_size=6, optimizer={"name": "adam"})


def test_what_fires_is_what_would_have_fired(tmp_path):
    folder, whole = tmp_path / "run", Recorder()
    engine(Tiny(), whole).fit()
    first, second = Recorder(), Recorder()
    with pytest.raises(PluginError):
        engine(Tiny(), KillAt(3), first, folder=folder).fit()
    engine(Tiny(), second, folder=folder, resume_from=checkpoint.complete_checkpoints(folder)[0]).fit()
    # Both processes begin with setup and fit_begin; between them nothing fires twice, and nothing is left out.
    before = first.events[: first.events.index("exception")]
    assert second.events[:2] == ["setup", "fit_begin"]
    assert before + second.events[2:] == whole.events


def test_an_open_request_is_still_open(tmp_path):
    stop = plugin(phase=Phase.DECIDE, batch_end=lambda run: run.stop("enough") if run.step == 3 else None)
    folder, seen = tmp_path / "run", Recorder()
    with pytest.raises(PluginError):
        engine(Tiny(train_rows=8), stop, KillAt(3), folder=folder).fit()
    again = engine(Tiny(train_rows=8), seen, folder=folder, resume_from=checkpoint.complete_checkpoints(folder)[0])
    run = again.fit()
    assert (run.status, run.reason, run.step) == ("stopped", "enough", 3)
    assert "batch_end" not in seen.events
    assert "epoch_end" in seen.events


def test_a_run_whose_rows_were_divided_in_another_way_is_not_resumed(tmp_path):
    class Cut(Tiny):
        version: int | None = 1

        def splits(self, run):
            return replace(super().splits(run), split_version=self.version)

    folder = tmp_path / "run"
    with pytest.raises(PluginError):
        engine(Cut(train_rows=8), KillAt(3), folder=folder).fit()
    saved = checkpoint.complete_checkpoints(folder)[0]
    # The same task with the version of the same way is resumed.
    engine(Cut(train_rows=8), folder=tmp_path / "other", resume_from=saved)
    for other in (2, None):
        Cut.version = other
        with pytest.raises(UsageError, match=r"divides the rows .* in another way"):
            engine(Cut(train_rows=8), folder=folder, resume_from=saved)


class Other(Tiny):
    """Rows of which one value can be changed."""

    change: float = 0.0

    def splits(self, run):
        made = super().splits(run)
        made.train.features[2, 1] += self.change
        return made


@pytest.fixture
def other():
    yield Other
    Other.change = 0.0


def test_other_data_are_refused_by_name_unless_they_are_accepted(tmp_path, other, caplog):
    folder = tmp_path / "run"
    with pytest.raises(PluginError):
        engine(other(train_rows=8), KillAt(3), folder=folder).fit()
    saved = checkpoint.complete_checkpoints(folder)[0]
    recorded = json.loads((folder / "run.json").read_text())["data"]
    assert recorded["tables"]["train"]["rows"] == 8
    engine(other(train_rows=8), folder=folder, resume_from=saved)
    other.change = 1e-6
    changed = r"the data have changed: train: the values differ in the column X\."
    with pytest.raises(UsageError, match=changed):
        engine(other(train_rows=8), folder=folder, resume_from=saved)
    with pytest.raises(UsageError, match=changed):
        engine(other(train_rows=8), folder=folder, start_over=True)
    run = engine(other(train_rows=8), folder=folder, resume_from=saved, changed_data="ok").fit()
    assert run.status == "finished"
    assert "the run continues with the new ones" in caplog.text
    assert json.loads((folder / "run.json").read_text())["data"] != recorded


def test_with_more_or_fewer_rows_a_run_continues_at_the_end_of_an_epoch(tmp_path):
    def killed_after(step, *, after_epoch):
        folder = tmp_path / f"run-{step}"
        with pytest.raises(PluginError):
            engine(Tiny(train_rows=8), KillAt(step, after_epoch=after_epoch), folder=folder, batch_size=2).fit()
        return {"folder": folder, "resume_from": checkpoint.complete_checkpoints(folder)[0], "batch_size": 2}

    at_the_end = killed_after(4, after_epoch=True)
    with pytest.raises(UsageError, match="train: it has 4 rows, and had 8"):
        engine(Tiny(train_rows=4), **at_the_end)
    assert engine(Tiny(train_rows=4), **at_the_end, changed_data="ok").fit().step == 4 + 2
    within = killed_after(3, after_epoch=False)
    with pytest.raises(UsageError, match=r"at step 3 of an epoch, and with the new data an epoch has 2.*--from"):
        engine(Tiny(train_rows=4), **within, changed_data="ok")


def test_saving_does_not_change_training(tmp_path):
    quiet, saved = AtTheEnd(), AtTheEnd()
    saving = plugin(batch_end=lambda run: run.save("always"))
    engine(with_dropout()(), quiet, batch_size=5).fit()
    engine(with_dropout()(), saving, saved, batch_size=5, folder=tmp_path / "run").fit()
    assert differences(quiet.state["parameters"] | {"run": {}}, saved.state["parameters"] | {"run": {}}) == []
    assert len(checkpoint.complete_checkpoints(tmp_path / "run")) == 24


class Counter(Plugin):
    """Counts batches, and keeps an array of their numbers."""

    name = "counter"

    def __init__(self) -> None:
        self.count, self.numbers = 0, np.zeros(0)

    def on_batch_end(self, run: Any) -> None:
        self.count += 1
        self.numbers = np.append(self.numbers, run.step)

    def state_dict(self) -> Mapping[str, Any]:
        return {"count": self.count, "numbers": self.numbers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count, self.numbers = state["count"], state["numbers"]


def killed(tmp_path, *plugins, at=3, **values):
    folder = tmp_path / "run"
    with pytest.raises(PluginError):
        engine(Tiny(train_rows=8), *plugins, KillAt(at), folder=folder, **values).fit()
    return folder, checkpoint.complete_checkpoints(folder)[0]


def test_a_plugins_state_is_there_before_setup(tmp_path):
    folder, saved = killed(tmp_path, Counter())
    counter, seen = Counter(), []
    looking = plugin("look", setup=lambda run: seen.append((run.resumed, run.step, counter.count)))
    engine(Tiny(train_rows=8), counter, looking, folder=folder, resume_from=saved).fit()
    assert seen == [(True, 3, 3)]
    assert counter.numbers.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_the_state_of_a_plugin_that_is_missing_is_reported_and_kept(tmp_path, caplog):
    folder, saved = killed(tmp_path, Counter())
    with pytest.raises(PluginError):
        engine(Tiny(train_rows=8), KillAt(5), folder=folder, resume_from=saved).fit()
    assert "state for plugin 'counter', which this run does not use; the state is kept" in caplog.text
    again = Counter()
    engine(Tiny(train_rows=8), again, folder=folder, resume_from=checkpoint.complete_checkpoints(folder)[0]).fit()
    assert again.numbers.tolist() == [1, 2, 3, 6, 7, 8]


def test_a_plugin_that_is_new_begins_afresh_and_is_reported(tmp_path, caplog):
    folder, saved = killed(tmp_path)
    counter = Counter()
    engine(Tiny(train_rows=8), counter, folder=folder, resume_from=saved).fit()
    assert counter.count == 5
    assert "no state for plugin 'counter', which starts from its initial state" in caplog.text


class Broken(Counter):
    name = "broken"

    def state_dict(self) -> Mapping[str, Any]:
        raise ValueError("no state")


def test_a_state_dict_that_fails_aborts_the_save_and_names_the_plugin(tmp_path):
    with pytest.raises(
        PluginError, match="plugin 'broken' in state_dict at epoch 1, step 3 raised ValueError: no state"
    ):
        engine(Tiny(train_rows=8), Broken(), KillAt(3), folder=tmp_path / "run").fit()
    assert checkpoint.complete_checkpoints(tmp_path / "run") == []


def test_an_observer_whose_state_dict_fails_is_switched_off_and_the_rest_is_saved(tmp_path):
    observer = Broken()
    observer.on_error = "disable"
    folder, saved = killed(tmp_path, observer)
    assert "broken" not in saved.read()["plugins"]
    assert [each["plugin"] for each in json.loads((folder / "run.json").read_text())["decisions"]][-1] == "broken"


def test_a_plugin_that_does_not_take_its_state_back_is_named(tmp_path):
    class Changed(Counter):
        def load_state_dict(self, state):
            state["other"]

    folder, saved = killed(tmp_path, Counter())
    with pytest.raises(PluginError, match="plugin 'counter' cannot load the state that it saved: KeyError"):
        engine(Tiny(train_rows=8), Changed(), folder=folder, resume_from=saved)


@pytest.mark.parametrize(
    ("task", "values", "message"),
    [
        (Tiny(train_rows=6), {}, "train: it has 6 rows, and had 8"),
        (Tiny(train_rows=8, make_net=lambda: dense(3)), {}, "the net is not the one that was saved: .*weight"),
        (Tiny(train_rows=8), {"optimizer": {"name": "adam"}}, "the optimizer is adam, but its saved states are .* sgd"),
    ],
)
def test_what_does_not_fit_the_checkpoint_is_said(tmp_path, task, values, message):
    folder, saved = killed(tmp_path)
    with pytest.raises(UsageError, match=message):
        engine(task, folder=folder, resume_from=saved, **values)


def test_the_record_continues_too(tmp_path):
    folder, saved = killed(tmp_path, Counter())
    before = json.loads((folder / "run.json").read_text())
    again = engine(Tiny(train_rows=8), Counter(), folder=folder, resume_from=saved)
    run = again.fit()
    after = json.loads((folder / "run.json").read_text())
    assert after["started"] == before["started"]
    assert (after["status"], after["step"]) == ("finished", 8)
    assert [each["plugin"] for each in after["decisions"]] == ["kill"]
    assert [entry["epoch"] for entry in run.history] == [1, 2]
    calls = {(row["plugin"], row["event"]): row["calls"] for row in after["ledger"]}
    assert calls["counter", "batch_end"] == 8


def test_a_checkpoint_of_a_step_that_failed_is_not_taken_for_an_exact_one(tmp_path):
    def fail(run):
        if run.step == 3:
            raise ValueError("broken")

    folder = tmp_path / "run"
    failing = plugin(
        "fail", batch_end=fail, fit_end=lambda run: run.save("it failed"), epoch_end=lambda run: run.save("epoch")
    )
    with pytest.raises(PluginError):
        engine(Tiny(train_rows=4), failing, folder=folder).fit()
    assert [(each.folder.name, each.is_exact) for each in checkpoint.complete_checkpoints(folder)] == [
        ("failed-00000003", False),
        ("step-00000002-epoch-0001", True),
    ]


def test_one_call_continues_with_a_run_of_instances(tmp_path, monkeypatch):
    from trainer import fit

    monkeypatch.chdir(tmp_path)
    task = Tiny(train_rows=8)
    whole = fit(Tiny(train_rows=8), epochs=4, plugins=[Counter()], name="whole")
    first = fit(task, epochs=2, plugins=["checkpoint", Counter()], name="first")
    assert first.folder is not None
    again = resume(first.folder, epochs=4, task=Tiny(train_rows=8), plugins=[Counter()])
    assert again.folder == first.folder
    assert (again.status, again.epoch, again.step) == ("finished", 4, 16)
    assert again.history == whole.history
    assert "epochs = 4" in (Path(first.folder) / "config.toml").read_text()


def test_a_checkpoint_holds_configuration_plugins_and_versions(tmp_path):
    _, saved = killed(tmp_path, *installed(("metrics-log", {"every": 7}))())
    made_by = saved.read()["made_by"]
    assert made_by["versions"]["mxnet"] == "1.9.1"
    (log,) = (each for each in made_by["plugins"] if each["name"] == "metrics-log")
    assert (log["distribution"], log["options"]["every"]) == ("gluon-trainer", 7)
    assert made_by["config"] == {"order": "rows"}


def test_other_versions_are_said(tmp_path, caplog, monkeypatch):
    folder, saved = killed(tmp_path)
    monkeypatch.setattr("trainer.runs.folder._version", lambda name: "9.9" if name == "numpy" else "1.9.1")
    engine(Tiny(train_rows=8), folder=folder, resume_from=saved)
    assert "with numpy 1." in caplog.text
    assert "this is 9.9: the results may differ" in caplog.text


def test_warnings_are_the_only_thing_that_a_resumed_run_says(tmp_path, caplog):
    folder, saved = killed(tmp_path, Counter())
    with caplog.at_level(logging.DEBUG, "trainer"):
        engine(Tiny(train_rows=8), Counter(), folder=folder, resume_from=saved).fit()
    assert caplog.text == ""


@pytest.mark.parametrize("at", [6, 7])
def test_a_net_that_draws_numbers_in_evaluation_too_continues_exactly(tmp_path, at):
    def net():
        made = gluon.nn.HybridSequential()
        made.add(gluon.nn.Dense(6), AlwaysDropping(), gluon.nn.Dense(1))
        return made

    def make():
        return [plugin("look", batch_end=lambda run: run.evaluate("now") if run.step % 4 == 0 else None)]

    task = lambda: Given(regression(40), regression(7, seed=1), make_net=net)  # noqa: E731
    same(tmp_path, task, at, make=make, epochs=2, batch_size=5)


class AlwaysDropping(gluon.HybridBlock):
    """Dropout in inference too, as for a sample of what a net might say."""

    def hybrid_forward(self, F, x):
        return F.Dropout(x, p=0.5, mode="always")


def test_the_newer_checkpoints_of_an_abandoned_branch_are_never_resumed_from(tmp_path, caplog):
    folder = tmp_path / "run"
    saving = {"epoch_end": lambda run: run.save("always")}
    engine(Tiny(), MetricsLog(), plugin("saver", **saving), folder=folder, epochs=4).fit()
    whole = (folder / "metrics.jsonl").read_bytes()
    older = checkpoint.complete_checkpoints(folder)[2]
    assert older.step == 4

    def resumed(*plugins, epochs):
        at = checkpoint.complete_checkpoints(folder)[0]
        return engine(Tiny(), MetricsLog(), *plugins, folder=folder, resume_from=at, epochs=epochs)

    killed = plugin("kill", batch_end=lambda run: int("x"))
    with pytest.raises(PluginError):
        engine(Tiny(), MetricsLog(), killed, folder=folder, resume_from=older, epochs=4).fit()
    assert "step-00000008-epoch-0004, step-00000006-epoch-0003, moved to" in caplog.text
    assert len((folder / "metrics.jsonl").read_bytes()) < len(whole)
    # Killed before its first checkpoint, the new branch starts from where it branched off.
    again = resumed(plugin("saver", **saving), epochs=3)
    assert again.run.step == 4
    again.fit()
    assert resumed(epochs=6).run.step == 6
    aside = folder / "checkpoints" / "abandoned"
    assert sorted(path.name for path in aside.iterdir()) == ["step-00000006-epoch-0003", "step-00000008-epoch-0004"]


def test_a_new_number_of_epochs_lifts_a_limit_of_steps_that_is_reached(tmp_path, caplog):
    first = fit(Tiny(), steps=3, batch_size=2, epochs=2, plugins=["checkpoint"], runs_dir=tmp_path, name="run")
    assert (first.status, first.step) == ("stopped", 3)
    again = resume(first.folder, epochs=3, task=Tiny())
    assert (again.status, again.epoch, again.settings.steps) == ("finished", 3, None)
    assert "the limit of 3 steps is reached and no longer applies" in caplog.text
    longer = resume(first.folder, steps=21, task=Tiny())
    assert (longer.status, longer.step) == ("stopped", 21)


def test_a_run_that_was_killed_after_its_last_checkpoint_shows_the_last_evaluation(tmp_path):
    kill = plugin("kill", phase=Phase.SAVE, epoch_end=lambda run: run.save("now"), checkpoint=lambda run: int("x"))

    def train(name, *plugins, **more):
        task = LogisticRegression(validation_rows=60, train_rows=60)
        return engine(task, Report(), TensorBoard(), *plugins, folder=tmp_path / name, epochs=1, **more).fit()

    whole = train("whole")
    with pytest.raises(PluginError):
        train("cut", kill)
    newest = checkpoint.complete_checkpoints(tmp_path / "cut")[0]
    assert newest.is_epoch_end
    cut = train("cut", resume_from=newest)
    reports = [json.loads((run.folder / "report.json").read_text())["splits"] for run in (whole, cut)]
    assert reports[0] == reports[1] != {}
    curves = [
        b"validation/pr-curve" in next((run.folder / "tensorboard").iterdir()).read_bytes() for run in (whole, cut)
    ]
    assert curves == [True, True]
