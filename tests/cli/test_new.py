"""`trainer plugins new`: from an empty folder to an installed, tested plugin, without an edit."""

import json
import os

import pytest
from packages import in_process as trainer
from packages import pip_install, run_tests

from trainer.testing import plugins, tasks


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plugin", "task"])
def test_what_it_writes_installs_is_listed_runs_and_passes_its_own_tests(tmp_path, kind):
    name = f"my-{kind}"
    done = trainer("plugins", "new", name, *(["--task"] if kind == "task" else []), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == f"wrote {name}: edit my_{kind}.py, then"
    site = tmp_path / "site"
    pip_install(site, tmp_path / name)

    listing = trainer("plugins", "list", path=[site]).stdout
    assert f"{name} 0.1.0" in " ".join(line for line in listing.splitlines() if line.split()[0] == name)
    assert "WRONG" not in listing
    assert name in trainer("plugins", "show", name, path=[site]).stdout

    flags = ["--name", "one", "--epochs", "2"]
    command = ["run", name, *flags] if kind == "task" else ["run", "logreg", "--plugin", name, *flags]
    done = trainer(*command, path=[site], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (record,) = (tmp_path / "runs").glob("*/one/run.json")
    metrics = json.loads(record.read_text())["metrics"]
    assert "my-plugin/smoothed-loss" in metrics or "test/accuracy" in metrics

    tested = run_tests(tmp_path / name, site, tmp_path)
    promises = len((tasks if kind == "task" else plugins).PROMISES)
    assert tested.returncode == 0, tested.stdout
    assert f"{promises} passed" in tested.stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("MyPlugin", "Use lower-case letters, digits and single dashes, beginning with a letter: my-plugin."),
        ("my plugin", "beginning with a letter: my-plugin."),
        ("1st", "beginning with a letter."),
        ("../up", "beginning with a letter: up."),
        ("a--b", "beginning with a letter: a-b."),
        ("progress", "there is already a plugin of that name: plugin 'progress' (gluon-trainer"),
        ("logreg", "there is already a task of that name"),
        ("task", "means something else in configurations"),
        ("json", "a module json would hide one of Python's own"),
        ("class", "a module class would hide"),
        ("numpy", "a module numpy would hide"),
        ("taken", "taken exists. Choose another name, or another place with --into."),
    ],
)
def test_a_name_that_will_not_do_is_one_line_and_writes_nothing(tmp_path, name, message):
    (tmp_path / "taken").mkdir()
    done = trainer("plugins", "new", name, cwd=tmp_path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_place_that_is_not_there_or_cannot_be_written_is_told(tmp_path):
    done = trainer("plugins", "new", "my-plugin", "--into", tmp_path / "nowhere")
    assert (done.returncode, done.stderr) == (
        2,
        f"error: --into: there is no folder {tmp_path / 'nowhere'}. Make it first.\n",
    )
    if os.access("/proc/1", os.R_OK):
        done = trainer("plugins", "new", "my-plugin", "--into", "/proc")
        assert done.returncode == 2
        assert "cannot be written" in done.stderr
