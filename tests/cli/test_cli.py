"""The command line as a user meets it: processes, their output, their exit codes, and what they leave on disk."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from packages import in_process, install, trainer

from trainer.catalog import registry
from trainer.config import options
from trainer.config.settings import Settings, kebab

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

COMMON = [
    *(kebab(name) for name in Settings.model_fields),
    *("learning-rate", "weight-decay", "plugin", "no-plugin", "set", "config", "runs-dir", "name", "dry-run", "help"),
]


def ours(group):
    return [entry.name for entry in registry.installed(group) if entry.distribution == "gluon-trainer"]


def only(folder):
    """The one run folder below a runs folder."""
    (run,) = Path(folder).glob("*/*/run.json")
    return run.parent


def logged_metrics(run):
    """The metrics log without its clock."""
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in entry.items() if key != "time"} for entry in entries]


def record(run):
    return json.loads((run / "run.json").read_text(encoding="utf-8"))


# ---- help ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_the_commands(command, flag):
    code, out, err = command(flag)
    assert (code, err) == (0, "")
    assert all(word in out for word in ("plugins", "run", "--version"))


def test_the_version_is_the_distributions(command):
    from importlib.metadata import version

    assert command("--version") == (0, f"gluon-trainer {version('gluon-trainer')}\n", "")


@pytest.mark.parametrize("arguments", [(), ("run",), ("plugins",)])
def test_a_command_without_its_arguments_shows_its_help(command, arguments):
    code, out, err = command(*arguments)
    assert code == 2
    assert "Usage: trainer" in out + err
    assert "Commands:" in out + err


def test_every_task_is_listed_with_its_first_line(command):
    code, out, _ = command("run", "--help")
    assert code == 0
    assert all(f"\n  {name} " in out for name in ours(registry.TASKS))


@pytest.mark.parametrize("name", ours(registry.TASKS))
def test_the_help_of_a_task_has_every_common_option_and_every_one_of_its_own(command, name):
    code, out, err = command("run", name, "--help")
    assert (code, err) == (0, "")
    text = " ".join(out.split())
    for option in COMMON:
        assert f"--{option} " in text, option
    for option in options.options_of(registry.load(registry.TASKS, name)):
        assert f"--{option.name}" in text
        # The help is wrapped at hyphens too, hence without spaces.
        assert option.help.replace(" ", "") in text.replace(" ", "")
        if option.default_text and not option.is_switch:
            assert f"[default: {option.default_text}]".replace(" ", "") in text.replace(" ", "")
        if option.is_switch:
            assert f"--no-{option.name}" in text


@pytest.mark.parametrize("name", [*ours(registry.PLUGINS), *ours(registry.TASKS)])
def test_show_tells_every_option_with_type_range_and_default(command, name):
    code, out, err = command("plugins", "show", name)
    assert (code, err) == (0, "")
    group = registry.PLUGINS if name in ours(registry.PLUGINS) else registry.TASKS
    cls = registry.load(group, name)
    assert cls.__doc__.splitlines()[0] in out
    for option in options.options_of(cls):
        assert option.name in out
        assert option.help in out
        assert all(part in out for part in (option.type_name, option.constraints, option.default_text))
    if group == registry.PLUGINS:
        assert f"phase: {cls.phase.name}" in out


def test_the_list_names_everything_that_is_installed(command):
    code, out, err = command("plugins", "list")
    assert (code, err) == (0, "")
    plugins, tasks = out.removeprefix("plugins\n").split("tasks\n")
    assert [line.split()[0] for line in plugins.splitlines()] == [e.name for e in registry.installed(registry.PLUGINS)]
    assert [line.split()[0] for line in tasks.splitlines()] == [e.name for e in registry.installed(registry.TASKS)]


# ---- what a short command may import ---------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("plugins", "list")])
def test_help_and_listing_import_no_plugin_and_nothing_heavy(arguments):
    code = (
        "import sys\n"
        f"sys.argv = ['trainer', *{arguments!r}]\n"
        "from trainer.cli.app import run_app\n"
        "assert run_app() == 0\n"
        "print(*sys.modules, sep='\\n', file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(done.stderr.split())
    imported = {name.partition(".")[0] for name in modules}
    assert "trainer" in imported
    heavy = {"mxnet", "numpy", "scipy", "sklearn", "pyarrow", "matplotlib", "tensorboard", "optuna", "jinja2"}
    assert imported & heavy == set()
    entries = [entry for group in registry.WORDS for entry in registry.installed(group)]
    assert modules & {entry.value.partition(":")[0] for entry in entries} == set()
    # The list of all commands has a line of help for each, so it imports those that packages add, and nothing else.
    commands = {entry.value.partition(":")[0] for entry in registry.installed(registry.COMMANDS)}
    packages = {name.rpartition(".")[0] for name in commands} | {"trainer_plugins"}
    assert {name for name in modules if name.startswith("trainer_plugins")} <= commands | packages


@pytest.mark.parametrize(
    "arguments",
    [("run", "--help"), ("run", "logreg", "--help"), ("plugins", "show", "logreg"), ("data", "show", "--help")],
)
def test_no_help_imports_mxnet(arguments):
    code = (
        "import sys\n"
        f"sys.argv = ['trainer', *{arguments!r}]\n"
        "from trainer.cli.app import run_app\n"
        "assert run_app() == 0\n"
        "assert 'mxnet' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


# ---- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("plugin list", "No such command 'plugin'. Did you mean 'plugins'?"),
        ("--bogus", "No such option: --bogus. See trainer --help."),
        ("plugins show", "Missing argument"),
        ("plugins show progres", "there is no plugin or task 'progres'. Installed: "),
        (
            "run logrge",
            "there is no task 'logrge'. Installed: image-classification, linreg, logreg. Did you mean 'logreg'?",
        ),
        ("run logrge --help", "there is no task 'logrge'."),
        ("run logreg --epoch 3", "No such option: --epoch"),
        ("run logreg extra", "unexpected extra argument"),
        ("run logreg --runs-dir made --epochs", "Option '--epochs' requires an argument."),
        ("run logreg --runs-dir made --epochs three", "epochs: 'three' does not fit: it should be a valid integer"),
        ("run logreg --runs-dir made --optimizer addam", "--optimizer: MXNet has no optimizer 'addam'. Did you mean"),
        ("run logreg --runs-dir made --devices gpu:99", "--devices: "),
        (
            "run logreg --runs-dir made --config wrong.toml",
            "wrong.toml: there is no key 'epoch'. Did you mean 'epochs'?",
        ),
        ("run logreg --runs-dir made --data nowhere.csv --label y", "nowhere.csv"),
    ],
)
def test_a_mistake_is_one_line_that_names_it_exit_code_2_and_no_folder(command, arguments, complaint):
    """Of each kind one; which mistakes there are, and what is said of them, stands in the tests of their places."""
    Path("wrong.toml").write_text("epoch = 3\n")
    code, out, err = command(*arguments.split())
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert complaint in err
    assert len(err.splitlines()) == 1
    assert not Path("made").exists()


def test_the_same_comes_from_a_process_of_its_own(tmp_path):
    done = trainer("run", "logreg", "--epoch", 3, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == "error: No such option: --epoch (Possible options: --epochs). See trainer run logreg --help.\n"
    )


def test_a_reader_that_goes_away_is_not_an_error():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "trainer", "plugins", "list"], stdout=gone, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (0, b"")


# ---- runs ------------------------------------------------------------------------------------------------------------

SHORT = ["--epochs", 2, "--train-rows", 60, "--validation-rows", 20]


def test_a_dry_run_computes_a_batch_and_writes_nothing(command, tmp_path):
    code, out, err = command("run", "logreg", "--dry-run", *SHORT)
    assert (code, err) == (0, "")
    assert "dry run: one batch computed, loss " in out
    assert "no run was written" in out
    assert list(tmp_path.iterdir()) == []


def test_a_run_says_how_it_ended_and_where_it_is(command, tmp_path):
    code, out, err = command("run", "logreg", *SHORT)
    assert (code, err) == (0, "")
    run = only(tmp_path / "runs")
    assert "finished after 2 epochs, 12 steps, " in out
    assert f"run: {run}" in out
    assert record(run)["status"] == "finished"


def test_a_loss_that_is_not_finite_ends_with_1_and_says_since_which_epoch(command, tmp_path, caplog):
    code, out, _ = command("run", "logreg", *SHORT, "--hidden", "", "--optimizer", "sgd", "--learning-rate", 1e38)
    reason = "validation/loss is nan in epoch 1"
    assert code == 1
    assert f"WARNING: {reason}" in out
    assert [entry.getMessage() for entry in caplog.records if reason in entry.getMessage()] == [
        f"{reason}. Check the data, or use a lower learning rate."
    ]
    saved = record(only(tmp_path / "runs"))
    assert (saved["status"], saved["reason"]) == ("finished", reason)


def test_runs_dir_and_name_say_where_the_folder_is(command, tmp_path):
    code, _, _ = command("run", "logreg", *SHORT, "--runs-dir", "elsewhere/deep", "--name", "first.try")
    assert code == 0
    assert (tmp_path / "elsewhere" / "deep" / "logreg" / "first.try" / "run.json").exists()
    code, _, err = command("run", "logreg", *SHORT, "--runs-dir", "elsewhere/deep", "--name", "first.try")
    assert code == 2
    assert "already exists" in err


def test_steps_ends_a_run_early_and_says_so(command, tmp_path):
    code, out, _ = command("run", "logreg", *SHORT, "--steps", 3)
    assert code == 0
    assert "stopped after 1 epochs, 3 steps" in out
    assert "it has reached its limit of 3 steps" in out
    assert record(only(tmp_path / "runs"))["step"] == 3


def test_plugins_are_left_out_and_added(command, tmp_path):
    code, out, _ = command("run", "logreg", *SHORT, "--no-plugin", "progress", "--plugin", "metrics-log@more")
    assert code == 0
    assert "epoch 1/2" not in out
    names = {plugin["name"] for plugin in json.loads((only(tmp_path / "runs") / "plugins.json").read_text())}
    assert "progress" not in names
    assert {"metrics-log", "metrics-log@more"} <= names


def test_a_runs_configuration_runs_again_to_the_same_metrics_bit_for_bit(tmp_path):
    first = ["--hidden", "6,3", "--dropout", 0.25, "--optimizer", "adam", "--set", "optimizer.beta1=0.8"]
    watch = ["--set", "metrics-log.every=1"]
    assert in_process("run", "logreg", *SHORT, *first, *watch, "--name", "a", cwd=tmp_path).returncode == 0
    runs = tmp_path / "runs" / "logreg"
    saved = ["--config", runs / "a" / "config.toml"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    again = in_process("run", "logreg", *saved, "--runs-dir", tmp_path / "runs", "--name", "b", cwd=elsewhere)
    assert again.returncode == 0, again.stderr
    assert logged_metrics(runs / "b") == logged_metrics(runs / "a")
    assert len(logged_metrics(runs / "b")) == 12 + 2 + 1
    assert (runs / "b" / "config.toml").read_text() == (runs / "a" / "config.toml").read_text()

    changes = ["--set", "optimizer.learning-rate=0.05", "--set", "logreg.dropout=0", "--set", "metrics-log.every=4"]
    assert in_process("run", "logreg", *saved, *changes, "--name", "c", cwd=tmp_path).returncode == 0
    before, after = (tomllib.loads((runs / name / "config.toml").read_text()) for name in "ac")
    before["optimizer"]["learning-rate"] = 0.05
    before["task"]["dropout"] = 0.0
    before["plugins"]["metrics-log"]["every"] = 4
    assert after == before
    assert logged_metrics(runs / "c") != logged_metrics(runs / "a")


FAILING = """
from dataclasses import dataclass
from trainer import Plugin


@dataclass
class Failing(Plugin):
    def on_epoch_end(self, run):
        raise RuntimeError("the disk is full")
"""


def test_a_plugin_that_raises_ends_with_1_a_traceback_and_the_status_failed(tmp_path):
    install(tmp_path / "site", "failing-things", {registry.PLUGINS: {"failing": "failing:Failing"}}, failing=FAILING)
    done = in_process("run", "logreg", *SHORT, "--plugin", "failing", path=[tmp_path / "site"], cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert 'failing.py", line 9, in on_epoch_end' in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last == ("error: plugin 'failing' in on_epoch_end at epoch 1, step 6 raised RuntimeError: the disk is full")
    saved = record(only(tmp_path / "runs"))
    assert (saved["status"], "the disk is full" in saved["reason"]) == ("failed", True)
    assert logged_metrics(only(tmp_path / "runs"))[-1]["status"] == "failed"
