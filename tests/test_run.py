"""The run: what plugins log and read, the history, and the record that is left on disk."""

import json
import math
import os
import signal
from itertools import pairwise

import numpy as np
import pytest
from nets import Given, MeanOverRows, regression, values
from tiny import Tiny, engine, plugin

from trainer import Interrupted, PluginError, Run, TrainerError, UsageError
from trainer.assignment import SETTABLE
from trainer.mxnet import mx
from trainer.runs.folder import record_of


def logged(value):
    """What a run holds after logging the value."""
    run = engine(Tiny()).run
    run.log({"x": value})
    return run.metrics["x"]


# ---- logging --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        2,
        2.0,
        True + True,
        np.float32(2),
        np.float64(2),
        np.int64(2),
        np.array(2.0),
        mx.nd.array([2.0]),
        mx.nd.array([[2]], dtype="int32"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_numbers_of_every_kind_are_logged_as_floats(value):
    assert logged(value) == 2.0
    assert type(logged(value)) is float


@pytest.mark.parametrize("value", [float("nan"), np.float32("nan"), mx.nd.array([np.nan])])
def test_nan_is_a_number(value):
    assert math.isnan(logged(value))


@pytest.mark.parametrize("value", [float("inf"), -np.inf])
def test_infinity_is_a_number(value):
    assert logged(value) == value


@pytest.mark.parametrize(
    "value",
    ["2", b"2", None, [2.0], {"a": 2}, 2j, object(), np.ones(3), np.array(["a"])],
    ids=lambda value: type(value).__name__,
)
def test_something_that_is_not_a_number_is_refused_by_name(value):
    with pytest.raises(TypeError, match=r"run.log takes numbers; 'x' is"):
        logged(value)


def test_an_array_of_several_elements_is_not_a_number():
    with pytest.raises(TypeError, match=r"run.log takes numbers; 'x' is"):
        logged(mx.nd.ones(3))


def test_an_error_in_logging_names_the_plugin():
    with pytest.raises(PluginError, match=r"plugin 'sensor' in on_batch_end .* 'a/b' is a NoneType"):
        engine(Tiny(), plugin("sensor", batch_end=lambda run: run.log({"a/b": None}))).fit()


def test_metrics_of_a_batch_last_for_the_batch_and_those_of_an_epoch_for_the_epoch():
    seen = []

    def log(run):
        if run.step != 2:
            run.log({"a": run.step})

    def look(run):
        seen.append((run.step, dict(run.step_metrics), run.epoch_metrics.get("a"), run.epoch_metrics.get("b")))

    watching = plugin(
        "log", epoch_begin=lambda run: run.log({"b": run.epoch * 10}), backward_end=log, epoch_end=lambda run: None
    )
    run = engine(Tiny(), watching, plugin("look", batch_end=look)).fit()
    assert seen == [
        (1, {"a": 1.0}, 1.0, 10.0),
        (2, {}, 1.0, 10.0),
        (3, {"a": 3.0}, 3.0, 20.0),
        (4, {"a": 4.0}, 4.0, 20.0),
    ]
    assert run.metrics["a"] == 4.0


def test_what_is_logged_between_batches_belongs_to_the_epoch_alone():
    seen = []
    watching = plugin(
        evaluate_end=lambda run: run.log({"late": 1}), epoch_end=lambda run: seen.append(dict(run.step_metrics))
    )
    run = engine(Tiny(), watching, epochs=1).fit()
    assert all("late" not in metrics for metrics in seen)
    assert run.history[0]["late"] == 1.0


def test_the_history_has_an_entry_an_epoch():
    run = engine(Tiny(), plugin(batch_end=lambda run: run.log({"mine": run.step})), epochs=3).fit()
    assert [(entry["epoch"], entry["step"], entry["mine"]) for entry in run.history] == [
        (1, 2, 2),
        (2, 4, 4),
        (3, 6, 6),
    ]
    assert all({"train/loss", "validation/loss", "validation/f1"} <= set(entry) for entry in run.history)
    assert all(type(value) in (int, float) for entry in run.history for value in entry.values())


def test_the_history_of_an_epoch_does_not_change_afterwards():
    seen = []
    run = engine(Tiny(), plugin(epoch_end=lambda run: seen.append(dict(run.history[-1])))).fit()
    assert run.history == seen


# ---- loss and learning rate -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "recorded"])
def test_a_loss_read_early_in_a_batch_is_that_of_the_one_before_and_does_not_stay(compiled):
    begin, middle, end = [], [], []
    watching = plugin(
        batch_begin=lambda run: begin.append(run.loss),
        backward_end=lambda run: middle.append(run.loss),
        batch_end=lambda run: end.append(run.loss),
    )
    engine(Tiny(train_rows=8), watching, epochs=1, compiled=compiled).fit()
    assert len(set(end)) == 4
    assert middle == end
    assert math.isnan(begin[0])
    assert begin[1:] == end[:-1]


def test_before_the_first_batch_there_is_no_loss():
    assert math.isnan(engine(Tiny()).run.loss)


def test_an_evaluation_does_not_change_the_loss_of_the_batch():
    before, after = [], []
    watching = plugin(
        batch_end=lambda run: (before.append(run.loss), run.evaluate("look")),
        evaluate_end=lambda run: after.append(run.loss),
    )
    engine(Tiny(), watching, epochs=1).fit()
    assert before == after[:2]


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_learning_rate_that_is_set_holds_from_the_next_update(name):
    seen, weights = [], []

    def change(run):
        seen.append(run.learning_rate)
        run.learning_rate = 0.0 if run.step in (2, 3) else 0.05

    watching = plugin(backward_end=change, batch_end=lambda run: weights.append(values(run)))
    optimizer = {"name": name, "learning_rate": 0.1}
    run = engine(Given(regression(8)), watching, batch_size=2, epochs=1, optimizer=optimizer).fit()
    assert seen == [0.1, 0.05, 0.0, 0.0]
    assert run.learning_rate == 0.05
    moved = [any((first[name] != second[name]).any() for name in first) for first, second in pairwise(weights)]
    assert moved == [False, False, True]


BUILT_LATER = ("net", "optimizer", "train", "validation", "loss", "losses", "outputs", "gradients", "learning_rate")
BUILT_LATER += ("moving_weights", "steps_per_epoch", "symbol", "step_kind", "optimizer_states", "task_metrics")


def test_what_exists_only_after_building_raises_one_clear_error_before():
    seen = {}

    class Curious(Tiny):
        def splits(self, run):
            for name in BUILT_LATER:
                with pytest.raises(TrainerError, match=r"the run has no \w+ yet: it is built after") as error:
                    getattr(run, name)
                seen[name] = str(error.value)
            with pytest.raises(TrainerError, match="the run has no step yet"):
                run.copy_weights()
            assert not hasattr(run, "net")
            assert run.metrics == {}
            return super().splits(run)

    engine(Curious()).fit()
    assert list(seen) == list(BUILT_LATER)


def test_a_name_that_a_run_does_not_have_is_an_attribute_error():
    with pytest.raises(AttributeError, match="a run has no attribute 'epcoh'"):
        _ = engine(Tiny()).run.epcoh


def test_a_request_needs_its_reason():
    run = engine(Tiny()).run
    for ask in (run.stop, run.end_epoch, run.save, run.evaluate):
        for reason in ("", None, True):
            with pytest.raises(TrainerError, match="needs its reason"):
                ask(reason)


def test_a_request_that_is_made_again_counts_up():
    run = engine(Tiny(train_rows=8), plugin("saver", batch_end=lambda run: run.save("every batch")), epochs=1).fit()
    (decision,) = run.decisions
    assert (decision.plugin, decision.action, decision.reason) == ("saver", "save", "every batch")
    assert (decision.step, decision.count, decision.last_step) == (1, 4, 4)


# ---- what is left on disk -------------------------------------------------------------------------------------------


def record(folder):
    return json.loads((folder / "run.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


def odd_figures(run):
    run.log({"nan": float("nan"), "infinite": float("inf"), "number": np.float32(1.5), "array": mx.nd.ones(1)})


def test_the_record_is_json_whatever_was_logged(tmp_path):
    run = engine(Tiny(), plugin(batch_end=odd_figures), folder=tmp_path / "run").fit()
    written = record(tmp_path / "run")
    assert written["metrics"]["nan"] is None
    assert written["metrics"]["infinite"] is None
    assert (written["metrics"]["number"], written["metrics"]["array"]) == (1.5, 1.0)
    assert {key: written[key] for key in ("status", "epoch", "step", "updates")} == {
        "status": "finished",
        "epoch": 2,
        "step": 4,
        "updates": 4,
    }
    assert written["ended"] >= written["started"]
    assert written["ledger"][0]["calls"] == 4
    assert json.loads(json.dumps(record_of(run), allow_nan=False))["metrics"] == written["metrics"]


@pytest.mark.parametrize("threshold", [0.25, np.float32(0.25), np.float64(0.25)])
def test_a_threshold_of_any_number_type_is_written(tmp_path, threshold):
    setting = plugin(epoch_end=lambda run: setattr(run, "threshold", threshold))
    engine(Tiny(), setting, folder=tmp_path / "run").fit()
    assert record(tmp_path / "run")["threshold"] == 0.25


def outcome(folder, *plugins, task=None, **values):
    """The record on disk after a run, however it ended, and the error."""
    made = engine(task or Tiny(), *plugins, folder=folder, **values)
    error = None
    try:
        made.fit()
    except BaseException as raised:
        error = raised
    assert made.run.status == (record(folder)["status"] if folder.exists() else "failed")
    return (record(folder) if folder.exists() else None), error


def broken(run):
    raise ValueError("broken")


def mistaken(run):
    raise UsageError("it does not fit", where="somewhere")


def mistaken_later(run):
    if run.epoch == 2:
        mistaken(run)


def interrupt(run):
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("hooks", "status", "reason", "error"),
    [
        ({}, "finished", "", type(None)),
        ({"batch_end": lambda run: run.stop("enough")}, "stopped", "enough", type(None)),
        ({"batch_end": broken}, "failed", "PluginError: plugin 'hooked' in on_batch_end", PluginError),
        ({"setup": broken}, "failed", "PluginError: plugin 'hooked' in on_setup", PluginError),
        ({"teardown": broken}, "failed", "PluginError: plugin 'hooked' in on_teardown", PluginError),
        (
            {"epoch_end": mistaken_later},
            "failed",
            "UsageError: somewhere: it does not fit",
            UsageError,
        ),
        ({"batch_end": interrupt}, "interrupted", "interrupted by SIGTERM", Interrupted),
    ],
    ids=["finished", "stopped", "failed", "failed in setup", "failed in teardown", "mistake later", "interrupted"],
)
def test_the_record_says_how_a_run_ended(tmp_path, hooks, status, reason, error):
    written, raised = outcome(tmp_path / "runs" / "run", plugin(**hooks))
    assert written["status"] == status
    assert written["reason"].startswith(reason)
    assert written["ended"] is not None
    assert type(raised) is error
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["run"]
    # The model is written before the teardown, so that plugins find it there.
    ended = status in ("finished", "stopped") or "on_teardown" in reason
    assert sorted(path.name for path in (tmp_path / "runs" / "run").iterdir()) == [
        ".lock",
        "config.toml",
        *(["model"] if ended else []),
        "plugins.json",
        "run.json",
    ]


@pytest.mark.parametrize("event", ["setup", "fit_begin", "epoch_begin"])
def test_a_users_mistake_before_the_first_batch_leaves_nothing(tmp_path, event):
    written, error = outcome(tmp_path / "runs" / "tiny" / "run", plugin(**{event: mistaken}))
    assert (written, type(error)) == (None, UsageError)
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_that_is_found_while_building_leaves_nothing(tmp_path):
    with pytest.raises(UsageError):
        engine(Tiny(), folder=tmp_path / "runs" / "run", optimizer={"name": "nonsense"})
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_does_not_fit_leaves_nothing(tmp_path):
    task = Given(regression(8), make_loss=MeanOverRows)
    written, error = outcome(tmp_path / "runs" / "run", task=task)
    assert (written, type(error)) == (None, UsageError)


def test_while_it_runs_the_record_says_so(tmp_path):
    seen = []
    engine(Tiny(), plugin(setup=lambda run: seen.append(record(run.folder))), folder=tmp_path / "run").fit()
    assert (seen[0]["status"], seen[0]["step"], seen[0]["ended"]) == ("running", 0, None)


def test_a_folder_that_cannot_be_made_is_a_users_mistake_and_fires_the_endings(tmp_path):
    (tmp_path / "file").write_text("")
    ends = []
    made = engine(Tiny(), plugin(teardown=lambda run: ends.append(run.status)), folder=tmp_path / "file" / "run")
    with pytest.raises(UsageError, match="cannot be created"):
        made.fit()
    assert ends == ["failed"]


def test_a_folder_of_another_run_is_left_alone(tmp_path):
    engine(Tiny(), folder=tmp_path / "run").fit()
    before = (tmp_path / "run" / "run.json").read_text()
    with pytest.raises(UsageError):
        engine(Tiny(), folder=tmp_path / "run").fit()
    assert (tmp_path / "run" / "run.json").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_without_a_folder_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    engine(Tiny(), plugin(batch_end=lambda run: run.save("now"))).fit()
    assert list(tmp_path.iterdir()) == []


def test_an_engine_trains_once():
    made = engine(Tiny())
    made.fit()
    with pytest.raises(TrainerError, match="trained already"):
        made.fit()


def test_what_is_logged_at_the_end_of_an_epoch_stands_in_its_history():
    logging = plugin(epoch_end=lambda run: run.log({"late": run.epoch}), fit_end=lambda run: run.log({"later": 1}))
    history = engine(Tiny(test_rows=2), logging).fit().history
    assert [entry["late"] for entry in history] == [1.0, 2.0]
    assert history[-1]["later"] == 1
    assert not any(name.startswith("test/") for name in history[-1])


@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        ([1, 2], ""),
        ([math.nan, 2], ""),
        ([1, math.inf], "train/loss is inf in epoch 2"),
        ([1, math.nan, math.nan], "train/loss is nan in epoch 2"),
    ],
)
def test_the_reason_of_a_finished_run_names_the_epoch_since_which_its_loss_is_not_finite(losses, reason):
    logging = plugin("log", epoch_end=lambda run: run.log({"train/loss": losses[run.epoch - 1]}))
    run = engine(Tiny(), logging, epochs=len(losses)).fit()
    assert (run.status, run.reason) == ("finished", reason)


