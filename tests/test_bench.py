"""The benchmark: what it makes of numbers, and one small round through the script itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = ROOT / "scripts"
if not (SCRIPTS / "benchmark").is_dir():
    pytest.skip("the benchmark is not part of the source distribution", allow_module_level=True)


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from benchmark import report

    return report


def rounds_of(**seconds):
    """Rounds from each competitor's times, one per round; None if it did not answer."""
    return [
        {
            name: {"error": "no"} if time is None else {"seconds": time}
            for name, time in zip(seconds, times, strict=True)
        }
        for times in zip(*seconds.values(), strict=True)
    ]


# ---- numbers ---------------------------------------------------------------------------------------------------------


def test_a_ratio_is_the_median_of_the_rounds_ratios_not_the_ratio_of_medians(report):
    rounds = rounds_of(ours=[1.0, 10.0, 4.0], torch=[3.0, 20.0, 4.0])
    assert report.ratio(rounds, "torch", "ours") == 2.0
    assert [row.ratio for row in report.rows("a", rounds)] == [1.0, 2.0]


def test_a_ratio_leaves_out_rounds_in_which_one_of_the_two_failed(report):
    rounds = rounds_of(ours=[1.0, None, 4.0], torch=[3.0, 20.0, 4.0])
    assert report.ratio(rounds, "torch", "ours") == 2.0
    assert report.ratio(rounds, "keras", "ours") is None


def test_a_row_has_the_median_the_range_and_how_often_it_failed(report):
    (row,) = report.rows("a", rounds_of(torch=[3.0, None, 1.0, 2.0]))
    assert (row.seconds, row.least, row.most, row.rounds, row.ratio) == (2.0, 1.0, 3.0, 3, None)
    assert row.note == "failed in 1 of 4 rounds"


def test_one_that_never_answered_has_its_error_as_a_note(report):
    (row,) = report.rows("a", rounds_of(torch=[None, None]))
    assert (row.seconds, row.note, row.counts) == (None, "no", False)


def test_one_that_does_not_reach_our_loss_is_flagged_and_counts_for_no_goal(report):
    answers = {
        "ours": {"seconds": 1.0, "loss": 0.30},
        "near": {"seconds": 9.0, "loss": 0.37},
        "torch": {"seconds": 9.0, "loss": 0.39},
        "broken": {"seconds": 9.0, "loss": float("nan")},
    }
    report.mark_learning(answers, "ours", chance=0.69)
    assert [answer["learns"] for answer in answers.values()] == [True, True, False, False]
    rows = {row.name: row for row in report.rows("a", [answers])}
    assert rows["torch"].note == "does not learn (loss 0.390)"
    assert not rows["torch"].counts
    assert rows["near"].counts
    goal = report.Goal("a", "ours", "torch", 0.5)
    measured, verdict = report.judge(goal, [answers])
    assert measured == pytest.approx(1 / 9)
    assert verdict.startswith("not counted: torch does not learn")


def test_a_reference_that_does_not_learn_does_not_excuse_the_others(report):
    answers = {"ours": {"seconds": 1.0, "loss": 0.69}, "torch": {"seconds": 1.0, "loss": 0.68}}
    report.mark_learning(answers, "ours", chance=0.69)
    assert [answer["learns"] for answer in answers.values()] == [False, False]


def test_one_bad_round_of_three_is_told_and_does_not_exclude(report):
    rounds = [{"torch": {"seconds": 1.0, "loss": 0.5, "learns": learns}} for learns in (True, False, True)]
    (row,) = report.rows("d", rounds)
    assert row.counts
    assert row.note == "loss 0.500; did not reach our loss in 1 of 3 rounds"
    (row,) = report.rows("d", rounds[:2])
    assert not row.counts


def test_all_trainings_fit_into_one_table(report):
    def answers(torch, sklearn, learns=True):
        others = {"torch": torch, "sklearn": sklearn}
        found = {"ours": {"seconds": 0.001}} | {name: {"seconds": time} for name, time in others.items() if time}
        found["torch"] |= {"loss": 0.6, "learns": learns}
        return found

    results = {"a": [answers(0.002, 0.0005)], "d": [answers(0.1, None, learns=False)], "e": [answers(1, 1)]}
    head, _, *lines = report.compact(results, {"torch": "torch: PyTorch, DataLoader"}).splitlines()
    assert head.count("|") == 4
    assert lines == [
        "| ours | 1 ms | 1 ms |",
        "| PyTorch, DataLoader | 2 ms (2×) | does not learn |",
        "| sklearn | 500 µs (0.5×) | – |",
    ]


def test_a_goal_is_met_up_to_its_bound(report):
    goal = report.Goal("a", "ours", "torch", 0.25)
    assert report.judge(goal, rounds_of(ours=[1.0], torch=[4.0])) == (0.25, "met")
    assert report.judge(goal, rounds_of(ours=[1.0], torch=[3.0]))[1] == "not met"
    assert report.judge(goal, rounds_of(ours=[1.0])) == (None, "not measured")


def test_measurements_that_something_else_disturbed_are_named(report):
    rounds = [{"torch": {"seconds": 1.0, "others": others}} for others in (0.0, 0.9, 1.2)]
    assert report.rows("a", rounds)[0].note == "disturbed in 2 of 3 rounds"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(2.0, "2 s"), (0.0123, "12.3 ms"), (0.123, "123 ms"), (110e-6, "110 µs"), (3.4e-8, "34 ns"), (-2e-5, "-20 µs")],
)
def test_times_are_shown_in_a_unit_that_suits_them(report, seconds, shown):
    assert report.show(seconds) == shown


