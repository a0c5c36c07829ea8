"""From what a user asked for to a checked launch: which value wins, and what is said of one that cannot be meant."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
import tomli_w
from pydantic import Field
from tiny import Tiny

from trainer import Defaults, Plugin, Splits, UsageError, fit, on, resume
from trainer.catalog import registry
from trainer.cli.config import described
from trainer.config.settings import read_config, tomllib
from trainer.launch.prepare import Request, prepare_run
from trainer.mxnet import gluon, mx
from trainer.runs import folder

OPTIMIZERS = sorted(set(mx.optimizer.Optimizer.opt_registry) - {"test"})


@dataclass
class Watch(Plugin):
    """A plugin with a number and a file."""

    limit: Annotated[int, Field(gt=0)] = 3
    into: Path | None = None


@dataclass
class Toy(Tiny):
    """A task with a number and a file."""

    size: Annotated[int, Field(gt=0)] = 5
    table: Path | None = None

    defaults = Defaults(epochs=2, batch_size=2, learning_rate=0.5, seed=11, weight_decay=0.01, plugins=("watch",))


@pytest.fixture(autouse=True)
def _installed(monkeypatch):
    """The task `toy` and the plugins `watch` and `other`, as if a package had brought them."""
    real = registry.installed.__wrapped__
    ours = {
        registry.PLUGINS: [("watch", "toys:Watch"), ("other", "toys:Watch")],
        registry.TASKS: [("toy", "toys:Toy")],
    }

    def installed(group):
        toys = [registry.Installed(group, name, value, "toys", "1.0") for name, value in ours[group]]
        return (*toys, *real(group))

    real_load = registry.load
    classes = {"watch": Watch, "other": Watch, "toy": Toy}
    monkeypatch.setattr(registry, "installed", installed)
    monkeypatch.setattr(registry, "load", lambda group, name: classes.get(name) or real_load(group, name))


def launch(task="toy", *, runs_dir=None, config=None, **more):
    return prepare_run(Request(task, runs_dir=runs_dir, config=config, **more))


def refused(**more):
    with pytest.raises(UsageError) as caught:
        launch(**more)
    return str(caught.value)


@pytest.fixture
def config(tmp_path):
    """Writes a configuration file: text, or tables."""

    def write(content, name="given.toml"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else tomli_w.dumps(content), encoding="utf-8")
        return path

    return write


# ---- which value wins ------------------------------------------------------------------------------------------------


def test_the_tasks_defaults_hold_where_nothing_is_said():
    made = launch()
    settings = made.settings
    assert (settings.epochs, settings.batch_size, settings.seed, settings.devices, settings.steps) == (
        2,
        2,
        11,
        "cpu",
        None,
    )
    optimizer = settings.optimizer
    assert (optimizer.name, optimizer.learning_rate, optimizer.weight_decay) == ("sgd", 0.5, 0.01)
    assert (made.task.size, [plugin.name for plugin in made.plugins]) == (5, ["watch"])


def test_the_file_beats_defaults_options_beat_the_file_and_set_beats_options(config):
    path = config(
        {
            "epochs": 20,
            "batch-size": 20,
            "seed": 20,
            "optimizer": {"weight-decay": 0.2, "learning-rate": 0.2, "momentum": 0.2},
            "task": {"name": "toy", "size": 20, "train-rows": 20, "test-rows": 20},
        }
    )
    made = launch(
        config=path,
        options={"batch-size": "30", "seed": "30", "learning-rate": "0.3", "size": "30", "train-rows": "30"},
        sets=["seed=40", "optimizer.momentum=0.4", "optimizer.learning-rate=0.4", "toy.train-rows=40"],
    )
    settings = made.settings
    assert (settings.epochs, settings.batch_size, settings.seed) == (20, 30, 40)
    optimizer = settings.optimizer
    assert (optimizer.weight_decay, optimizer.learning_rate, optimizer.model_extra) == (0.2, 0.4, {"momentum": 0.4})
    assert (made.task.test_rows, made.task.size, made.task.train_rows) == (20, 30, 40)


def test_the_same_key_set_twice_has_its_last_value():
    assert launch(sets=["epochs=3", "epochs=4"]).settings.epochs == 4


def test_the_default_learning_rate_goes_with_the_default_optimizer_alone(config):
    assert launch(options={"optimizer": "adam"}).settings.optimizer.learning_rate is None
    assert launch(sets=["optimizer.name=adam"]).settings.optimizer.learning_rate is None
    assert launch(config=config('[optimizer]\nname = "adam"')).settings.optimizer.learning_rate is None
    assert launch(options={"optimizer": "sgd"}).settings.optimizer.learning_rate == 0.5
    assert launch(options={"optimizer": "adam", "learning-rate": "0.2"}).settings.optimizer.learning_rate == 0.2


def test_an_optimizer_without_a_rate_uses_its_own_which_is_saved(tmp_path):
    run = launch(options={"optimizer": "adam"}, runs_dir=tmp_path).train()
    assert run.learning_rate == 0.001
    assert "learning-rate = 0.001" in (run.folder / "config.toml").read_text()


def test_rate_and_arguments_of_a_files_optimizer_are_not_handed_to_another_one(config):
    path = config("[optimizer]\nname = 'nag'\nlearning-rate = 0.2\nmomentum = 0.8\nweight-decay = 0.25")
    same = launch(config=path, options={"optimizer": "nag"}).settings.optimizer
    assert (same.learning_rate, same.model_extra) == (0.2, {"momentum": 0.8})
    for other in ({"options": {"optimizer": "adam"}}, {"sets": ["optimizer.name=adam"]}):
        optimizer = launch(config=path, **other).settings.optimizer
        assert (optimizer.name, optimizer.learning_rate, optimizer.model_extra) == ("adam", None, {})
        assert optimizer.weight_decay == 0.25
    both = launch(config=path, options={"learning-rate": "0.3"}, sets=["optimizer.name=adam"]).settings.optimizer
    assert both.learning_rate == 0.3


def test_a_rate_written_with_an_underscore_is_not_overridden_by_the_default(config):
    assert launch(config=config("[optimizer]\nlearning_rate = 0.2")).settings.optimizer.learning_rate == 0.2
    assert launch(sets=["optimizer.learning_rate=0.2"]).settings.optimizer.learning_rate == 0.2


def test_relative_paths_are_taken_from_the_file_or_for_flags_from_the_current_folder(config, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    path = config({"task": {"table": "a.csv"}, "plugins": {"watch": {"into": "b"}, "other": {"into": "c"}}})
    made = launch(config=path, sets=["other.into=d"])
    assert made.task.table == tmp_path / "a.csv"
    assert [plugin.into for plugin in made.plugins] == [tmp_path / "b", here / "d"]
    assert launch(config=path, options={"table": "e"}).task.table == here / "e"
    assert launch(config=path, sets=["toy.table=e"]).task.table == here / "e"
    # What an option of a plugin is called has no bearing on the task's option of the same name.
    assert launch(config=path, plugins=["watch@table"], sets=["watch@table.into=x"]).task.table == tmp_path / "a.csv"


# ---- which plugins ---------------------------------------------------------------------------------------------------


def names(**more):
    return [plugin.name for plugin in launch(**more).plugins]


def test_plugins_are_added_and_left_out(config):
    assert names(plugins=["other"]) == ["watch", "other"]
    assert names(plugins=["watch"]) == ["watch"]
    assert names(without=["watch"]) == []
    assert names(plugins=["watch@b", Watch()], without=["watch"]) == ["watch@b", "watch"]


def test_a_list_of_plugins_in_a_file_replaces_the_tasks(config):
    assert names(config=config("[plugins.other]")) == ["other"]
    assert names(config=config("[plugins]")) == []
    assert names(config=config("epochs = 3")) == ["watch"]
    assert names(config=config("[plugins.other]"), plugins=["watch"], without=["other"]) == ["watch"]


def test_a_plugin_of_a_file_that_is_left_out_need_not_be_installed(config):
    assert names(config=config("[plugins.absent]\nx = 1\n[plugins.other]"), without=["absent"]) == ["other"]


def test_instances_of_one_plugin_have_options_of_their_own(config):
    path = config({"plugins": {"watch@a": {"limit": 1}, "watch@b.c": {"limit": 2, "on-error": "disable"}}})
    made = launch(config=path, sets=["watch@b.c.limit=7", "watch@a.on-error=disable"])
    assert [(plugin.name, plugin.limit) for plugin in made.plugins] == [("watch@a", 1), ("watch@b.c", 7)]
    assert [plugin.on_error for plugin in made.plugins] == ["disable", "disable"]


def test_what_is_resolved_is_a_configuration_that_resolves_to_the_same(config, tmp_path):
    first = launch(
        options={"size": 7, "table": "/t.csv", "steps": 3, "optimizer": "adam", "learning-rate": 0.1},
        plugins=["watch@b"],
        sets=["watch@b.limit=9", "watch.on-error=disable", "optimizer.beta1=0.5"],
    ).config()
    assert first["plugins"] == {"watch": {"limit": 3, "on-error": "disable"}, "watch@b": {"limit": 9}}
    assert launch(config=config(first)).config() == first


# ---- what cannot be meant --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("epoch = 3", "given.toml: there is no key 'epoch'. Did you mean 'epochs'?"),
        ("batch_size = 3", "given.toml: there is no key 'batch_size'. Did you mean 'batch-size'?"),
        ("[optimiser]", "given.toml: there is no key 'optimiser'. Did you mean 'optimizer'?"),
        ("[plugin.watch]", "given.toml: there is no key 'plugin'. Did you mean 'plugins'?"),
        ("learning-rate = 1", "given.toml: there is no key 'learning-rate'. Known: batch-size, "),
        ("[task]\nsise = 3", "given.toml: [task]: there is no option 'sise'. Did you mean 'size'?"),
        ("[task]\nsize = 0", "given.toml: [task]: size: 0 does not fit: it should be greater than 0"),
        ("[plugins.watch]\nlimt = 3", "given.toml: [plugins.watch]: there is no option 'limt'. Did you mean 'limit'?"),
        ("[plugins.watch]\nlimit = 'x'", "given.toml: [plugins.watch]: limit: 'x' does not fit"),
        ("[plugins.wach]", "given.toml: [plugins.wach]: there is no plugin 'wach'. Installed: "),
        ("epochs = 0", "given.toml: epochs: 0 does not fit: it should be greater than or equal to 1"),
        ("seed = 1.5", "given.toml: seed: 1.5 does not fit: it should be a valid integer"),
        ("[optimizer]\nlearning-rate = 'fast'", "given.toml: [optimizer]: learning-rate: 'fast' does not fit"),
        ("devices = 'tpu'", "given.toml: devices: 'tpu' is not a device name"),
        ("schema = 2", "given.toml: it was written by a newer version of this program. Update gluon-trainer."),
        ("[task]\nname = 'logreg'", "given.toml: it is for another task than 'toy'"),
        ("epochs 3", "given.toml: it is not TOML: "),
        ("task = 'toy'", "given.toml: 'task' is not a table. Write it as [task]."),
        ("optimizer = 'adam'", "given.toml: 'optimizer' is not a table. Write it as [optimizer]."),
        ("plugins = ['watch']", "given.toml: 'plugins' is not a table. Write it as [plugins]."),
        ("[plugins]\nwatch = true", "given.toml: 'plugins.watch' is not a table. Write it as [plugins.watch]."),
    ],
)
def test_a_mistake_in_a_file_is_told_with_the_file_and_the_likely_word(text, complaint, config):
    assert complaint in refused(config=config(text))


def test_bytes_that_are_no_text_and_a_folder_are_no_configuration(tmp_path):
    for content, said in (
        (b"\xff\xfe\x00", "it is not UTF-16 text, although it begins as such"),
        (b"epochs = 3\n# caf\xe9\n", "it is not UTF-8 text at line 2"),
        ("epochs = 3".encode("utf-16-le"), "it is not text: it has zero bytes, like UTF-16 without a byte order mark"),
    ):
        (tmp_path / "bytes.toml").write_bytes(content)
        assert f"bytes.toml: {said}. Save it as UTF-8." in refused(config=tmp_path / "bytes.toml")
    assert "it cannot be read: Is a directory" in refused(config=tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_configuration_may_be_in_any_encoding_with_a_mark(tmp_path, encoding):
    (tmp_path / "given.toml").write_bytes("epochs = 3\r\n# café\r\n".encode(encoding))
    assert read_config(tmp_path / "given.toml") == {"epochs": 3}


def test_a_file_that_is_not_there_is_told_with_the_likely_one(config, tmp_path):
    config("", "experiment.toml")
    assert "there is no such file. Did you mean 'experiment.toml'?" in refused(config=tmp_path / "experimnet.toml")
    assert "there is no such file. Check the path." in refused(config=tmp_path / "nowhere" / "x.toml")


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ("epochs", "--set: 'epochs' has no value. Write it as KEY=VALUE."),
        ("epoch=3", "--set: there is no option 'epoch'. Did you mean 'epochs'?"),
        ("epochs=x", "--set epochs: 'x' does not fit: it should be a valid integer"),
        ("optimizer=adam", "--set: there is no option 'optimizer'. Did you mean 'optimizer.name'?"),
        ("learning-rate=1", "--set: there is no option 'learning-rate'. Did you mean 'optimizer.learning-rate'?"),
        ("size=3", "--set: there is no option 'size'. "),
        ("toy.sise=3", "--set toy: there is no option 'sise'. Did you mean 'size'?"),
        ("task.size=x", "--set task.size: 'x' does not fit"),
        ("toi.size=3", "--set: there is no option 'toi.size'. Did you mean 'toy.size'?"),
        ("watch.limt=3", "--set watch: there is no option 'limt'. Did you mean 'limit'?"),
        ("watch.limit=0", "--set watch.limit: '0' does not fit: it should be greater than 0"),
        ("wach.limit=3", "--set: there is no option 'wach.limit'. Did you mean 'watch.limit'?"),
        ("other.limit=3", "--set: the run does not use the plugin 'other'. Add --plugin other to use it."),
        ("watch@b.limit=3", "--set: the run does not use the plugin 'watch@b'. Add --plugin watch@b to use it."),
        ("watch.on-error=x", "--set watch.on-error: 'x' does not fit: it should be 'abort' or 'disable'"),
        ("=3", "--set: there is no option ''."),
    ],
)
def test_a_mistake_in_set_is_told_with_the_likely_key(entry, complaint):
    assert complaint in refused(sets=[entry])


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"task": "tyo"}, "there is no task 'tyo'. Installed: toy, image-classification, linreg, logreg"),
        ({"options": {"sise": "3"}}, "toy has no option 'sise'. Did you mean 'size'?"),
        ({"options": {"size": "x"}}, "--size: 'x' does not fit: it should be a valid integer"),
        ({"options": {"epochs": "0"}}, "--epochs: '0' does not fit: it should be greater than or equal to 1"),
        ({"options": {"batch-size": "-1"}}, "--batch-size: '-1' does not fit"),
        ({"options": {"seed": "-1"}}, "--seed: '-1' does not fit"),
        ({"options": {"steps": "0"}}, "--steps: '0' does not fit"),
        ({"options": {"learning-rate": "-1"}}, "--learning-rate: '-1' does not fit"),
        ({"options": {"learning-rate": "nan"}}, "--learning-rate: 'nan' does not fit"),
        ({"options": {"weight-decay": "inf"}}, "--weight-decay: 'inf' does not fit"),
        ({"options": {"devices": "tpu"}}, "--devices: 'tpu' is not a device name. Use cpu, gpu, auto"),
        ({"plugins": ["wach"]}, "--plugin: there is no plugin 'wach'. Installed: "),
        ({"plugins": ["watch@"]}, "'watch@' is not an instance name"),
        ({"without": ["wach"]}, "--no-plugin: the run does not use a plugin 'wach'. Did you mean 'watch'?"),
    ],
)
def test_a_mistake_in_an_option_is_told_with_its_flag_or_the_likely_one(more, complaint):
    assert complaint in refused(**more)


def test_a_task_whose_options_have_the_names_of_common_ones_is_refused():
    @dataclass
    class Shadowing(Tiny):
        seed: int = 0
        plugin: str = ""

    assert "its options plugin, seed have the names of common options. Rename the fields." in refused(task=Shadowing())


# ---- the folder ------------------------------------------------------------------------------------------------------


def test_the_folder_is_named_and_nothing_is_made_before_the_run(tmp_path):
    runs = tmp_path / "runs"
    assert launch(runs_dir=runs, name="first").run_folder == runs / "toy" / "first"
    assert launch(runs_dir=runs).run_folder.parent == runs / "toy"
    assert launch(runs_dir=runs).run_folder != launch(runs_dir=runs).run_folder
    assert launch(runs_dir=None).run_folder is None
    assert not runs.exists()


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "", "a b", "-x", "a\n"])
def test_a_name_that_cannot_be_a_folders_is_refused(name, tmp_path):
    assert f"--name: {name!r} cannot be a folder name" in refused(runs_dir=tmp_path, name=name)


def test_a_name_that_is_taken_is_refused(tmp_path):
    launch(runs_dir=tmp_path, name="first").train()
    assert "first already exists" in refused(runs_dir=tmp_path, name="first")
    two = [launch(runs_dir=tmp_path, name="second") for _ in range(2)]
    run = two[0].train()
    before = (run.folder / "run.json").read_text()
    with pytest.raises(UsageError, match="second cannot be created"):
        two[1].train()
    assert (run.folder / "run.json").read_text() == before
    assert [path.name for path in (tmp_path / "toy").iterdir() if path.name.startswith(".")] == []


def test_a_file_in_the_way_is_told_before_training(tmp_path):
    (tmp_path / "runs").write_text("")
    for place in (tmp_path / "runs", tmp_path / "runs" / "deeper"):
        assert f"--runs-dir: {tmp_path / 'runs'} is a file, not a folder" in refused(runs_dir=place)
    (tmp_path / "toy").write_text("")
    assert "is a file, not a folder" in refused(runs_dir=tmp_path)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place that refuses even the superuser")
def test_a_place_that_cannot_be_written_is_told_before_training():
    message = refused(runs_dir=Path("/proc/runs"))
    assert "--runs-dir: /proc cannot be written: " in message
    assert "--dry-run" in message


def test_checking_a_place_leaves_nothing_behind(tmp_path):
    folder.check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


# ---- optimizers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_of_mxnet_trains(name, tmp_path, monkeypatch):
    # GroupAdaGrad takes matrices alone and knows no weight decay, so the net has no bias.
    monkeypatch.setattr(Toy, "net", lambda self: gluon.nn.Dense(1, use_bias=False))
    run = launch(options={"optimizer": name, "epochs": 1, "weight-decay": 0}, runs_dir=tmp_path).train()
    assert (run.status, run.updates) == ("finished", 2)
    assert run.metrics["train/loss"] < float("inf")
    # From what was saved, its own rate included.
    assert launch(config=run.folder / "config.toml").train().metrics == run.metrics


def test_an_unknown_optimizer_is_told_with_the_likely_one(config):
    with pytest.raises(UsageError, match=r"^--optimizer: MXNet has no optimizer 'addam'\. Did you mean 'adam'\?$"):
        launch(options={"optimizer": "addam"}).train()
    with pytest.raises(UsageError, match=r"given\.toml: \[optimizer\]: MXNet has no optimizer 'addam'\."):
        launch(config=config("[optimizer]\nname = 'addam'")).train()
    with pytest.raises(UsageError, match="no optimizer 'test'"):
        launch(options={"optimizer": "test"}).train()


def test_an_unknown_argument_of_an_optimizer_is_told_with_the_likely_one(config):
    with pytest.raises(UsageError, match=r"^--set optimizer: sgd has no argument 'momentun'\. Did you mean 'momentum'"):
        launch(sets=["optimizer.momentun=0.9"]).train()
    with pytest.raises(UsageError, match=r"given\.toml: \[optimizer\]: sgd has no argument 'momentun'\. Did you mean"):
        launch(config=config("[optimizer]\nmomentun = 0.9")).train()
    with pytest.raises(UsageError, match=r"adam has no argument 'momentum'\. "):
        launch(options={"optimizer": "adam"}, sets=["optimizer.momentum=0.9"]).train()


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ("momentum=much", "'much' does not fit 'momentum': it should be a number"),
        ("momentum=true", "True does not fit 'momentum': it should be a number"),
        ("lazy-update=maybe", "'maybe' does not fit 'lazy-update': it should be true or false"),
        ("lazy-update=1", "1 does not fit 'lazy-update': it should be true or false"),
        ("clip-gradient=x", "'x' does not fit 'clip-gradient': it should be a number"),
    ],
)
def test_an_argument_of_an_optimizer_that_does_not_fit_is_told(entry, complaint):
    with pytest.raises(UsageError, match=f"^--set optimizer: {complaint}"):
        launch(sets=[f"optimizer.{entry}"]).train()


def test_arguments_of_optimizers_are_numbers_and_truth_values_where_they_look_like_them():
    optimizer = launch(sets=["optimizer.momentum=0.5", "optimizer.lazy-update=false"]).settings.optimizer.build()
    assert (optimizer.momentum, optimizer.lazy_update) == (0.5, False)


def test_leaving_out_a_plugin_that_the_run_does_not_use_is_a_note(caplog):
    assert [each.name for each in launch(without=["other"]).plugins] == ["watch"]
    assert "--no-plugin: the run does not use the plugin 'other' anyway" in caplog.text


def test_several_files_are_laid_over_each_other_in_their_order(tmp_path):
    first, second, third = (tmp_path / name for name in ("a.toml", "b.toml", "c.toml"))
    # Some editors begin a file with a byte order mark.
    first.write_text("\ufeffepochs = 4\nseed = 5\n[plugins.watch]\nlimit = 8\ninto = 'a'\n[plugins.other]\n", "utf-8")
    second.write_text("epochs = 6\n[task]\nsize = 7\n")
    third.write_text("[plugins.watch]\nlimit = 9\n[plugins.'watch@x']\n")
    made = launch(config=[first, second, third], sets=["seed=3"])
    assert (made.settings.epochs, made.settings.seed, made.task.size) == (6, 3, 7)
    assert [each.name for each in made.plugins] == ["watch", "other", "watch@x"]
    assert (made.plugins[0].limit, made.plugins[0].into) == (9, tmp_path / "a")
    assert launch(config=[third, first]).plugins[0].limit == 8
    lines = list(described(made))
    assert any(re.fullmatch(rf"epochs = 6 +# {second}: epochs", line) for line in lines)
    assert any(re.fullmatch(r"seed = 3 +# --set seed", line) for line in lines)
    assert any(re.fullmatch(r"batch-size = 2 +# the defaults of task 'toy'", line) for line in lines)
    assert any(re.fullmatch(rf"limit = 9 +# {third}: \[plugins.watch\]: limit", line) for line in lines)
    shown = tomllib.loads("\n".join(lines))
    config = made.config()
    assert {key: shown[key] for key in ("epochs", "task", "plugins")} == {
        key: config[key] for key in ("epochs", "task", "plugins")
    }


def test_a_configuration_says_which_plugins_only_python_can_make(tmp_path):
    def look_on(run):
        seen.append(run.epoch)

    seen = []
    values = {"without": ["progress", "tensorboard", "report"], "train_rows": 20, "runs_dir": tmp_path}
    run = fit("logreg", epochs=1, plugins=[on.epoch_end(look_on)], **values)
    config = run.folder / "config.toml"
    with pytest.raises(UsageError, match=r"\[plugins.look-on\]: the plugin 'look-on' was given in Python"):
        prepare_run(Request("logreg", config=config))
    again = prepare_run(Request("logreg", config=config, plugins=[on.epoch_end(look_on)], runs_dir=None))
    assert [plugin.name for plugin in again.plugins].count("look-on") == 1
    resume(run.folder, epochs=2, plugins=[on.epoch_end(look_on)])
    assert seen == [1, 2]


@pytest.mark.parametrize(
    ("given", "file", "epochs"),
    [
        ({"steps": "100"}, {}, 100),
        ({"steps": 1}, {}, 2),
        ({"steps": 100, "epochs": 3}, {}, 3),
        ({"steps": 100}, {"epochs": 4}, 4),
        ({}, {"steps": 50}, 50),
        ({}, {"steps": 50, "epochs": 1}, 1),
        ({}, {}, 2),
    ],
)
def test_steps_without_epochs_decide_how_long_a_run_is(tmp_path, given, file, epochs):
    path = tmp_path / "exp.toml"
    path.write_text(tomli_w.dumps(file))
    request = Request(Tiny, options=given, config=path, runs_dir=None)
    assert prepare_run(request).settings.epochs == epochs


def test_a_task_trains_as_many_steps_as_it_is_given():
    run = fit(Tiny(), steps=23, runs_dir=None)
    assert (run.step, run.epoch, run.status) == (23, 12, "stopped")


@dataclass
class Loaded(Tiny):
    """Its rows come from a DataLoader, in batches of 4."""

    def splits(self, run):
        data = gluon.data.ArrayDataset(np.ones((10, 3), np.float32), np.ones(10, np.float32))
        return Splits(gluon.data.DataLoader(data, 4))


@pytest.mark.parametrize(("values", "where"), [({"python": True}, "batch-size"), ({}, "--batch-size")])
def test_a_batch_size_that_a_loader_overrules_is_refused(values, where):
    launch = prepare_run(Request(Loaded, options={"batch-size": 5}, runs_dir=None, **values))
    with pytest.raises(UsageError, match=rf"^{where}: the task's DataLoader gives batches of 4, so 5 has no effect"):
        launch.train()
    same = prepare_run(Request(Loaded, options={"batch-size": 4}, runs_dir=None, **values))
    assert same.train().step == prepare_run(Request(Loaded, runs_dir=None)).train().step == 6


def test_the_configuration_of_a_run_over_a_loader_runs_again(tmp_path, caplog):
    first = fit(Loaded, runs_dir=tmp_path, name="first")
    again = fit(Loaded, config=first.folder / "config.toml", runs_dir=None)
    assert again.metrics == first.metrics
    assert "the task's DataLoader gives batches of 4, so 2 has no effect" in caplog.text
