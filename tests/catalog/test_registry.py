"""Third-party plugins and tasks are found by metadata, imported when used, and never break other commands."""

import json
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from importlib import metadata
from types import ModuleType

import pytest
from packages import in_process, install, trainer

from trainer import Plugin, UsageError
from trainer.catalog import registry
from trainer.catalog.registry import PLUGINS, TASKS

COUNTER = '''
"""Counts batches."""
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from trainer import Plugin, Run

Path(__file__).with_name("imported").touch()


@dataclass
class Counter(Plugin):
    """Logs how many batches there were, times a factor."""

    factor: Annotated[int, Field(gt=0, description="What the count is multiplied with.")] = 1
    into: Annotated[Path | None, Field(description="A file for the count.")] = None

    def on_fit_end(self, run: Run) -> None:
        run.log({f"{self.name}/batches": run.step * self.factor})
        if self.into:
            self.into.write_text(str(run.step * self.factor))
'''

HALVES = '''
"""A task of two inputs."""
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from trainer import Arrays, Defaults, Run, Splits, Task

Path(__file__).with_name("imported").touch()


@dataclass
class Halves(Task):
    """Tells the halves of the plane apart."""

    rows: Annotated[int, Field(gt=1, description="Rows to train on.")] = 8

    defaults = Defaults(epochs=1, batch_size=4, learning_rate=0.1, plugins=("counter",))

    def splits(self, run: Run) -> Splits:
        features = np.random.default_rng(run.settings.seed).normal(size=(self.rows, 2))
        return Splits(Arrays(features, features[:, 0] > 0))

    def net(self):
        from trainer.mxnet import gluon

        return gluon.nn.Dense(1)

    def loss(self):
        from trainer.mxnet import gluon

        return gluon.loss.SigmoidBinaryCrossEntropyLoss()
'''

WORKING = {PLUGINS: {"counter": "counting:Counter"}, TASKS: {"halves": "halving:Halves"}}

BROKEN = {
    "raises": ("raising", "raise RuntimeError('no license found')", "RuntimeError: no license found"),
    "needs-more": ("needing", "import a_module_that_is_not_there", "No module named 'a_module_that_is_not_there'"),
    "leaves": ("leaving", "import sys; sys.exit('goodbye')", "goodbye"),
    "does-not-parse": ("parsing", "def", "SyntaxError"),
    "lacks": ("lacking", "", "has no attribute 'Class'"),
    "is-no-plugin": ("something", "class Class: pass", "not a class derived from trainer.Plugin"),
    "is-no-dataclass": (
        "plain",
        "import trainer\nclass Class(trainer.Plugin): pass",
        "not a dataclass. Decorate it with @dataclass.",
    ),
    "has-odd-types": (
        "odd",
        "from __future__ import annotations\nfrom dataclasses import dataclass\nimport trainer\n\n"
        "@dataclass\nclass Class(trainer.Plugin):\n    x: Nowhere = 1\n",
        "'Nowhere' is not defined",
    ),
    "has-an-odd-hook": (
        "hooked",
        "from dataclasses import dataclass\nimport trainer\n\n"
        "@dataclass\nclass Class(trainer.Plugin):\n    def on_epoch_ends(self, run): ...\n",
        "there is no event for its method on_epoch_ends",
    ),
    "hides-an-option": (
        "hiding",
        "from dataclasses import dataclass\nimport trainer\n\n"
        "@dataclass\nclass Class(trainer.Plugin):\n    on_error: str = 'abort'\n",
        "on-error ha",
    ),
    "is-from-the-future": (
        "future",
        "from dataclasses import dataclass\nimport trainer\n\n"
        "@dataclass\nclass Class(trainer.Plugin):\n    api = '99.0'\n",
        "it was written for version 99.0 of the engine's API",
    ),
}


@pytest.fixture
def working(tmp_path):
    """A folder with a package that has a plugin and a task."""
    install(tmp_path / "site", "counting-things", WORKING, version="2.5", counting=COUNTER, halving=HALVES)
    return tmp_path / "site"