def test_what_is_logged_before_the_first_epoch_and_after_the_last_is_in_the_history(tmp_path):
    logging = plugin(
        "log",
        setup=lambda run: run.log({"rows": 1}),
        fit_begin=lambda run: run.log({"begin": 2}),
        fit_end=lambda run: run.log({"end": 3, "validation/loss": 9}),
        test_end=lambda run: run.log({"test/own": 4}),
    )
    seen = []
    look = plugin("look", epoch_end=lambda run: seen.append(dict(run.epoch_metrics)))
    run = engine(Tiny(test_rows=3), logging, look, epochs=2).fit()
    first, last = run.history
    assert (first["rows"], first["begin"], "end" in first) == (1, 2, False)
    assert (seen[0]["begin"], "begin" in seen[1], "begin" in last) == (2, False, False)
    assert last["end"] == 3
    assert last["validation/loss"] != 9, "an epoch keeps what it has logged itself"
    assert {"end", "test/own", "test/loss"} <= set(run.end_metrics)
    assert not {"begin", "train/loss", "validation/loss"} & set(run.end_metrics)
    assert "test/own" not in last


class OneMetric(Tiny):
    """Returns a single metric, not a list."""

    def metrics(self):
        return mx.metric.MSE()


def test_a_task_may_return_a_single_metric():
    assert "validation/mse" in engine(OneMetric(), epochs=1).fit().metrics


