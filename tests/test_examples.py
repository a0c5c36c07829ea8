"""The example packages: really installed, tested by their own tests, and run beside everything that comes along."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from packages import environment, in_process, pip_install, run_tests, trainer

EXAMPLES = Path(__file__).parent / "examples"
NAMES = sorted(path.name for path in EXAMPLES.iterdir() if (path / "pyproject.toml").is_file())

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder into which pip has installed all of them, from copies: building leaves files behind."""
    place = tmp_path_factory.mktemp("examples")
    for name in NAMES:
        shutil.copytree(EXAMPLES / name, place / "source" / name)
    pip_install(place / "site", *(place / "source" / name for name in NAMES))
    return place / "site"


def read(run, name):
    return json.loads((run / name).read_text())


def test_there_is_an_observer_a_decider_and_a_task():
    assert NAMES == ["digits", "gradient-norms", "time-budget"]


@pytest.mark.parametrize("name", NAMES)
def test_its_own_tests_pass(name, site, tmp_path):
    done = run_tests(site.parent / "source" / name, site, tmp_path)
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


def test_all_are_listed_without_a_fault_and_described(site):
    lines = in_process("plugins", "list", path=[site]).stdout.splitlines()
    for name in NAMES:
        assert [name, name, "1.0.0"] in [line.split() for line in lines]
        assert f"of {name} 1.0.0" in in_process("plugins", "show", name, path=[site]).stdout
    assert not any("WRONG" in line for line in lines)


def test_the_observer_and_the_decider_serve_any_task(site, tmp_path):
    flags = ["--plugin", "gradient-norms", "--plugin", "time-budget", "--set", "time-budget.minutes=1e-6"]
    done = in_process("run", "logreg", *flags, "--set", "gradient-norms.every=1", path=[site], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "time-budget asked to stop" in done.stdout
    (run,) = (tmp_path / "runs" / "logreg").iterdir()
    lines = list(csv.DictReader((run / "gradient-norms.csv").read_text().splitlines()))
    assert {line["step"] for line in lines} == {str(step) for step in range(1, read(run, "run.json")["step"] + 1)}
    assert all(float(line["norm"]) > 0 for line in lines)


def test_the_task_learns_with_early_stopping_and_tensorboard_as_they_are(site, tmp_path):
    sets = ["--set", "early-stopping.monitor=validation/accuracy", "--set", "early-stopping.patience=5"]
    done = in_process("run", "digits", *sets, "--epochs", "60", "--name", "one", path=[site], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    run = tmp_path / "runs" / "digits" / "one"
    record = read(run, "run.json")
    assert record["status"] == "stopped"
    assert [each["plugin"] for each in record["decisions"] if each["action"] == "stop"] == ["early-stopping"]
    assert record["metrics"]["test/accuracy"] >= 0.95
    assert record["metrics"]["test/top-3-accuracy"] >= 0.98

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert "validation/accuracy" in events.Tags()["scalars"]
    assert len(events.Scalars("validation/accuracy")) == record["epoch"]


def test_the_task_is_killed_and_resumed_to_the_same_metrics(site, tmp_path):
    flags = ["--epochs", "12", "--set", "checkpoint.every-steps=20", "--no-plugin", "early-stopping"]
    whole = trainer("run", "digits", *flags, "--name", "whole", path=[site], cwd=tmp_path)
    assert whole.returncode == 0
    command = [sys.executable, "-m", "trainer", "run", "digits", *flags, "--name", "killed"]
    runs = tmp_path / "runs" / "digits"
    with subprocess.Popen(command, cwd=tmp_path, env=environment(site), stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not list((runs / "killed").glob("checkpoints/step-*/manifest.json")):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    done = trainer("resume", "killed", path=[site], cwd=tmp_path)
    if process.returncode == 0:  # it was over before the signal came
        assert "has finished" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
    for name in ("metrics", "step", "updates"):
        assert read(runs / "killed", "run.json")[name] == read(runs / "whole", "run.json")[name]
    strip = re.compile(r'"time": [0-9.]+')
    lines = [strip.sub("", (runs / name / "metrics.jsonl").read_text()) for name in ("whole", "killed")]
    assert lines[0] == lines[1]
