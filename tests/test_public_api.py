"""What `import trainer` gives, and what the core must not know."""

import io
import re
import subprocess
import sys
import tokenize
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest
from tiny import Tiny

import trainer
from trainer import Phase, Plugin, PluginError, UsageError, fit
from trainer.catalog import registry
from trainer.events import EVENTS
from trainer_plugins.early_stopping import EarlyStopping

CORE = Path(trainer.__file__).parent


@dataclass
class StopAt(Plugin):
    """Stops after an epoch."""

    epoch: int = 1

    phase = Phase.DECIDE

    def on_epoch_end(self, run):
        if run.epoch == self.epoch:
            run.stop("far enough")


# ---- names -----------------------------------------------------------------------------------------------------------


def test_the_public_names_are_sorted_and_can_be_imported():
    assert trainer.__all__ == sorted(trainer.__all__)
    for name in trainer.__all__:
        value = getattr(trainer, name)
        assert getattr(value, "__name__", name) == name
        assert value.__doc__
    assert set(trainer.__all__) <= set(dir(trainer))


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'trainer' has no attribute 'Trainer'"):
        _ = trainer.Trainer


def test_importing_the_package_and_what_plugins_import_needs_no_mxnet():
    """A plugin's and a task's module are imported for help texts, which must not cost what MXNet costs."""
    code = (
        "import sys, trainer\n"
        "assert not {'mxnet', 'numpy', 'pydantic'} & set(sys.modules), 'import trainer'\n"
        "from trainer import Arrays, Defaults, Phase, Plugin, Run, Splits, Task, UsageError, fit\n"
        "from trainer.catalog import registry\n"
        "assert 'mxnet' not in sys.modules, 'the names for plugins and tasks'\n"
        "for group in registry.WORDS:\n"
        "    for entry in registry.installed(group):\n"
        "        if entry.distribution == 'gluon-trainer':\n"
        "            registry.load(group, entry.name)\n"
        "            assert 'mxnet' not in sys.modules, entry.name\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_mxnet_is_imported_in_one_place():
    importing = re.compile(r"^\s*(?:import|from) mxnet\b", re.MULTILINE)
    sources = [*CORE.rglob("*.py"), *Path(import_module("trainer_plugins").__file__).parent.rglob("*.py")]
    assert [path.name for path in sources if importing.search(path.read_text(encoding="utf-8"))] == ["mxnet.py"]


# ---- fit -------------------------------------------------------------------------------------------------------------


def test_fit_trains_a_task_by_name_and_returns_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = fit("logreg", epochs=3, train_rows=50, hidden=(4,), plugins=[StopAt(2)], runs_dir=None)
    assert (run.status, run.reason, run.epoch, run.step) == ("stopped", "far enough", 2, 10)
    assert [entry["epoch"] for entry in run.history] == [1, 2]
    assert run.metrics["validation/f1"] == run.history[-1]["validation/f1"]
    names = [plugin.name for plugin in run.plugins]
    assert sorted(names) == sorted(["stop-at", *run.task.defaults.plugins])
    assert list(tmp_path.iterdir()) == []


def test_fit_writes_a_run_folder_where_it_is_told_to(tmp_path):
    run = fit("logreg", epochs=1, train_rows=20, without=["progress"], runs_dir=tmp_path / "runs", name="first")
    assert run.folder == tmp_path / "runs" / "logreg" / "first"
    assert {"config.toml", "plugins.json", "run.json", "metrics.jsonl"} <= {file.name for file in run.folder.iterdir()}


def test_fit_takes_a_task_instance():
    run = fit(Tiny(train_rows=6), epochs=1, batch_size=3, learning_rate=0.5, runs_dir=None)
    assert (run.status, run.step, run.learning_rate, run.task.train_rows) == ("finished", 2, 0.5, 6)


def test_fit_gives_a_task_instance_without_a_name_one():
    @dataclass
    class TwoMoons(Tiny):
        name = ""

    assert fit(TwoMoons(), epochs=1, runs_dir=None).task.name == "two-moons"


def test_an_instance_of_an_installed_task_has_the_name_of_its_entry_point(tmp_path):
    task = registry.load(registry.TASKS, "logreg")(train_rows=20, hidden=())
    run = fit(task, epochs=1, without=["progress"], runs_dir=tmp_path)
    assert run.folder.parent == tmp_path / "logreg"
    again = fit("logreg", config=run.folder / "config.toml", runs_dir=None)
    assert again.metrics == run.metrics


def test_fit_does_not_take_options_for_a_task_that_is_an_instance():
    with pytest.raises(UsageError, match=r"an instance already, so its options \(train-rows\) cannot be given"):
        fit(Tiny(), train_rows=6, runs_dir=None)


def test_fit_refuses_an_unknown_keyword_with_the_likely_one():
    with pytest.raises(UsageError, match=r"logreg has no option 'epoch'\. Did you mean 'epochs'\?"):
        fit("logreg", epoch=3, runs_dir=None)
    with pytest.raises(UsageError, match=r"Did you mean 'learning-rate'\?"):
        fit("logreg", learnig_rate=3, runs_dir=None)


def test_fit_refuses_what_is_neither_a_plugin_nor_a_task():
    with pytest.raises(UsageError, match="is not a plugin"):
        fit("logreg", plugins=[StopAt], runs_dir=None)
    with pytest.raises(UsageError, match="is not a task"):
        fit(StopAt, runs_dir=None)


def test_fit_takes_a_task_class_with_its_options():
    run = fit(Tiny, train_rows=6, epochs=1, batch_size=3, runs_dir=None)
    assert (run.status, run.step, run.task.train_rows) == ("finished", 2, 6)


def test_fit_raises_what_a_plugin_raised_naming_plugin_event_and_step():
    class Failing(Plugin):
        def on_batch_end(self, run):
            raise RuntimeError("no disk")

    with pytest.raises(PluginError, match="plugin 'failing' in on_batch_end at epoch 1, step 1 raised RuntimeError"):
        fit(Tiny(), plugins=[Failing()], runs_dir=None)


# ---- the core never names a plugin -----------------------------------------------------------------------------------


def words(source):
    """Identifiers, the text of strings and docstrings, and comments, with the place of each.

    Not of imports from Rich, whose modules have the names that they have.
    """
    kinds = (tokenize.NAME, tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", -1))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in kinds and not token.line.lstrip().startswith("from rich."):
            yield token.start[0], token.string


def test_the_core_never_names_a_plugin_or_a_task():
    names = {
        entry.name
        for group in registry.WORDS
        for entry in registry.installed(group)
        if entry.distribution == "gluon-trainer"
    }
    package = Path(import_module("trainer_plugins").__file__).parent
    names |= {path.stem for path in package.glob("[a-z]*.py")}
    # A plugin may have the name of an event, of a phase, of a split, or of the program whose files it writes and that
    # the core starts; the core's own word for those is no mention of the plugin.
    names -= {*EVENTS, *(phase.name.lower() for phase in Phase), "calibration", "slices", "tensorboard"}
    spelled = "|".join(sorted({re.escape(name).replace("\\-", "[-_]").replace("_", "[-_]") for name in names}))
    named = re.compile(rf"(?<![\w-])(?:{spelled}|trainer_plugins)(?![\w-])", re.IGNORECASE)
    found = [
        f"{path.relative_to(CORE)}:{line}: {found[0]}"
        for path in sorted(CORE.rglob("*.py"))
        for line, text in words(path.read_text(encoding="utf-8"))
        if (found := named.search(text))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"plugins": [EarlyStopping(patience=-1)]}, "plugin 'EarlyStopping': patience: -1 does not fit"),
        ({"plugins": [EarlyStopping(mode="up")]}, "plugin 'EarlyStopping': mode: 'up' does not fit"),
        ({"plugins": "early-stopping"}, "plugins: 'early-stopping' is not a list"),
        ({"threshold": 7.0}, "threshold"),
    ],
)
def test_options_of_instances_are_checked_as_those_of_flags_are(values, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        fit("logreg", epochs=1, runs_dir=None, **values)


def test_a_text_stands_for_the_path_that_it_names(tmp_path):
    from trainer_plugins.logreg import LogisticRegression

    rows = "\n".join(f"{number},{number % 2}" for number in range(60))
    (tmp_path / "t.csv").write_text("a,label\n" + rows)
    run = fit(LogisticRegression(data=str(tmp_path / "t.csv"), label="label"), epochs=1, runs_dir=None)
    assert run.status == "finished"


def test_the_configuration_of_a_run_with_instances_runs_again(tmp_path):
    without = ["progress", "early-stopping"]
    run = fit("logreg", epochs=2, plugins=[EarlyStopping(patience=3)], without=without[:1], runs_dir=tmp_path, name="a")
    again = fit("logreg", config=run.folder / "config.toml", runs_dir=tmp_path, name="b")
    assert [each.name for each in again.plugins] == [each.name for each in run.plugins]
    assert next(each for each in again.plugins if each.name == "early-stopping").patience == 3
    assert again.history == run.history


def test_a_mistake_that_only_the_first_epoch_shows_leaves_no_folder(tmp_path):
    with pytest.raises(UsageError, match="is not logged"):
        fit("logreg", epochs=2, plugins=[EarlyStopping(monitor="validation/f2")], runs_dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
