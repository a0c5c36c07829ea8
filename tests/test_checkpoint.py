"""Checkpoints: complete or absent, and nothing in them is pickled."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nets import Given, apart, dense, regression, values
from tiny import engine, plugin

from trainer import Plugin, PluginError, TrainerError, checkpoint
from trainer._mxnet import mx


class Stateful(Plugin):
    """Has the state that it was given."""

    name = "stateful"

    def __init__(self, state: Any) -> None:
        self.state = state

    def state_dict(self) -> Mapping[str, Any]:
        return self.state


def trained(tmp_path, *plugins, steps=3, task=None, **settings):
    """A run that has trained for some steps and has a folder."""
    task = task or Given(regression(20), make_net=lambda: dense(4))
    return engine(task, *plugins, folder=tmp_path / "run", epochs=9, steps=steps, **settings).fit()


def read(folder):
    with np.load(folder / checkpoint.ARRAYS, allow_pickle=False) as file:
        return dict(file), json.loads((folder / checkpoint.STATE).read_text())


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


ADAM = {"name": "adam", "learning_rate": 0.01}


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "recorded"])
@pytest.mark.parametrize(
    ("optimizer", "states"),
    [({"name": "sgd"}, 0), ({"name": "sgd", "momentum": 0.9}, 1), (ADAM, 2), ({"name": "lamb"}, 2)],
    ids=["sgd", "momentum", "adam", "lamb"],
)
def test_a_checkpoint_holds_every_parameter_and_every_state(tmp_path, optimizer, states, compiled):
    run = trained(tmp_path, optimizer=optimizer, compiled=compiled)
    folder = checkpoint.save(run, "because")
    assert folder == tmp_path / "run" / "checkpoints" / "step-00000003"
    assert names(folder) == ["arrays.npz", "state.json"]
    arrays, state = read(folder)
    parameters = run.engine_step.parameters
    assert [parameter.name for parameter in parameters.named.values()] == list(run.net.collect_params())
    for name, parameter in parameters.named.items():
        assert (arrays.pop(f"parameter/{name}") == parameter.data().asnumpy()).all()
    assert len(arrays) == states * len(parameters.groups)
    for number, (group, held) in enumerate(zip(parameters.groups, parameters.states, strict=True)):
        parts = held if isinstance(held, tuple) else (held,) if held is not None else ()
        assert [part.shape for part in parts] == [group.weights[0].shape] * states
        written = state["optimizer"][number]
        for part, entry in zip(parts, written if isinstance(written, list) else [written], strict=False):
            assert (arrays[entry["array"]] == part.asnumpy()).all()
    assert state["groups"] == [list(group.names) for group in parameters.groups]
    assert {key: state[key] for key in ("schema", "reason", "epoch", "step", "updates", "optimizer_updates")} == {
        "schema": 1,
        "reason": "because",
        "epoch": 1,
        "step": 3,
        "updates": 3,
        "optimizer_updates": 3,
    }


def test_running_statistics_and_frozen_parameters_are_in_it(tmp_path):
    def net():
        made = dense(4, norm=True)
        made[0].collect_params().setattr("grad_req", "null")
        return made

    run = trained(tmp_path, task=Given(regression(20), make_net=net))
    arrays, _ = read(checkpoint.save(run, "because"))
    assert sorted(arrays) == sorted(f"parameter/{name}" for name in run.net._collect_params_with_prefix())
    assert any(name.endswith("running_mean") for name in arrays)
    assert len(values(run)) == len(arrays)


def test_a_plugins_state_is_json_with_its_arrays_beside_it(tmp_path):
    state = {
        "best": float("inf"),
        "patience": 3,
        "name": "größe",
        "none": None,
        "flag": np.bool_(True),
        "scalar": np.float32(0.5),
        "whole": np.int64(7),
        "nested": {"list": [1, {"mean": np.arange(3.0)}, (np.ones((2, 2), np.int8), mx.nd.ones(2))]},
        "empty": np.zeros((0, 3)),
        "text": np.array(["a", "bc"]),
    }
    run = trained(tmp_path, Stateful(state))
    arrays, written = read(checkpoint.save(run, "because"))
    mine = written["plugins"]["stateful"]
    assert {key: mine[key] for key in ("best", "patience", "name", "none", "flag", "scalar", "whole")} == {
        "best": float("inf"),
        "patience": 3,
        "name": "größe",
        "none": None,
        "flag": True,
        "scalar": 0.5,
        "whole": 7,
    }
    one, inner, pair = mine["nested"]["list"]
    assert one == 1
    assert arrays[inner["mean"]["array"]].tolist() == [0, 1, 2]
    assert [arrays[part["array"]].dtype.name for part in pair] == ["int8", "float32"]
    assert arrays[mine["empty"]["array"]].shape == (0, 3)
    assert arrays[mine["text"]["array"]].tolist() == ["a", "bc"]
    assert all(name.startswith(("parameter/", "optimizer/", "plugin/stateful/")) for name in arrays)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": np.array([None])}, "plugin/stateful/a is an array of Python objects"),
        ({"a": {"b": [1, object()]}}, "plugin/stateful/a/b/1 is a object"),
        ({"a": {1, 2}}, "plugin/stateful/a is a set"),
        ({"a": b"bytes"}, "plugin/stateful/a is a bytes"),
        ({"a": np.complex64(1j)}, "plugin/stateful/a is a complex"),
        ({"a": np.datetime64("2020-01-01")}, "plugin/stateful/a is a date"),
        ({"a": 1j}, "plugin/stateful/a is a complex"),
        ({1: "a"}, "plugin/stateful has the key 1, which is not a string"),
        ({"a": {"array": "b"}}, r"plugin/stateful/a is \{'array': …\}, which stands for an array"),
        ({"a/b": np.ones(1), "a": {"b": np.ones(1)}}, "two arrays would be called plugin/stateful/a/b"),
    ],
)
def test_a_state_that_cannot_be_read_back_is_refused_and_leaves_nothing(tmp_path, state, message):
    run = trained(tmp_path, Stateful(state))
    with pytest.raises(TrainerError, match=message):
        checkpoint.save(run, "because")
    assert names(tmp_path / "run" / "checkpoints") == []


def test_a_state_that_cannot_be_read_back_fails_the_run_that_asked(tmp_path):
    asking = plugin(batch_end=lambda run: run.save("now"))
    with pytest.raises(TrainerError, match="is a object") as caught:
        trained(tmp_path, Stateful({"a": object()}), asking)
    assert not isinstance(caught.value, PluginError)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"


def test_the_same_step_can_be_saved_again(tmp_path):
    state = {"value": 1}
    run = trained(tmp_path, Stateful(state))
    first = checkpoint.save(run, "first")
    state["value"] = 2
    run.net.collect_params().setattr("grad_req", "null")
    next(iter(run.net.collect_params().values())).data()[:] = 5
    second = checkpoint.save(run, "second")
    assert first == second
    assert names(first.parent) == ["step-00000003"]
    arrays, written = read(second)
    assert (written["reason"], written["plugins"]["stateful"]["value"]) == ("second", 2)
    assert (next(iter(arrays.values())) == 5).all()


@pytest.mark.parametrize("broken", ["numpy.savez", "trainer.checkpoint.write_atomic", "os.fsync"])
def test_a_failing_write_leaves_the_older_checkpoint_and_nothing_else(tmp_path, monkeypatch, broken):
    run = trained(tmp_path)
    folder = checkpoint.save(run, "first")

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(broken, fail)
        with pytest.raises(OSError, match="No space"):
            checkpoint.save(run, "second")
    assert names(folder.parent) == ["step-00000003"]
    assert read(folder)[1]["reason"] == "first"


def test_a_checkpoint_that_cannot_take_the_place_of_an_older_one_leaves_that_one(tmp_path, monkeypatch):
    run = trained(tmp_path)
    folder = checkpoint.save(run, "first")

    rename = Path.rename

    def fail(path, target):
        if path.suffix != ".old" and Path(target) == folder:
            raise OSError(5, "Input/output error")
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        with pytest.raises(OSError, match="Input/output"):
            checkpoint.save(run, "second")
    assert names(folder.parent) == ["step-00000003"]
    assert read(folder)[1]["reason"] == "first"


def test_saving_does_not_change_training(tmp_path):
    saving = plugin(batch_end=lambda run: run.save("always"))
    quiet = trained(tmp_path / "quiet", steps=12)
    saved = trained(tmp_path / "saved", saving, steps=12)
    assert apart(quiet, saved) == 0
    assert len(names(tmp_path / "saved" / "run" / "checkpoints")) == 12


def test_several_contexts_save_what_one_does(tmp_path):
    saved = []
    for devices in ("cpu:0", "cpu:0,1,2"):
        run = trained(tmp_path / devices.replace(":", ""), devices=devices, optimizer=ADAM)
        arrays, state = read(checkpoint.save(run, "because"))
        saved.append((list(arrays.values()), state["optimizer"]))
    assert [a.shape for a in saved[0][0]] == [a.shape for a in saved[1][0]]
    assert all(np.abs(a - b).max() < 1e-6 for a, b in zip(saved[0][0], saved[1][0], strict=True))
    assert saved[0][1] == saved[1][1]


def test_a_run_without_a_folder_cannot_be_saved():
    run = engine(Given(regression(8)), steps=1).fit()
    with pytest.raises(TrainerError, match="without a folder"):
        checkpoint.save(run, "because")
