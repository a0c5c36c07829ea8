"""What each source gives, where it was given, and what the sources laid over each other come to."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny import Tiny

from trainer import Defaults, UsageError
from trainer.config.given import Given, Origin
from trainer.launch.layers import Layer, merge, of_file, of_flags, of_sets, of_task


@dataclass
class Toy(Tiny):
    """A task with a number and a file."""

    size: int = 5
    table: Path | None = None

    defaults = Defaults(learning_rate=0.5, optimizer_arguments={"momentum": 0.9}, plugins=("progress",))


def file(tmp_path, text, name="given.toml"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return of_file(tmp_path / name, "toy")


def together(*layers):
    return merge([of_task("toy", Toy), *layers], "toy", Toy)


def told(values):
    return {name: (given.value, given.where) for name, given in values.items()}


def test_a_task_gives_its_defaults():
    layer = of_task("toy", Toy)
    assert {name: given.value for name, given in layer.settings.items()} == {"epochs": 10, "batch-size": 32, "seed": 0}
    assert {name: given.value for name, given in layer.optimizer.items()} == {
        "momentum": 0.9,
        "name": "sgd",
        "weight-decay": 0.0,
        "learning-rate": 0.5,
    }
    assert layer.settings["epochs"].where == "the defaults of task 'toy': epochs"
    assert list(layer.plugins) == ["progress"]


def test_a_file_gives_values_with_the_table_and_the_folder_that_they_stand_in(tmp_path):
    layer = file(tmp_path, "epochs = 3\n[task]\ntable = 'a'\n[optimizer]\nbeta_1 = 2\n[plugins.progress]\nevery = 1")
    path = tmp_path / "given.toml"
    assert told(layer.settings) == {"epochs": (3, f"{path}: epochs")}
    assert told(layer.task) == {"table": ("a", f"{path}: [task]: table")}
    assert told(layer.optimizer) == {"beta-1": (2, f"{path}: [optimizer]: beta_1")}
    assert told(layer.plugins["progress"].options) == {"every": (1, f"{path}: [plugins.progress]: every")}
    assert layer.task["table"].origin.folder == tmp_path


def test_flags_give_values_by_the_names_that_were_typed():
    layer = of_flags(
        {"size": "7", "epochs": "3", "learning-rate": "0.1"}, "toy", Toy, optimizer={}, plugins=["a"], without=["b"]
    )
    assert told(layer.task) == {"size": ("7", "--size")}
    assert told(layer.settings) == {"epochs": ("3", "--epochs")}
    assert told(layer.optimizer) == {"learning-rate": ("0.1", "--learning-rate")}
    assert ([*layer.added], [*layer.removed]) == (["a"], ["b"])


def test_set_gives_values_by_their_full_names():
    layer = of_sets(["epochs=3", "optimizer.beta_1=0.5", "toy.size=7", "task.table=", "a@b.c.d=1=2"], "toy")
    assert told(layer.settings) == {"epochs": ("3", "--set epochs")}
    assert told(layer.optimizer) == {"beta-1": (0.5, "--set optimizer.beta_1")}
    assert told(layer.task) == {"size": ("7", "--set toy.size"), "table": ("", "--set task.table")}
    assert {name: told(options) for name, options in layer.plugin_options.items()} == {
        "a@b.c": {"d": ("1=2", "--set a@b.c.d")}
    }


def test_each_value_that_wins_keeps_its_origin(tmp_path):
    first = file(tmp_path, "epochs = 3\nseed = 3\nsteps = 3", "first.toml")
    second = file(tmp_path, "seed = 4\nsteps = 4", "second.toml")
    made = together(first, second, of_flags({"steps": "5"}, "toy", Toy, optimizer={}))
    assert {name: Path(given.origin.place).name for name, given in made.settings.items()} == {
        "epochs": "first.toml",
        "batch-size": "the defaults of task 'toy'",
        "seed": "second.toml",
        "steps": "--",
    }


def test_what_a_file_gives_to_one_optimizer_is_not_handed_to_that_of_a_later_file(tmp_path):
    first = file(tmp_path, "[optimizer]\nname = 'adam'\nbeta1 = 0.5\nweight-decay = 0.1", "first.toml")
    second = file(tmp_path, "[optimizer]\nlearning-rate = 0.2", "second.toml")
    third = file(tmp_path, "[optimizer]\nname = 'nag'", "third.toml")

    def optimizer(*layers):
        return {name: given.value for name, given in together(*layers).optimizer.items()}

    assert optimizer(first, second) == {"name": "adam", "weight-decay": 0.1, "beta1": 0.5, "learning-rate": 0.2}
    assert optimizer(first, second, third) == {"name": "nag", "weight-decay": 0.1}


def test_a_value_that_a_later_layer_replaces_is_not_looked_at(tmp_path):
    made = together(file(tmp_path, "epochs = 'x'\n[task]\nsize = 'x'"), of_sets(["epochs=1", "toy.size=1"], "toy"))
    assert (made.settings["epochs"].value, made.task["size"].value) == ("1", "1")


def test_options_of_a_plugin_that_is_not_in_use_are_refused():
    with pytest.raises(UsageError, match=r"^--set: the run does not use the plugin 'checkpoint'\. Add --plugin check"):
        together(of_sets(["checkpoint.every=1"], "toy"))
    assert together(
        Layer(plugins={}), of_flags({}, "toy", Toy, optimizer={}, plugins=["checkpoint"])
    ).plugins.keys() == {"checkpoint"}


@pytest.mark.parametrize(
    ("place", "where", "section"),
    [
        ("--", "--size", "--size"),
        ("--set ", "--set size", "--set"),
        ("--set toy.", "--set toy.size", "--set toy"),
        ("a.toml", "a.toml: size", "a.toml"),
        ("a.toml: [task]", "a.toml: [task]: size", "a.toml: [task]"),
    ],
)
def test_a_place_is_named_as_it_would_be_written(place, where, section):
    given = Given(1, "size", Origin("file", place))
    assert (given.where, given.section) == (where, section)
