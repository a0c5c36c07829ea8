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
    other = ["--optimizer", "adam", "--set", "optimizer.beta1=0.8"]
    other += ["--plugin", "early-stopping", "--set", "early-stopping.patience=7"]
    for name, more in (("first", []), ("second", other)):
        options = ["--plugin", "tensorboard", "--set", "tensorboard.figures=1", "--set", "tensorboard.histograms=1"]
        done = in_process(
            *("run", "logreg", "--epochs", "2", "--train-rows", "50", "--name", name), *options, *more, cwd=folder
        )
        assert done.returncode == 0, done.stderr
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


def raw(address, path, body=None, **query):
    url = f"{address}{path}?{urllib.parse.urlencode(query)}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def asked(address, path, body=None, **query):
    return json.loads(raw(address, path, body, **query))


def test_it_serves_every_run_below_a_folder(runs):
    with served(runs, "runs", "--port", "0") as (address, _):
        names = [f"logreg/{name}/tensorboard" for name in ("first", "second")]
        assert sorted(asked(address, "/data/runs")) == names
        tags = asked(address, "/data/plugin/scalars/tags")
        assert "validation/f1" in tags[names[0]]
        points = asked(address, "/data/plugin/scalars/scalars", run=names[0], tag="loss/validation")
        assert [step for _, step, _ in points] == [5, 10]
        log = (runs / "runs" / "logreg" / "first" / "metrics.jsonl").read_text().splitlines()
        epochs = [entry for entry in map(json.loads, log) if entry["event"] == "epoch"]
        losses = [entry["metrics"]["validation/loss"] for entry in epochs]
        assert [value for *_, value in points] == pytest.approx(losses, rel=1e-6)


NAMES = [f"logreg/{name}/tensorboard" for name in ("first", "second")]


@pytest.fixture(scope="module")
def board(runs):
    with served(runs, "runs", "--port", "0") as (address, _):
        yield address


def tags(address, kind):
    """What a tab lists, for every run."""
    found = asked(address, f"/data/plugin/{kind}/tags")
    assert sorted(found) == NAMES
    return [(name, tag) for name, own in found.items() for tag in own]


@pytest.mark.parametrize("kind", ["scalars", "histograms", "distributions"])
def test_the_tabs_of_numbers_show_every_run(board, kind):
    found = tags(board, kind)
    assert {name for name, _ in found} == set(NAMES)
    for name, tag in found:
        assert asked(board, f"/data/plugin/{kind}/{kind}", run=name, tag=tag), tag


def test_the_first_cards_are_the_losses(board):
    # TensorBoard sorts them by tag, those of all kinds on its first screen.
    found = asked(board, "/data/plugin/timeseries/tags")
    own = [tag for kind in ("scalars", "histograms") for tag in found[kind]["runTagInfo"][NAMES[0]]]
    assert sorted([*own, *found["images"]["tagRunSampledInfo"]])[:2] == ["loss/train", "loss/validation"]


def test_the_images_tab_shows_every_run(board):
    found = tags(board, "images")
    assert {(name, "validation/precision-recall/image") for name in NAMES} <= set(found)
    for name, tag in found:
        entries = asked(board, "/data/plugin/images/images", run=name, tag=tag, sample=0)
        assert [entry["step"] for entry in entries] == [5, 10]
        picture = raw(board, f"/data/plugin/images/individualImage?{entries[-1]['query']}&ignored")
        assert picture.startswith(b"\x89PNG"), tag


def test_the_tabs_of_curves_texts_and_graphs_show_every_run(board):
    assert tags(board, "pr_curves") == [(name, "validation/pr-curve") for name in NAMES]
    assert tags(board, "text") == [(name, "config/text") for name in NAMES]
    for name in NAMES:
        (curves,) = asked(board, "/data/plugin/pr_curves/pr_curves", run=name, tag="validation/pr-curve").values()
        assert len(curves[-1]["precision"]) > 10
        assert "logreg" in str(asked(board, "/data/plugin/text/text", run=name, tag="config/text"))
        assert asked(board, "/data/plugin/graphs/info")[name]["run_graph"]
        assert b"FullyConnected" in raw(board, "/data/plugin/graphs/graph", run=name, conceptual="false")


def test_hyperparameters_of_different_runs_stand_side_by_side(board):
    experiment = asked(board, "/data/plugin/hparams/experiment", {"experimentName": ""})
    groups = asked(
        board,
        "/data/plugin/hparams/session_groups",
        {
            "experimentName": "",
            "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"],
            "colParams": [{"hparam": each["name"]} for each in experiment["hparamInfos"]],
            "startIndex": 0,
            "sliceSize": 10,
        },
    )["sessionGroups"]
    columns = {each["name"] for each in experiment["hparamInfos"]}
    assert {"optimizer.name", "optimizer.learning-rate", "optimizer.beta1", "task.hidden", "plugins"} <= columns
    assert {"early-stopping.patience", "tensorboard.figures"} <= columns
    assert {"validation/f1", "loss/validation"} <= {each["name"]["tag"] for each in experiment["metricInfos"]}
    first, second = sorted((each["hparams"] for each in groups), key=lambda values: values["optimizer.name"] == "adam")
    assert (second["optimizer.beta1"], second["early-stopping.patience"]) == (0.8, 7)
    assert "optimizer.beta1" not in first
    assert [session["status"] for each in groups for session in each["sessions"]] == ["STATUS_SUCCESS"] * 2


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