def test_two_metrics_of_one_name_and_a_loss_by_its_name_are_clear_errors():
    class Twice(Tiny):
        def metrics(self):
            return [mx.metric.MSE(), mx.metric.MSE()]

    with pytest.raises(UsageError, match="two values are called 'mse'"):
        engine(Twice(), epochs=1).fit()
    with pytest.raises(UsageError, match=r"the task's loss.*: it gives 'mse'"):
        engine(Tiny(make_loss=lambda: "mse"))


def test_the_message_of_an_mxnet_error_is_not_its_traceback():
    def fail(run):
        raise mx.MXNetError("Traceback (most recent call last):\n  File x\nMXNetError: shapes differ")

    made = engine(Tiny(), plugin(epoch_end=fail))
    with pytest.raises(PluginError, match="raised MXNetError: MXNetError: shapes differ"):
        made.fit()
    assert "Traceback" not in made.run.reason


OWN = {name for cls in Run.__mro__ for name in vars(cls) if not name.startswith("_")}
PUBLIC = sorted(OWN | set(vars(Run)["__dataclass_fields__"]) - {"_state"})


@pytest.mark.parametrize("name", [*PUBLIC, "learnig_rate", "mine"])
def test_a_plugin_assigns_what_has_an_effect_and_is_refused_the_rest(name):
    def assign(run):
        setattr(run, name, getattr(run, name, None))

    made = engine(Tiny(), plugin("assigns", batch_begin=assign), epochs=1)
    if name in SETTABLE:
        assert made.fit().status == "finished"
        return
    with pytest.raises(PluginError, match=f"plugin 'assigns' in on_batch_begin .*{name}") as caught:
        made.fit()
    assert ("Did you mean 'learning_rate'?" in str(caught.value)) == (name == "learnig_rate")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.1", None, True, [0.1]])
def test_a_learning_rate_is_a_finite_number(value):
    with pytest.raises(PluginError, match=r"run.learning_rate = .*: it is not a finite number"):
        engine(Tiny(), plugin(batch_begin=lambda run: setattr(run, "learning_rate", value))).fit()
