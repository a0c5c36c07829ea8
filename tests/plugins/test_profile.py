"""The profiler's window: what is in it, what comes out of it, and that it leaves the process as it was."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import nullcontext

import numpy as np
import pytest
from tiny import Tiny, engine, plugin, weights

from trainer import Interrupted, Phase, PluginError, UsageError
from trainer_plugins.profile import Profile


def profile(name="profile", **options):
    made = Profile(**options)
    made.name, made.on_error = name, "abort"
    return made


def deep():
    from trainer.mxnet import gluon

    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Dense(5, activation="tanh"), gluon.nn.Dense(1))
    return net


def task(**options):
    return Tiny(**{"train_rows": 12, "make_net": deep, **options})


def read(folder):
    trace = json.loads((folder / "profile.json").read_text())
    by_kind = {
        kind: [event for event in trace["traceEvents"] if event.get("cat") == kind] for kind in ("step", "operator")
    }
    return by_kind["step"], by_kind["operator"], json.loads((folder / "operators.json").read_text())


@pytest.mark.parametrize("compiled", [True, False])
def test_the_files_hold_the_operators_of_the_window(tmp_path, compiled):
    clock = {}
    look = plugin(
        "look",
        phase=Phase.TRANSFORM,
        batch_begin=lambda run: clock.setdefault(run.step, time.time() * 1e6),
    )
    engine(task(), look, profile(first=3, last=5), folder=tmp_path / "run", compiled=compiled).fit()
    steps, operators, table = read(tmp_path / "run")
    assert [step["name"] for step in steps] == ["step 3", "step 4", "step 5"]
    assert all(clock[3] <= event["ts"] and event["ts"] + event["dur"] <= clock[6] for event in operators)
    calls = {row["name"]: row["calls"] for row in table["operators"]}
    # Two dense layers, in three steps; each operator by its own name.
    if compiled:  # numpy computes them, with two products forward and five backward
        assert calls["numpy.dot"] == 21
        assert calls["numpy.multi_sgd_update"] == 3
    else:
        assert calls["FullyConnected"] == calls["_backward_FullyConnected"] == 6
    assert not any(name.startswith("[") for name in calls)
    assert sum(calls.values()) == len(operators)
    assert (table["first"], table["last"]) == (3, 5)


def test_the_numbers_are_those_of_the_trace(tmp_path):
    engine(task(), profile(first=3, last=5), folder=tmp_path / "run").fit()
    _, operators, table = read(tmp_path / "run")
    assert sum(row["share"] for row in table["operators"]) == pytest.approx(1)
    totals = [row["total_ms"] for row in table["operators"]]
    assert totals == sorted(totals, reverse=True)
    for row in table["operators"]:
        lasted = [event["dur"] / 1000 for event in operators if event["name"] == row["name"]]
        assert (row["calls"], row["total_ms"]) == (len(lasted), pytest.approx(sum(lasted)))
        assert row["mean_ms"] == pytest.approx(np.mean(lasted))


def test_the_numbers_of_the_trace_are_exact_in_javascript_and_every_device_has_its_name(tmp_path):
    engine(task(), profile(first=1, last=2), folder=tmp_path / "run", devices="cpu:0,1").fit()
    events = json.loads((tmp_path / "run" / "profile.json").read_text())["traceEvents"]
    assert all(0 <= event[key] < 2**53 for event in events for key in ("pid", "tid", "ts") if key in event)
    names = {event["pid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    assert {"cpu/0", "cpu/1", "the loop"} <= set(names.values())
    assert {event["pid"] for event in events} == set(names)


def test_the_table_shows_the_most_expensive_ones(tmp_path, capsys):
    engine(task(), profile(first=3, last=5, top=2), folder=tmp_path / "run").fit()
    _, _, table = read(tmp_path / "run")
    title, heading, *rows = capsys.readouterr().out.splitlines()
    assert title == "the most expensive operators of steps 3 to 5"
    assert heading.split() == ["operator", "calls", "total", "ms", "mean", "ms", "share"]
    first, second, rest = table["operators"][0], table["operators"][1], table["operators"][2:]
    assert [row.split()[0] for row in rows] == [first["name"], second["name"], str(len(rest))]
    assert rows[0].split()[1:3] == [str(first["calls"]), f"{first['total_ms']:.3f}"]
    assert (tmp_path / "run" / "operators.table").read_text().splitlines() == [title, heading, *rows]


def test_without_a_folder_the_table_alone_is_shown(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    engine(task(), profile(first=1, last=2)).fit()
    assert "steps 1 to 2" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_evaluations_within_the_window_are_left_out(tmp_path):
    counts = []
    for validation_rows in (0, 8):
        run = tmp_path / str(validation_rows)
        engine(task(validation_rows=validation_rows), profile(first=5, last=8), folder=run).fit()
        counts.append({row["name"]: row["calls"] for row in read(run)[2]["operators"]})
    assert counts[0]["numpy.dot"] == counts[1]["numpy.dot"] == 28
    assert "FullyConnected" not in counts[1]


def test_profiling_does_not_change_the_training(tmp_path):
    plain = engine(task()).fit()
    profiled = engine(task(), profile(first=2, last=7), folder=tmp_path / "run").fit()
    assert profiled.metrics == plain.metrics
    for one, other in zip(weights(plain), weights(profiled), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_second_run_of_the_process_is_profiled_as_the_first(tmp_path):
    seen = []
    for name in ("a", "b", "c"):
        engine(task(), profile(first=3, last=5), folder=tmp_path / name).fit()
        steps, _, table = read(tmp_path / name)
        calls = {row["name"]: row["calls"] for row in table["operators"]}
        # The arrays of an earlier run are freed whenever Python gets to it, by an operator of its own.
        calls.pop("DeleteVariable", None)
        seen.append((len(steps), calls))
    assert seen[0] == seen[1] == seen[2]


def test_two_of_them_in_one_run_are_refused():
    with pytest.raises(UsageError, match=r"plugin 'profile@a': 'profile@b' profiles this run already.*Use one of them"):
        engine(task(), profile("profile@a"), profile("profile@b", first=30, last=40)).fit()


def test_a_window_that_ends_before_it_begins_is_refused():
    from trainer.catalog import registry

    with pytest.raises(UsageError, match="plugin 'profile': the last step, 19, is before the first, 30"):
        registry.create_plugin("profile", {"first": "30"}, where="plugin 'profile'")


def test_a_run_that_is_shorter_than_the_window_says_so(tmp_path, capsys):
    engine(task(), profile(first=13, last=14), folder=tmp_path / "run").fit()
    expected = "nothing was profiled: the run ended at step 12, before the window begins at 13\n"
    assert capsys.readouterr().out == expected
    assert not (tmp_path / "run" / "profile.json").exists()


def fail(run):
    if run.step == 6:
        raise ValueError("no more")


def interrupt(run):
    if run.step == 6:
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("happening", "error", "last"),
    [(fail, PluginError, 5), (interrupt, Interrupted, 6), (lambda run: run.step == 6 and run.stop("enough"), None, 6)],
)
def test_a_run_that_ends_inside_the_window_has_its_part_of_it(tmp_path, capsys, happening, error, last):
    ending = plugin("ending", phase=Phase.TRANSFORM, batch_begin=happening)
    made = engine(task(), ending, profile(first=4, last=99), folder=tmp_path / "run")
    with pytest.raises(error) if error else nullcontext():
        made.fit()
    steps, _, table = read(tmp_path / "run")
    assert [step["name"] for step in steps] == [f"step {number}" for number in range(4, last + 1)]
    assert {row["name"]: row["calls"] for row in table["operators"]}["numpy.dot"] == 7 * len(steps)
    # What comes after in this process is not recorded, and can be.
    engine(task(), profile(first=1, last=1), folder=tmp_path / "next").fit()
    assert {row["name"]: row["calls"] for row in read(tmp_path / "next")[2]["operators"]}["numpy.dot"] == 7


def resumed(step, folder, **options):
    made = engine(task(), profile(**options), folder=folder)
    made.run.resumed, made.run.step = True, step
    return made.fit()


def test_a_run_that_is_resumed_after_the_window_is_not_profiled_again(tmp_path, capsys):
    resumed(5, tmp_path / "run", first=3, last=5)
    assert not (tmp_path / "run" / "profile.json").exists()
    assert capsys.readouterr().out == ""


def test_a_run_that_is_resumed_inside_the_window_profiles_the_rest(tmp_path):
    resumed(4, tmp_path / "run", first=3, last=6)
    assert [step["name"] for step in read(tmp_path / "run")[0]] == ["step 5", "step 6"]


def test_nothing_is_left_behind_when_the_process_ends(tmp_path):
    """MXNet writes the end of its trace when the process exits, wherever its file was."""
    (tmp_path / "tmp").mkdir()
    code = (
        "from trainer import fit\n"
        "from trainer_plugins.profile import Profile\n"
        "fit('logreg', epochs=1, train_rows=60, plugins=[Profile(first=2, last=3)], name='run')\n"
    )
    environment = {"TMPDIR": str(tmp_path / "tmp"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^numpy\.dot +\d+ ", done.stdout, re.MULTILINE)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "tmp"]
    assert json.loads((tmp_path / "runs" / "logreg" / "run" / "profile.json").read_text())["traceEvents"]
