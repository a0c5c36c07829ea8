"""trainer runs list, show, compare and remove."""

import json
import os
import re
import shutil
import sys

import numpy as np
import pexpect
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packages import in_process as trainer

from trainer import fit
from trainer.cli.table import aligned, fitted

QUIET = {"without": ["progress", "tensorboard", "report"], "train_rows": 60, "validation_rows": 40}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Runs a, b and c, of which more epochs make a smaller loss; c was stopped."""
    runs = tmp_path_factory.mktemp("trained") / "runs"
    for name, epochs in (("a", 1), ("b", 4)):
        fit("logreg", epochs=epochs, runs_dir=runs, name=name, **QUIET)
    fit("logreg", epochs=2, steps=3, optimizer="adam", runs_dir=runs, name="c", **QUIET)
    return runs


@pytest.fixture
def three(trained, tmp_path):
    """The folders of a copy of them, by name."""
    shutil.copytree(trained, tmp_path / "runs")
    return {name: tmp_path / "runs" / "logreg" / name for name in "abc"}


def figure(folder, name):
    return json.loads((folder / "run.json").read_text())["metrics"][name]


def change(folder, **values):
    record = json.loads((folder / "run.json").read_text()) | values
    (folder / "run.json").write_text(json.dumps(record))


# ---- list ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "best"), [("train/loss", min), ("validation/accuracy", max), ("validation/tuned-f1", max)]
)
def test_sorted_by_a_metric_the_best_comes_first(command, three, metric, best):
    code, out, err = command("runs", "list", "--sort", metric)
    assert (code, err) == (0, "")
    head, *lines = out.splitlines()
    assert head.split() == ["run", "status", "epoch", "step", metric, "started", "(UTC)"]
    # The reason in the status has spaces; the value comes before the date and the time.
    values = [float(line.split()[-3]) for line in lines]
    assert values == sorted(values, reverse=best is max)
    assert values[0] == pytest.approx(best(figure(folder, metric) for folder in three.values()), rel=1e-4)


def test_a_run_without_the_metric_comes_last_and_an_order_can_be_given(command, three):
    change(three["b"], metrics={"train/loss": None})
    names = lambda *more: [line.split()[0][-1] for line in command("runs", "list", *more)[1].splitlines()[1:]]  # noqa: E731
    assert names("--sort", "train/loss")[2] == "b"
    assert names("--sort", "train/loss", "--order", "max") == [*names("--sort", "train/loss")[1::-1], "b"]
    assert names("--sort", "started") == ["a", "b", "c"]
    assert command("runs", "list", "--sort", "validation/threshold")[0] == 2
    assert names("--sort", "validation/threshold", "--order", "min")


def test_filters_and_columns(command, three):
    assert [line.split()[0] for line in command("runs", "list", "--status", "finished")[1].splitlines()] == [
        "run", "logreg/a", "logreg/b",
    ]  # fmt: skip
    assert "none of the 3 runs in runs matches" in command("runs", "list", "--task", "other")[1]
    out = command("runs", "list", "--metric", "train/loss", "--metric", "nothing")[1]
    assert "train/loss  nothing" in out.splitlines()[0]
    assert all(re.search(r" 0\.\d+ +– +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$", line) for line in out.splitlines()[1:])
    entries = [json.loads(line) for line in command("runs", "list", "--json", "--sort", "train/loss")[1].splitlines()]
    losses = [entry["metrics"]["train/loss"] for entry in entries]
    assert losses == sorted(losses)
    assert all(entry["seconds"] > 0 for entry in entries)


def test_a_terminal_gets_lines_that_fit_it(three, tmp_path):
    change(three["b"], reason="because " * 30, metrics={"validation/true-negatives": 284315.0, "train/loss": 0.5})
    arguments = ["-m", "trainer", "runs", "list", "--metric", "validation/true-negatives"]
    env = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    child = pexpect.spawn(
        sys.executable, arguments, dimensions=(24, 90), timeout=60, encoding="utf-8", cwd=tmp_path, env=env
    )
    child.expect(pexpect.EOF)
    lines = child.before.splitlines()
    assert len(lines) == 4
    assert max(map(len, lines)) == 90
    assert any("…  " in line and " 284315 " in line for line in lines)


@given(
    st.lists(st.tuples(*[st.text("ab ", max_size=30)] * 3), min_size=1, max_size=4),
    st.integers(40, 90) | st.none(),
)
def test_a_table_fits_and_loses_nothing_that_has_room(rows, width):
    lines = fitted(rows, width, cut=(1, 0, 2))
    whole = aligned(rows)
    assert lines == whole if width is None or max(map(len, whole)) <= width else max(map(len, lines)) <= width


def test_a_metric_that_no_run_has_is_an_error_with_the_likely_one(command, three):
    code, out, err = command("runs", "list", "--sort", "validation/los")
    assert (code, out) == (2, "")
    assert "no run has a metric 'validation/los'. Did you mean 'validation/loss'?" in err


# ---- show and compare ------------------------------------------------------------------------------------------------


def test_show_tells_everything_in_text_and_in_json(command, three):
    code, out, _ = command("runs", "show", "c")
    assert code == 0
    assert out.startswith("logreg/c  stopped (it has reached its limit of 3 steps)")
    for part in ("optimizer.name = adam", "mxnet = 1.9.1", "engine asked to stop", "config.toml", "threshold-tuner"):
        assert part in out
    told = json.loads(command("runs", "show", "logreg/c", "--json")[1])
    assert told["settings"]["optimizer.name"] == "adam"
    assert told["metrics"]["train/loss"] == figure(three["c"], "train/loss")
    assert told["files"]["config.toml"] == (three["c"] / "config.toml").stat().st_size
    assert {"decisions", "ledger", "plugins", "versions", "folder", "status"} <= told.keys()


def test_compare_shows_what_differs_and_marks_the_best(command, three):
    change(three["b"], versions={"mxnet": "1.8.0"})
    told = json.loads(command("runs", "compare", "a", "b", "--json")[1])
    assert told["settings"] == {"epochs": [1, 4]}
    assert told["versions"]["mxnet"] == ["1.9.1", "1.8.0"]
    assert told["metrics"]["train/loss"] == [figure(three[name], "train/loss") for name in "ab"]
    out = command("runs", "compare", "a", "b")[1]
    line = next(line for line in out.splitlines() if "train/loss" in line)
    best = min("ab", key=lambda name: figure(three[name], "train/loss"))
    assert line.split()[-1 if best == "b" else 2] == "*"
    assert "batch-size" not in out
    everything = command("runs", "compare", "a", "b", "--all")[1]
    assert "batch-size" in everything
    three_of_them = command("runs", "compare", "a", "b", "c")[1].splitlines()
    assert three_of_them[0].split() == ["logreg/a", "logreg/b", "logreg/c"]


def test_compare_says_which_runs_were_judged_on_other_rows(command, three):
    assert "judged on" not in command("runs", "compare", "a", "b", "c")[1]
    record = json.loads((three["b"] / "run.json").read_text())["data"]
    record["tables"]["validation"]["columns"]["y"] = "0" * 16
    change(three["b"], data=record)
    out = command("runs", "compare", "a", "b", "c")[1]
    assert out.splitlines()[-1] == "judged on other validation rows than logreg/a: logreg/b"
    told = json.loads(command("runs", "compare", "a", "b", "c", "--json")[1])
    assert told["other_rows"] == {"validation": ["logreg/a", "logreg/b"]}
    # Nothing is said of a run that has not recorded its data.
    change(three["b"], data=None)
    assert "judged on" not in command("runs", "compare", "a", "b", "c")[1]


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Runs of a table: all columns, without the one that matters, and with other test rows."""
    folder = tmp_path_factory.mktemp("judged")
    generator = np.random.default_rng(0)
    features = generator.normal(size=(600, 2))
    lines = [f"{a:.3f},{b:.3f},{int(a + 0.3 * b + generator.normal() / 2 > 0)}" for a, b in features]
    (folder / "t.csv").write_text("\n".join(["a,b,y", *lines]) + "\n")
    several = {"all": {}, "half": {"ignore": ["a"]}, "same": {"seed": 12345}, "other": {"test_split": 0.5}}
    for name, options in several.items():
        chosen = {"test_split": 0.4, "epochs": 1, "without": ["progress", "tensorboard", "report"]} | options
        fit("logreg", data=[str(folder / "t.csv")], label="y", runs_dir=folder / "runs", name=name, **chosen)
    return folder