@pytest.fixture
def broken(tmp_path):
    """A folder with a package for every way to be broken, each with a plugin, and a broken task."""
    for name, (module, source, _) in BROKEN.items():
        points = {PLUGINS: {name: f"{module}:Class"}}
        install(tmp_path / "broken", f"package-{name}", points, version="0.3", **{module: source})
    install(tmp_path / "broken", "package-task", {TASKS: {"fails": "raising:Class"}}, version="0.3")
    return tmp_path / "broken"


@pytest.fixture
def path(monkeypatch):
    """Makes folders importable in this process, for the time of a test."""

    def prepend(*folders):
        for folder in folders:
            monkeypatch.syspath_prepend(str(folder))
        forget()

    def forget():
        registry.installed.cache_clear()
        registry.load.cache_clear()

    before = set(sys.modules)
    yield prepend
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if "pytest-" in file:
            del sys.modules[name]
    forget()


# ---- a package that works --------------------------------------------------------------------------------------------


def test_a_wheel_from_pip_brings_a_plugin_and_a_task_that_train(tmp_path):
    wheel, site = tmp_path / "counting_things-2.5-py3-none-any.whl", tmp_path / "site"
    install(tmp_path / "source", "counting-things", WORKING, version="2.5", counting=COUNTER, halving=HALVES)
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in sorted((tmp_path / "source").rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(tmp_path / "source"))
        info = "counting_things-2.5.dist-info"
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", site, wheel], check=True, capture_output=True)

    flags = ["--rows", 12, "--set", "counter.factor=10", "--plugin", "counter@second", "--name", "one"]
    done = trainer("run", "halves", *flags, path=[site], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "halves" / "one"
    metrics = json.loads((run / "run.json").read_text())["metrics"]
    assert (metrics["counter/batches"], metrics["counter@second/batches"]) == (30, 3)
    plugins = json.loads((run / "plugins.json").read_text())
    assert plugins[0] == {
        "name": "counter",
        "class": "counting:Counter",
        "distribution": "counting-things",
        "version": "2.5",
        "phase": "MEASURE",
        "on_error": "abort",
        "options": {"factor": 10},
    }


def test_listing_names_package_and_version_and_imports_nothing(working, broken):
    done = in_process("plugins", "list", path=[working, broken])
    assert (done.returncode, done.stderr) == (0, "")
    assert not (working / "imported").exists()
    listed = [line.split() for line in done.stdout.splitlines()]
    assert ["counter", "counting-things", "2.5"] in listed
    assert ["halves", "counting-things", "2.5"] in listed
    assert ["raises", "package-raises", "0.3"] in listed
    assert all(name in done.stdout for name in [*BROKEN, "fails"])


def test_the_help_of_run_lists_working_tasks_beside_broken_ones(working, broken):
    done = in_process("run", "--help", path=[working, broken])
    assert (done.returncode, done.stderr) == (0, "")
    assert "Tells the halves of the plane apart." in done.stdout
    assert "logreg" in done.stdout
    assert "fails" in done.stdout
    assert "Cannot be used" in done.stdout


def test_show_tells_what_a_plugin_offers(working):
    done = in_process("plugins", "show", "counter", path=[working])
    assert done.returncode == 0
    assert "plugin of counting-things 2.5, counting:Counter" in done.stdout
    assert "--set counter.factor=…  (integer, > 0, default 1)" in done.stdout
    assert "--set counter.into=…  (path, default none)" in done.stdout
    assert "What the count is multiplied with." in done.stdout
    assert "events: fit_end" in done.stdout


def test_the_help_of_a_task_shows_its_own_options_and_defaults(working):
    done = in_process("run", "halves", "--help", path=[working])
    assert "Rows to train on. [> 1] [default: 8]" in " ".join(done.stdout.split())
    assert "The task suggests: counter." in " ".join(done.stdout.split())


# ---- packages that do not --------------------------------------------------------------------------------------------


def test_broken_packages_do_not_disturb_a_run_of_another_task(broken, tmp_path):
    done = in_process("run", "logreg", "--dry-run", path=[broken], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", BROKEN)
def test_using_a_broken_plugin_names_package_version_and_error(name, broken, path):
    path(broken)
    with pytest.raises(UsageError) as caught:
        registry.create_plugin(name, {}, where="")
    assert BROKEN[name][2] in str(caught.value)
    assert str(caught.value).startswith(f"plugin {name!r} (package-{name} 0.3): ")


def test_on_the_command_line_that_is_one_message_without_a_traceback(broken, tmp_path):
    done = in_process("run", "logreg", "--plugin", "raises", path=[broken], cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "error: plugin 'raises' (package-raises 0.3): raising:Class cannot be imported: "
        "RuntimeError: no license found. Fix or uninstall package-raises.\n"
    )
    assert (done.stdout, list(tmp_path.glob("runs"))) == ("", [])


@pytest.mark.parametrize("arguments", [("run", "fails"), ("run", "fails", "--help"), ("plugins", "show", "fails")])
def test_using_a_broken_task_names_package_version_and_error(arguments, broken):
    done = in_process(*arguments, path=[broken])
    assert done.returncode == 2
    assert done.stderr.startswith("error: task 'fails' (package-task 0.3): raising:Class cannot be imported: ")
    assert len(done.stderr.splitlines()) == 1


def test_two_packages_that_claim_one_name_are_an_error_where_it_is_used(working, tmp_path, path, monkeypatch):
    install(tmp_path / "other", "other-things", {PLUGINS: {"counter": "other:Counter"}}, version="0.1")
    path(working, tmp_path / "other")
    with pytest.raises(UsageError, match=r"'counter' is claimed by counting-things 2\.5, other-things 0\.1") as caught:
        registry.load(PLUGINS, "counter")
    assert caught.value.fix == "Uninstall all but one of them, or name them in TRAINER_DISABLE_PLUGINS."
    monkeypatch.setenv("TRAINER_DISABLE_PLUGINS", "other-things")
    assert registry.find(PLUGINS, "counter").distribution == "counting-things"
    monkeypatch.delenv("TRAINER_DISABLE_PLUGINS")
    assert registry.load(TASKS, "halves").__name__ == "Halves"
    listing = in_process("plugins", "list").stdout
    assert listing.count("(claimed twice)") == 2


def test_the_same_package_twice_on_the_path_is_not_a_conflict(working, tmp_path, path):
    install(tmp_path / "older", "counting-things", WORKING, version="2.4")
    path(tmp_path / "older", working)
    assert registry.find(PLUGINS, "counter").version == "2.5"


def test_entry_points_without_metadata_are_listed_as_of_unknown_origin(tmp_path, path):
    install(tmp_path / "site", "leftover", {PLUGINS: {"orphan": "nowhere:Orphan"}}, metadata=False)
    path(tmp_path / "site")
    assert registry.find(PLUGINS, "orphan").origin == "unknown"
    with pytest.raises(UsageError, match="No module named 'nowhere'"):
        registry.load(PLUGINS, "orphan")


def test_a_package_with_unreadable_entry_points_is_passed_over_with_a_warning(working, tmp_path, path, caplog):
    install(tmp_path / "site", "garbled", {})
    next((tmp_path / "site").glob("*/entry_points.txt")).write_text("[trainer.plugins]\nno equals sign\n")
    path(working, tmp_path / "site")
    names = [entry.name for entry in registry.installed(PLUGINS)]
    assert {"counter", "progress"} <= set(names)
    assert len(names) == len(set(names))
    assert "the entry points of garbled cannot be read" in caplog.text


# ---- names -----------------------------------------------------------------------------------------------------------


def test_an_unknown_name_is_told_with_all_that_are_installed_and_the_likely_one():
    with pytest.raises(
        UsageError, match=r"there is no plugin 'Progres'\. Installed: .*progress.*Did you mean 'progress'"
    ):
        registry.find(PLUGINS, "Progres")
    with pytest.raises(UsageError, match=r"there is no task 'log_reg'\. Installed: .*Did you mean 'logreg'"):
        registry.find(TASKS, "log_reg")


@pytest.mark.parametrize(
    ("instance", "parts"),
    [("counter", ("counter", "")), ("counter@a", ("counter", "a")), ("counter@v1.2-b_c", ("counter", "v1.2-b_c"))],
)
def test_an_instance_name_is_a_plugin_and_a_label(instance, parts):
    assert registry.split_name(instance) == parts


@pytest.mark.parametrize("instance", ["counter@", "counter@a b", "counter@a/b", "counter@-a", "counter@a@b"])
def test_a_label_is_checked(instance):
    with pytest.raises(UsageError, match="is not an instance name"):
        registry.split_name(instance)


def test_two_instances_of_one_plugin_have_options_of_their_own(working, path):
    path(working)
    first, second = (
        registry.create_plugin(f"counter@{label}", {"factor": factor}, where="")
        for label, factor in (("a", "2"), ("b", 3))
    )
    assert (first.name, first.factor, second.name, second.factor) == ("counter@a", 2, "counter@b", 3)
    assert registry.origin_of(first)["distribution"] == "counting-things"


def test_every_plugin_has_the_option_on_error(working, path):
    path(working)
    assert registry.create_plugin("counter", {"on-error": "disable"}, where="").on_error == "disable"
    with pytest.raises(UsageError, match=r"^here: on-error: 'ignore' does not fit: it should be 'abort' or 'disable'"):
        registry.create_plugin("counter", {"on-error": "ignore"}, where="here")


def test_a_plugin_made_in_python_is_named_after_its_class_or_its_entry_point(working, path):
    path(working)

    @dataclass
    class F1AndROCCurves(Plugin):
        pass

    assert registry.name_of(F1AndROCCurves()) == "f1-and-roc-curves"
    assert registry.origin_of(F1AndROCCurves())["class"].endswith("F1AndROCCurves")
    assert registry.name_of(registry.load(PLUGINS, "counter")()) == "counter"


def test_every_entry_point_of_ours_loads():
    ours = [entry for group in (PLUGINS, TASKS) for entry in registry.installed(group)]
    ours = [entry for entry in ours if entry.distribution == "gluon-trainer"]
    assert ours
    assert {entry.version for entry in ours} == {metadata.version("gluon-trainer")}
    for entry in ours:
        assert issubclass(registry.load(entry.group, entry.name), registry.BASES[entry.group])


@pytest.mark.parametrize("lazy", [True, False])
def test_a_class_in_a_submodule_of_its_entry_points_package_has_its_origin(monkeypatch, lazy):
    @dataclass
    class Deep(Plugin):
        """A plugin whose package gives it from a module within."""

    Deep.__module__, Deep.__qualname__ = "deep_package._inner", "Deep"
    package = ModuleType("deep_package")
    if lazy:
        package.__getattr__ = {"Deep": Deep}.__getitem__
    else:
        package.Deep = Deep
    monkeypatch.setitem(sys.modules, "deep_package", package)
    entry = registry.Installed(PLUGINS, "deep", "deep_package:Deep", "deep-package", "2.1")
    monkeypatch.setattr(registry, "installed", lambda group: (entry,) if group == PLUGINS else ())
    plugin = Deep()
    plugin.name = registry.name_of(plugin)
    about = {"class": "deep_package._inner:Deep", "distribution": "deep-package", "version": "2.1"}
    assert (plugin.name, registry.origin_of(plugin)) == ("deep", about)
    monkeypatch.delitem(sys.modules, "deep_package")
    assert registry.origin_of(plugin) == {"class": "deep_package._inner:Deep"}