def test_every_goal_is_about_competitors_that_exist(report):
    from benchmark.competitors import BY_NAME

    for goal in report.GOALS:
        if goal.workload in "abcd":
            assert BY_NAME[goal.row].goal
            assert BY_NAME[goal.than].goal
            assert goal.workload in BY_NAME[goal.than].workloads


def test_the_loss_of_logits_is_the_cross_entropy_in_float64(report):
    import numpy as np
    from benchmark.workloads import cross_entropy

    logits, labels = np.array([2.0, -1.0, 500.0]), np.array([1.0, 1.0, 0.0])
    probability = 1 / (1 + np.exp(-logits[:2]))
    assert cross_entropy(logits, labels) == pytest.approx((-np.log(probability).sum() + 500) / 3)


# ---- the peers' environment ------------------------------------------------------------------------------------------


def test_everything_of_the_peers_is_pinned_exactly():
    lines = (SCRIPTS / "benchmark" / "peers.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all("==" in line.partition(";")[0] for line in pins)
    names = {line.partition("==")[0] for line in pins}
    assert {"torch", "pytorch-lightning", "pytorch-ignite", "skorch", "keras", "jax", "scikit-learn"} <= names


def test_the_peers_are_installed_once_and_again_when_the_pins_change(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from benchmark import peers

    pins = tmp_path / "peers.txt"
    pins.write_text("torch==1.0\n")
    monkeypatch.setattr(peers, "REQUIREMENTS", pins)
    calls = []
    run = subprocess.run

    def without_network(command, **options):
        if "install" not in command:
            return run(command, **options)
        calls.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", without_network)
    python = peers.ensure(tmp_path / "venv")
    assert python.exists()
    assert [peers.CPU_INDEX in call for call in calls] == [True, False]
    peers.ensure(tmp_path / "venv")
    assert len(calls) == 2
    pins.write_text("torch==2.0\n")
    peers.ensure(tmp_path / "venv")
    assert len(calls) == 4


# ---- the script ------------------------------------------------------------------------------------------------------


def bench(*arguments, cwd):
    """The module behind the script, in the environment of the tests."""
    return subprocess.run(
        [sys.executable, "-m", "benchmark", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(SCRIPTS), "TRAINER_BENCH_VENV": str(cwd / "peers")},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.slow
def test_a_quick_round_needs_no_peers_and_writes_table_numbers_and_picture(tmp_path):
    done = bench(
        "--quick", "--workload", "a", "--competitors", "ours,ours-step,notebook", "--output", "out", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "peers").exists()
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    (answers,) = results["rounds"]["a"]
    assert list(answers) == ["ours", "ours-step", "notebook"]
    assert all(answer["seconds"] > 0 and answer["learns"] for answer in answers.values())
    assert answers["ours"]["loss"] == answers["ours-step"]["loss"], "the engine changes nothing of its step's results"
    assert results["machine"]["cores"] >= 1
    assert results["versions"]["own"]["mxnet"] == "1.9.1"
    assert "| `notebook`: the notebook's loop" in (tmp_path / "out" / "table.md").read_text()
    assert "the notebook's loop" in (tmp_path / "out" / "summary.md").read_text()
    assert "<svg" in (tmp_path / "out" / "times.svg").read_text()
    assert "notebook" in done.stdout


@pytest.mark.slow
def test_every_installed_plugin_of_ours_has_its_cost(tmp_path):
    from trainer.catalog import registry

    done = bench("--quick", "--workload", "g", "--output", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (answers,) = json.loads((tmp_path / "out" / "results.json").read_text())["rounds"]["g"]
    ours = {e.name for e in registry.installed(registry.PLUGINS) if e.distribution == "gluon-trainer"}
    ours -= {"cutmix", "mixed-precision"}  # one is for images, one for large nets
    assert set(answers) == {"no plugins", "ten empty plugins", "default plugins"} | ours
    assert {name for name, answer in answers.items() if "seconds" not in answer} == set()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--workload", "z"], "z is not among a, b, c, d, e, f, g, h, i"),
        (["--competitors", "pytorch"], "pytorch is not among ours"),
        (["--rounds", "0"], "'0' is not a whole number above 0"),
    ],
)
def test_what_it_does_not_know_is_said_before_anything_is_installed(tmp_path, arguments, complaint):
    done = bench(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_saving_is_compared_with_a_plain_write(tmp_path):
    done = bench("--quick", "--workload", "i", "--output", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (answers,) = json.loads((tmp_path / "out" / "results.json").read_text())["rounds"]["i"]
    assert sorted(answers) == ["a checkpoint", "a plain write and flush"]
    assert all(answer["seconds"] > 0 for answer in answers.values())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_the_sum_over_processes_is_measured_with_its_share(tmp_path):
    done = bench("--quick", "--workload", "j", "--output", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (answers,) = json.loads((tmp_path / "out" / "results.json").read_text())["rounds"]["j"]
    assert list(answers) == ["10^3 parameters, two processes", "10^3 parameters, one process"]
    two, one = answers.values()
    assert 0 < two["share"] < 1
    assert "share" not in one


@pytest.mark.slow
def test_images_are_trained_on_by_us_and_by_a_plain_loop(tmp_path):
    done = bench("--quick", "--workload", "k", "--output", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (answers,) = json.loads((tmp_path / "out" / "results.json").read_text())["rounds"]["k"]
    assert [name for name, answer in answers.items() if "seconds" not in answer] == []
    assert [name.partition(",")[0] for name in answers] == ["trainer run"] * 2 + ["GluonCV's loop"] * 4
    assert all(answer["rate"] == pytest.approx(1 / answer["seconds"]) for answer in answers.values())
