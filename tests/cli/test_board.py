"""trainer board: the real TensorBoard, asked over HTTP."""

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from packages import in_process, trainer

from trainer import fit


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with two recorded runs."""
    folder = tmp_path_factory.mktemp("board")
    values = {"epochs": 2, "train_rows": 50, "plugins": ["tensorboard"], "without": ["progress"]}
    for name in ("first", "second"):
        fit("logreg", runs_dir=folder / "runs", name=name, **values)
    return folder


@contextmanager
def served(folder, *arguments):
    """A board, and its address; it has to end well on Ctrl-C."""
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", "board", *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        address = re.search(r"TensorBoard is at (http://\S+)", line)
        assert address, line + process.stderr.read()
        yield address[1].rstrip("/"), process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


def asked(address, path, **query):
    with urllib.request.urlopen(f"{address}{path}?{urllib.parse.urlencode(query)}", timeout=60) as answer:
        return json.load(answer)


def test_it_serves_every_run_below_a_folder(runs):
    with served(runs, "runs", "--port", "0") as (address, _):
        names = [f"logreg/{name}/tensorboard" for name in ("first", "second")]
        assert sorted(asked(address, "/data/runs")) == names
        tags = asked(address, "/data/plugin/scalars/tags")
        assert "validation/f1" in tags[names[0]]
        points = asked(address, "/data/plugin/scalars/scalars", run=names[0], tag="validation/loss")
        assert [step for _, step, _ in points] == [5, 10]
        log = (runs / "runs" / "logreg" / "first" / "metrics.jsonl").read_text().splitlines()
        epochs = [entry for entry in map(json.loads, log) if entry["event"] == "epoch"]
        losses = [entry["metrics"]["validation/loss"] for entry in epochs]
        assert [value for *_, value in points] == pytest.approx(losses, rel=1e-6)


def test_it_serves_single_runs_side_by_side_and_ends_on_sigterm(runs):
    folders = [f"runs/logreg/{name}" for name in ("first", "second")]
    with served(runs, *folders, "--port", "0") as (address, process):
        assert sorted(asked(address, "/data/runs")) == ["logreg/first/tensorboard", "logreg/second/tensorboard"]
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "RUNS: there is no folder nowhere."),
        (["empty"], "RUNS: empty has no TensorBoard records."),
        (["runs", "--port", "70000"], "--port"),
        (["a,b", "runs"], "RUNS: a,b has a comma or a colon in its name."),
    ],
)
def test_what_cannot_be_shown_is_said(runs, arguments, message):
    (runs / "empty").mkdir(exist_ok=True)
    (runs / "a,b").mkdir(exist_ok=True)
    (runs / "a,b" / "events.out.tfevents.1").touch()
    done = in_process("board", *arguments, cwd=runs)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_said(runs):
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = trainer("board", "runs", "--port", port, cwd=runs)
    assert done.returncode == 2
    assert f"--port: port {port} is in use. Try --port 0." in done.stderr


def test_a_folder_may_lie_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = fit(
        "logreg", epochs=1, train_rows=50, plugins=["tensorboard"], without=["progress"], runs_dir=tmp_path / "my runs"
    )
    with served(Path("/"), run.folder, "--port", "0") as (address, _):
        assert asked(address, "/data/runs") == ["tensorboard"]
