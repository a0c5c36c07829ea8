"""The model folder: what is in it, who can load it, and when there is one."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from modelling import train
from nets import Given, TwoInputs, TwoOutputs, convolutions, dense, images, regression
from tiny import Tiny, engine, plugin, settings, weights

from trainer import Arrays, Engine, Interrupted, PluginError, TrainerError, UsageError, fit, load_model, resume
from trainer.catalog import registry
from trainer.model import manifest, save
from trainer.mxnet import autograd, gluon, mx

IGNORE = pytest.mark.filterwarnings("ignore:Cannot decide type:UserWarning")


def imported(folder, *names):
    """The net, loaded by plain MXNet."""
    symbol, parameters = str(folder / "model-symbol.json"), str(folder / "model-0000.params")
    return gluon.SymbolBlock.imports(symbol, list(names) or ["data"], parameters)


def outputs(net, *inputs):
    with autograd.predict_mode():
        given = net(*[mx.nd.array(part) for part in inputs])
    return [part.asnumpy() for part in (given if isinstance(given, (list, tuple)) else [given])]


def two_inputs(number):
    left, right = regression(number).features, regression(number, seed=1).features
    return Arrays((left, right), left[:, :1])


class SumOfBoth(gluon.loss.Loss):
    """Brings the two outputs down to one."""

    def __init__(self, **values):
        super().__init__(weight=None, batch_axis=0, **values)

    def hybrid_forward(self, F, given, label):
        return (given[0].sum(axis=1) + given[1].sum(axis=1) - label.sum(axis=1)) ** 2


class FirstOfAll(Given):
    """Judged by the first output."""

    def predictions(self, outputs):
        return outputs[0] if isinstance(outputs, list) else outputs


NETS = {
    "dense": (regression, lambda: dense(6, 6), gluon.loss.L2Loss),
    "dropout and batch norm": (regression, lambda: dense(6, 6, dropout=0.5, norm=True), gluon.loss.L2Loss),
    "convolutions": (images, convolutions, gluon.loss.L2Loss),
    "two inputs": (two_inputs, TwoInputs, gluon.loss.L2Loss),
    "two outputs": (regression, TwoOutputs, SumOfBoth),
    "one layer": (regression, lambda: gluon.nn.Dense(1), gluon.loss.L2Loss),
}


@IGNORE
@pytest.mark.parametrize("kind", NETS)
def test_plain_mxnet_loads_the_folder_and_computes_what_the_run_does(tmp_path, kind):
    rows, net, loss = NETS[kind]
    task = FirstOfAll(rows(12), rows(6), net, loss)
    run = Engine(task, settings(), [], run_folder=tmp_path / "run").fit()
    given = rows(6).inputs
    expected = outputs(run.net, *given)
    names = ["data"] if len(given) == 1 else ["data0", "data1"]
    found = outputs(imported(run.folder / "model", *names), *given)
    for mine, theirs in zip(expected, found, strict=True):
        np.testing.assert_allclose(theirs, mine, rtol=1e-6, atol=1e-6)
    loaded = load_model(run.folder, task=task)
    again = outputs(loaded.net, *given)
    for mine, theirs in zip(expected, again, strict=True):
        np.testing.assert_allclose(theirs, mine, rtol=1e-6, atol=1e-6)


def test_parameters_are_called_by_their_places_whatever_else_the_process_has_built(tmp_path):
    first, second = (engine(Tiny(make_net=lambda: dense(3)), folder=tmp_path / name).fit() for name in ("a", "b"))
    assert set(mx.nd.load(str(first.folder / "model" / manifest.PARAMETERS))) == {
        "arg:0.weight",
        "arg:0.bias",
        "arg:1.weight",
        "arg:1.bias",
    }
    for name in (manifest.SYMBOL, manifest.PARAMETERS):
        assert (first.folder / "model" / name).read_bytes() == (second.folder / "model" / name).read_bytes()


def test_the_loss_is_not_part_of_the_symbol(tmp_path):
    run = engine(folder=tmp_path / "run").fit()
    symbol = mx.sym.load(str(run.folder / "model" / manifest.SYMBOL))
    assert symbol.list_arguments() == ["data", "weight", "bias"]
    assert [node["op"] for node in json.loads(symbol.tojson())["nodes"] if node["op"] != "null"] == ["FullyConnected"]


def test_the_description_says_what_the_model_is(tmp_path):
    run = train(tmp_path)
    said = json.loads((run.folder / "model" / "model.json").read_text(encoding="utf-8"))
    assert said["schema"] == 2
    assert (said["calibrator"], said["rules"]) == (None, [])
    assert said["task"]["name"] == "logreg"
    assert said["task"]["options"]["hidden"] == [8]
    assert said["threshold"] == {"given": 0.5, "tuned": None if run.threshold == 0.5 else run.threshold}
    assert said["metrics"] == json.loads((run.folder / "run.json").read_text())["metrics"]
    assert "test/f1" in said["metrics"]
    assert said["card"]["predicts"] == "the probability that rich is 'yes' rather than 'no'"
    assert said["card"]["columns"] == {"age": "number", "size": "number", "job": "category", "member": "flag"}
    assert said["card"]["rows"] == {"train": 320, "validation": 80, "test": 200}
    assert said["versions"]["mxnet"] == "1.9.1"
    assert (said["seed"], said["epoch"], said["step"]) == (run.settings.seed, run.epoch, run.step)
    assert sorted(path.name for path in (run.folder / "model").iterdir()) == sorted([manifest.ABOUT, *said["files"]])


def test_the_weights_are_those_that_the_metrics_are_of(tmp_path):
    """Averaged ones where evaluations use the average, though the run ends with its own."""
    averaging = registry.create_plugin("weight-averaging", {"keep": False, "decay": 0.9}, where="here")
    rows = {"train": regression(12), "validation": regression(6)}
    run = Engine(Given(**rows), settings(epochs=3), [averaging], run_folder=tmp_path / "run").fit()
    average = [weight.asnumpy() for weight in run.evaluation_weights]
    saved = mx.nd.load(str(run.folder / "model" / manifest.PARAMETERS))
    flat = np.concatenate([saved["arg:weight"].asnumpy().ravel(), saved["arg:bias"].asnumpy()])
    assert sorted(flat) == pytest.approx(sorted(np.concatenate([part.ravel() for part in average])))
    assert not np.allclose(saved["arg:weight"].asnumpy(), weights(run)[0])


def test_a_restored_best_epoch_is_what_is_kept_with_its_threshold(tmp_path):
    best = {}

    def look(run):
        if run.epoch == 1:
            best.update(threshold=run.threshold, values=weights(run))

    sets = {"monitor": "validation/loss", "mode": "max", "restore-best": True}
    stopping = registry.create_plugin("early-stopping", sets, where="here")
    run = train(tmp_path, epochs=4, plugins=[stopping, plugin("look", epoch_end=look)])
    assert run.threshold == best["threshold"] == load_model(run.folder).threshold
    saved = mx.nd.load(str(run.folder / "model" / manifest.PARAMETERS))
    np.testing.assert_array_equal(saved["arg:0.weight"].asnumpy(), best["values"][0])


# ---- when there is none ----------------------------------------------------------------------------------------------


class Plain(gluon.Block):
    """No HybridBlock, so it has no symbol."""

    def __init__(self):
        super().__init__()
        self.layer = gluon.nn.Dense(1)

    def forward(self, data):
        return self.layer(data)


def test_a_net_without_a_symbol_keeps_its_parameters_and_says_why(tmp_path):
    task = Tiny(make_net=Plain)
    run = engine(task, folder=tmp_path / "run").fit()
    record = json.loads((run.folder / "run.json").read_text())
    assert record["model_note"] == "parameters only, no symbol: the net (Plain) is not a HybridBlock"
    assert sorted(path.name for path in (run.folder / "model").iterdir()) == [manifest.PARAMETERS, manifest.ABOUT]
    model = load_model(run.folder, task=task)
    given = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    expected = 1 / (1 + np.exp(-outputs(run.net, given)[0].ravel().astype(np.float64)))
    assert model.predict(given)["prediction"].to_numpy() == pytest.approx(expected, rel=1e-5)


def test_a_run_that_writes_nothing_has_no_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    engine(Tiny()).fit()
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_was_interrupted_has_none_and_the_way_on_is_named(tmp_path):
    stop = plugin(epoch_end=lambda run: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        train(tmp_path, plugins=[stop])
    with pytest.raises(UsageError, match=r"was interrupted \(epoch 1, step .* has no model.*trainer resume") as error:
        load_model(tmp_path / "runs" / "logreg" / "one")
    assert "Traceback" not in str(error.value)


def test_a_run_that_failed_has_none(tmp_path):
    with pytest.raises(PluginError):
        train(tmp_path, plugins=[plugin(epoch_end=lambda run: 1 / 0)])
    with pytest.raises(UsageError, match=r"has failed .* and has no model\. Resume it: trainer resume"):
        load_model(tmp_path / "runs" / "logreg" / "one")


def test_a_run_that_continues_replaces_its_model_by_what_one_that_never_stopped_has(tmp_path):
    values = {"without": ["progress", "tensorboard"], "hidden": (5,), "runs_dir": tmp_path}
    whole = fit("logreg", epochs=4, name="whole", **values)
    part = fit("logreg", epochs=2, name="part", **values)
    before = (part.folder / "model" / manifest.PARAMETERS).read_bytes()
    (part.folder / ".model.12345678.tmp").mkdir()
    again = resume(part.folder, epochs=4)
    for name in (manifest.SYMBOL, manifest.PARAMETERS):
        assert (again.folder / "model" / name).read_bytes() == (whole.folder / "model" / name).read_bytes()
    assert (again.folder / "model" / manifest.PARAMETERS).read_bytes() != before
    assert load_model(again.folder).threshold == load_model(whole.folder).threshold
    assert not [path.name for path in again.folder.iterdir() if path.name.startswith(".model")]


def test_the_model_of_an_earlier_end_is_used_with_a_warning(tmp_path, caplog):
    run = train(tmp_path)
    path = run.folder / "run.json"
    path.write_text(path.read_text().replace('"finished"', '"interrupted"'))
    assert load_model(run.folder).threshold == run.threshold
    assert "was interrupted" in caplog.text
    assert "its model is older than that" in caplog.text


def test_a_disk_that_takes_half_a_file_fails_the_run_and_leaves_the_older_model(tmp_path, monkeypatch):
    run = engine(folder=tmp_path / "run").fit()
    before = {path.name: path.read_bytes() for path in (run.folder / "model").iterdir()}
    real = mx.nd.save

    def half(name, values):
        real(name, values)
        os.truncate(name, Path(name).stat().st_size // 2)

    monkeypatch.setattr(mx.nd, "save", half)
    with pytest.raises(TrainerError, match=r"the model cannot be written: .*is the disk full"):
        save.write_model(run, run._state.step.parameters)
    assert {path.name: path.read_bytes() for path in (run.folder / "model").iterdir()} == before
    made = engine(folder=tmp_path / "other")
    with pytest.raises(TrainerError, match="the model cannot be written"):
        made.fit()
    assert made.run.status == "failed"
    assert not [path for path in made.run.folder.iterdir() if "model" in path.name]


# ---- reading ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of a model folder that a test may damage."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in (trained.folder / "model").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def changed(folder, **values):
    path = folder / manifest.ABOUT
    said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, **values}))


def test_a_folder_that_was_copied_elsewhere_is_a_model(trained, copied, tmp_path):
    rows = {"age": [30, 60.0], "size": [9e5, 1.2e6], "job": ["cook", None], "member": [True, False]}
    assert load_model(copied).predict(rows).equals(load_model(trained.folder).predict(rows))
    assert load_model(str(trained.folder / "model")).predict(rows).equals(load_model(trained.folder).predict(rows))


@pytest.mark.parametrize("name", [manifest.SYMBOL, manifest.PARAMETERS])
def test_a_file_that_was_changed_is_refused(copied, name):
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(UsageError, match=f"{name}: it is damaged: its checksum does not match"):
        load_model(copied)
    (copied / name).write_bytes(bytes(content[:-3]))
    with pytest.raises(UsageError, match=rf"{name}: it is damaged: it has \d+ bytes instead of \d+"):
        load_model(copied)
    (copied / name).unlink()
    with pytest.raises(UsageError, match=f"{name}: it cannot be read: No such file"):
        load_model(copied)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schema": 3}, "was written by a newer version of this program. Update gluon-trainer"),
        ({"schema": "x"}, "it does not describe a model"),
        ({"inputs": []}, "it is damaged: inputs"),
        ({"threshold": {"given": "much"}}, "it is damaged: threshold.given"),
        ({"task": {"name": 3, "options": {}}}, "it is damaged: task.name"),
        ({"files": {"../../run.json": {"bytes": 1, "sha256": "0" * 64}}}, r"it is damaged: its files are"),
        ({"info": {"table": {"version": 1}, "weight_mean": 1.0}}, "it is damaged: info"),
        ({"info": {"table": None, "weight_mean": -1}}, "it is damaged: info: weight_mean"),
        ({"task": {"name": "nonsense", "options": {}}}, "there is no task 'nonsense'. Install the task's package"),
        ({"task": {"name": "logreg", "options": {"hidden": "x"}}}, "task: hidden"),
        ({"inputs": [{"name": "other", "shape": [8], "dtype": "float32"}]}, "there are no values for .data."),
    ],
)
def test_a_description_that_cannot_be_right_is_refused(copied, values, message):
    changed(copied, **values)
    with pytest.raises(UsageError, match=message):
        load_model(copied)


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "\0", '{"schema": 1}', "null"])
def test_a_description_that_is_invalid_is_refused(copied, content):
    (copied / manifest.ABOUT).write_text(content)
    with pytest.raises(UsageError, match=r"model\.json: it (cannot be read|is damaged|does not describe a model)"):
        load_model(copied)


def test_something_that_is_neither_a_run_nor_a_model_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no run 'nowhere'"):
        load_model("nowhere")
    with pytest.raises(UsageError, match="is not the folder of a run"):
        load_model(tmp_path)


def test_a_model_of_a_task_that_is_not_installed_needs_the_task(tmp_path):
    run = engine(Tiny(), folder=tmp_path / "run").fit()
    with pytest.raises(UsageError, match=r"there is no task 'tiny'.*in Python, pass the task to load_model"):
        load_model(run.folder)
    assert load_model(run.folder, task=Tiny()).predict(np.zeros((2, 3)))["prediction"].to_pylist()