@pytest.fixture
def few_draws(monkeypatch):
    monkeypatch.setattr("trainer.model.significance.DRAWS", 150)


@pytest.mark.usefixtures("few_draws")
def test_significance_judges_both_models_again_and_marks_only_what_chance_does_not_explain(command, judged):
    runs = ["--runs-dir", str(judged / "runs")]
    told = json.loads(command("runs", "compare", "all", "half", "--significance", "--json", *runs)[1])
    found = told["significance"]
    assert found["rows"] == 240
    for name in ("test/loss", "test/accuracy", "test/roc-auc", "test/tuned-f1"):
        each = found["differences"][name]
        assert [each["first"], each["second"]] == pytest.approx(told["metrics"][name], rel=1e-5)
        assert each["low"] <= each["difference"] <= each["high"]
    assert found["differences"]["test/accuracy"]["p"] < 0.02
    assert found["mcnemar"]["test/accuracy"]["p"] < 0.01
    lines = command("runs", "compare", "all", "half", "--significance", *runs)[1].splitlines()
    starred = {line.split()[0] for line in lines if " *" in line}
    assert "test/accuracy" in starred
    assert not any(name.startswith(("train/", "validation/")) for name in starred)


@pytest.mark.usefixtures("few_draws")
def test_models_that_are_the_same_do_not_differ(command, judged):
    out = command("runs", "compare", "all", "same", "--significance", "--runs-dir", str(judged / "runs"))[1]
    assert out.splitlines()[-1] == "chance explains every difference"
    assert " *" not in out


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["all", "other"], "run other: it was judged on other test rows than run all"),
        (["all", "half", "same"], "--significance: differences are judged between two runs, and 3 are named"),
    ],
)
def test_runs_that_cannot_be_judged_together_are_refused(command, judged, names, said):
    code, _, err = command("runs", "compare", *names, "--significance", "--runs-dir", str(judged / "runs"))
    assert code == 2
    assert said in err


def test_runs_without_test_rows_and_changed_files_are_refused(command, judged, three):
    err = command("runs", "compare", "a", "b", "--significance")[2]
    assert "run a: it has no test rows to judge the models on" in err
    table = judged / "t.csv"
    before = table.read_text()
    try:
        table.write_text(before.replace("1\n", "0\n", 20))
        err = command("runs", "compare", "all", "half", "--significance", "--runs-dir", str(judged / "runs"))[2]
    finally:
        table.write_text(before)
    assert "its test rows cannot be read again: the data have changed" in err


def test_one_run_alone_cannot_be_compared_and_a_stranger_is_named(command, three):
    assert "there is only one run to compare" in command("runs", "compare", "a")[2]
    assert "there is no run 'x'" in command("runs", "compare", "a", "x")[2]
    assert command("runs", "show", "x")[0] == 2


def test_a_name_that_two_tasks_have_has_to_be_told_apart(command, three, tmp_path):
    (tmp_path / "runs" / "other").mkdir()
    shutil.copytree(three["a"], tmp_path / "runs" / "other" / "a")
    code, _, err = command("runs", "show", "a")
    assert code == 2
    assert "there are 2 runs called 'a'. Name one: logreg/a, other/a." in err
    assert command("runs", "show", "other/a")[0] == 0


# ---- remove ----------------------------------------------------------------------------------------------------------


def test_remove_asks_first(three, tmp_path):
    for answer, is_gone in (("n", False), ("", False), ("y", True)):
        terminal = pexpect.spawn(
            sys.executable, ["-m", "trainer", "runs", "remove", "a"], cwd=str(tmp_path), timeout=60
        )
        terminal.expect("Remove this run for good")
        terminal.sendline(answer)
        terminal.expect(pexpect.EOF)
        terminal.close()
        assert terminal.exitstatus == (0 if is_gone else 1)
        assert three["a"].exists() is not is_gone
    assert three["b"].exists()


def test_without_a_terminal_it_needs_yes(three, tmp_path):
    done = trainer("runs", "remove", "a", cwd=tmp_path)
    assert done.returncode == 2
    assert "Pass --yes" in done.stderr
    assert three["a"].exists()
    assert trainer("runs", "remove", "a", "b", "--yes", cwd=tmp_path).returncode == 0
    assert [three[name].exists() for name in "abc"] == [False, False, True]
    assert [path.name for path in three["c"].parent.iterdir()] == ["c"]


def test_nothing_is_removed_where_one_of_them_is_not_a_run(command, three, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.toml").write_text("precious = 1")
    code, _, err = command("runs", "remove", "a", "mine", "--yes")
    assert code == 2
    assert "is not the folder of a run" in err
    assert three["a"].exists()
    assert (tmp_path / "mine" / "config.toml").exists()


def test_links_are_not_followed(command, three, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("precious")
    (three["a"] / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "runs" / "logreg" / "d").symlink_to(three["b"])
    code, _, err = command("runs", "remove", "logreg/d", "--yes")
    assert code == 2
    assert "is a link" in err
    assert three["b"].exists()
    assert command("runs", "remove", "a", "--yes")[0] == 0
    assert not three["a"].exists()
    assert (tmp_path / "outside" / "file").read_text() == "precious"


def test_a_run_that_is_active_stays(three, tmp_path):
    hold = (
        "import sys\nfrom pathlib import Path\nfrom trainer.runs import folder\n"
        "folder.lock(Path(sys.argv[1]))\nprint('held', flush=True)\nsys.stdin.read()"
    )
    holder = pexpect.spawn(sys.executable, ["-c", hold, str(three["a"])], timeout=60)
    holder.expect("held")
    done = trainer("runs", "remove", "a", "--yes", cwd=tmp_path)
    assert done.returncode == 2
    assert "a run is using" in done.stderr
    assert three["a"].exists()
    holder.close(force=True)
    assert trainer("runs", "remove", "a", "--yes", cwd=tmp_path).returncode == 0
