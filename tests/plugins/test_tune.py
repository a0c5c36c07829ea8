"""trainer tune: real studies by real processes."""

import json
import signal
import subprocess
import sys
import time

import pytest
from packages import environment, in_process, install

from trainer import UsageError
from trainer_plugins.tune.search import combinations, parse

SMALL = ("--train-rows", "60", "--validation-rows", "40", "--no-plugin", "tensorboard", "--epochs", "3")


def tune(place, *arguments, task="logreg", path=()):
    return in_process("tune", task, *(SMALL if task == "logreg" else ()), *arguments, cwd=place, path=path)


def trials(place, study="tune", task="logreg"):
    """What the study's database holds, as Optuna reads it."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.RDBStorage(f"sqlite:///{place}/runs/{task}/{study}/tune.db")
    try:
        return optuna.load_study(study_name=study, storage=storage).get_trials()
    finally:
        storage.remove_session()
        storage.engine.dispose()


def states(found):
    return [each.state.name for each in found]


def record(place, name, task="logreg"):
    return json.loads((place / "runs" / task / name / "run.json").read_text())


# ---- the syntax of a search ------------------------------------------------------------------------------------------


class Trial:
    def suggest_int(self, name, low, high, step, log):
        return ("int", low, high, step, log)

    def suggest_float(self, name, low, high, step, log):
        self.asked = ("float", low, high, step, log)
        return 0.1

    def suggest_categorical(self, name, choices):
        return choices


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("2..10", "('int', 2, 10, 1, False)"),
        ("16..128:16", "('int', 16, 128, 16, False)"),
        ("log:1..1000", "('int', 1, 1000, 1, True)"),
        ("relu|tanh|", "('relu', 'tanh', '')"),
        ("8|16,8|32", "('8', '16,8', '32')"),
    ],
)
def test_ranges_and_choices(text, asked):
    (dimension,) = parse([f"a={text}"])
    assert dimension.suggest(Trial()) == asked


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("log:1e-3..1", ("float", 0.001, 1.0, None, True)),
        ("0..0.99", ("float", 0.0, 0.99, None, False)),
        ("-.5..+1.5e0:.25", ("float", -0.5, 1.5, 0.25, False)),
    ],
)
def test_ranges_of_fractions(text, asked):
    trial = Trial()
    (dimension,) = parse([f"optimizer.momentum={text}"])
    assert dimension.suggest(trial) == "0.1"
    assert trial.asked == asked


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "is not a search"),
        ("a=", "is not a search"),
        ("a=3", "single value"),
        ("a=3..2", "wrong way round"),
        ("a=1..", "is not a range"),
        ("a=log:0..1", "cannot be logarithmic"),
        ("a=log:1..8:2", "cannot be combined with log:"),
        ("a=1..8:0", "must be above 0"),
        ("a=log:x|y", "is not a range"),
    ],
)
def test_an_invalid_search_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        parse([text])


def test_a_grid_has_every_combination_and_refuses_a_range_without_steps():
    assert len(list(combinations(parse(["a=1..3", "b=x|y", "c=0..1.0:0.5"])))) == 18
    with pytest.raises(UsageError, match="too many values for a grid"):
        list(combinations(parse(["a=0.0..1"])))


# ---- studies ---------------------------------------------------------------------------------------------------------


def test_the_best_trial_can_be_repeated_with_the_same_metrics(tmp_path):
    done = tune(
        tmp_path, "--trials", "4", "--pruner", "none", "--search", "learning-rate=log:1e-3..1",
        "--search", "hidden=4|6,4", "--search", "optimizer.momentum=0..1",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found = trials(tmp_path)
    assert states(found) == ["COMPLETE"] * 4
    best = min(found, key=lambda trial: trial.value)
    assert f"best {best.value:.5g} (trial {best.number})" in done.stdout
    for trial in found:
        assert record(tmp_path, f"tune-{trial.number:04d}")["metrics"]["validation/loss"] == trial.value
        # Written in whole numbers, but momentum is none.
        assert not float(trial.params["optimizer.momentum"]).is_integer()
    config = tmp_path / "runs" / "logreg" / "tune" / "config.toml"
    assert "tune-pruning" not in config.read_text()
    assert in_process("run", "logreg", "--config", config, "--name", "again", cwd=tmp_path).returncode == 0
    first = record(tmp_path, f"tune-{best.number:04d}")
    assert record(tmp_path, "again")["metrics"] == first["metrics"]
    # And so does the trial's own configuration, in which the plugin of the study has nothing to do.
    own = tmp_path / "runs" / "logreg" / f"tune-{best.number:04d}" / "config.toml"
    assert in_process("run", "logreg", "--config", own, "--name", "own", cwd=tmp_path).returncode == 0
    assert record(tmp_path, "own")["metrics"] == first["metrics"]


@pytest.mark.slow
def test_several_processes_share_a_study(tmp_path):
    command = [sys.executable, "-m", "trainer", "tune", "logreg", *SMALL, "--trials", "7", "--search",
               "learning-rate=0.01..1"]  # fmt: skip
    workers = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [worker.communicate(timeout=120) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], told
    found = trials(tmp_path)
    assert [trial.number for trial in found] == list(range(7))
    assert set(states(found)) <= {"COMPLETE", "PRUNED"}
    assert len({trial.params["learning-rate"] for trial in found}) == 7
    assert len({trial.user_attrs["process"]["pid"] for trial in found}) == 2
    assert sum(out.count("\ntrial ") for out, _ in told) == 7


def test_a_continued_study_draws_what_it_would_have_drawn(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "whole").mkdir()
    search = ("--search", "learning-rate=0.01..1")
    assert tune(tmp_path / "parts", "--trials", "2", *search).returncode == 0
    assert tune(tmp_path / "parts", "--trials", "4", *search).returncode == 0
    assert tune(tmp_path / "whole", "--trials", "4", *search).returncode == 0
    parts, whole = trials(tmp_path / "parts"), trials(tmp_path / "whole")
    assert [(each.params, each.value) for each in parts] == [(each.params, each.value) for each in whole]
    done = tune(tmp_path / "parts", "--trials", "4", "--search", "learning-rate=0.01..2")
    assert done.returncode == 2
    assert "started with other settings: search.learning-rate (0.01..1 then, 0.01..2 now)" in done.stderr


def wait_for(condition):
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_a_trial_that_is_cut_short_is_tried_again(tmp_path, signum):
    arguments = [*SMALL[:-2], "--trials", "1", "--search", "learning-rate=0.01..1"]
    command = [sys.executable, "-m", "trainer", "tune", "logreg", *arguments]
    log = tmp_path / "runs" / "logreg" / "tune-0000" / "run.json"
    # Slow enough to be met in the middle.
    worker = subprocess.Popen(
        [*command, "--epochs", "150"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(log.exists)
    worker.send_signal(signum)
    out, err = worker.communicate(timeout=60)
    if signum == signal.SIGKILL:
        assert worker.returncode == -9
    else:
        assert worker.returncode == 128 + signum
        assert "the same command continues the study" in out
        assert err == "interrupted.\n"
        assert record(tmp_path, "tune-0000")["status"] == "interrupted"
    done = in_process("tune", "logreg", *arguments, "--epochs", "150", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    found = trials(tmp_path)
    assert states(found)[0] == "FAIL"
    assert states(found)[-1] == "COMPLETE"
    if signum != signal.SIGKILL:
        assert found[0].params == found[-1].params


TASK = """
from dataclasses import dataclass
from typing import Annotated
from pydantic import Field
from trainer import Arrays, Defaults, Run, Splits, Task

@dataclass
class Fragile(Task):
    width: Annotated[int, Field(description="Neurons.")] = 1
    defaults = Defaults(epochs=6, batch_size=4, learning_rate=0.1)

    def splits(self, run):
        import numpy as np
        if self.width == 13:
            raise RuntimeError("unlucky")
        x = np.random.default_rng(0).normal(size=(16, 2)).astype("float32")
        return Splits(Arrays(x, x.sum(axis=1) * (1 if self.width < 50 else 1e6)), Arrays(x, x.sum(axis=1)))

    def net(self):
        from trainer.mxnet import gluon
        return gluon.nn.Dense(1)

    def loss(self):
        from trainer.mxnet import gluon
        return gluon.loss.L2Loss()
"""


@pytest.fixture
def fragile(tmp_path):
    install(tmp_path / "site", "fragile", {"trainer.tasks": {"fragile": "fragile:Fragile"}}, fragile=TASK)
    return (tmp_path / "site",)


def test_a_trial_that_fails_is_recorded_and_the_study_continues(tmp_path, fragile):
    done = tune(tmp_path, "--sampler", "grid", "--search", "width=12..14", task="fragile", path=fragile)
    assert done.returncode == 0, done.stderr
    assert sorted(states(trials(tmp_path, task="fragile"))) == ["COMPLETE", "COMPLETE", "FAIL"]
    assert "failed: RuntimeError: unlucky  width=13" in done.stdout
    assert "2 complete, 1 failed; the best:" in done.stdout


def test_it_is_an_error_if_all_trials_fail(tmp_path, fragile):
    done = tune(
        tmp_path, "--sampler", "random", "--trials", "2", "--search", "width=13|013", task="fragile", path=fragile
    )
    assert done.returncode == 1
    assert "was completed. The last error: RuntimeError: unlucky" in done.stderr
    assert not (tmp_path / "runs" / "fragile" / "tune" / "config.toml").exists()


def test_a_hopeless_trial_is_pruned_and_its_record_says_so(tmp_path, fragile):
    widths = "|".join([*map(str, range(1, 9)), "90"])
    done = tune(tmp_path, "--sampler", "grid", "--search", f"width={widths}", task="fragile", path=fragile)
    assert done.returncode == 0, done.stderr
    (pruned,) = [trial for trial in trials(tmp_path, task="fragile") if trial.params["width"] == "90"]
    name = f"tune-{pruned.number:04d}"
    if pruned.state.name == "PRUNED":  # it needs some trials to be compared with before it
        told = record(tmp_path, name, "fragile")
        assert told["status"] == "stopped"
        assert told["decisions"][0]["plugin"] == "tune-pruning"
        assert told["epoch"] < 6
        assert "pruned after epoch" in done.stdout


def test_a_usage_error_is_reported_before_any_trial_and_leaves_nothing(tmp_path):
    for arguments, message in (
        (("--search", "hidden=0..3"), "--search hidden: '0' does not fit"),
        (("--search", "hiden=1..3"), "Did you mean 'hidden'?"),
        (("--search", "early-stopping.patience=1..3"), "Add --plugin early-stopping to use it"),
        (("--search", "dropout=0..0.5", "--dropout", "0.1"), "is both searched and set"),
        (("--search", "learning-rate=0..1", "--set", "optimizer.learning-rate=1"), "is both searched and set"),
        (
            ("--search", "dropout=0..0.5", "--monitor", "validation/los"),
            "whether a larger or a smaller 'validation/los'",
        ),
        (("--search", "dropout=0..0.5", "--study", "../x"), "cannot be a folder name"),
        (("--search", "dropout=0..0.5", "--data", "no.csv", "--label", "x"), "there is no such file"),
        (("--search", "dropout=0..0.5", "--storage", "nothing://"), "--storage"),
        ((), "there is nothing to search"),
    ):
        done = tune(tmp_path, *arguments)
        assert done.returncode == 2, arguments
        assert message in done.stderr, arguments
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "runs").exists(), arguments


def test_without_optuna_the_error_says_what_to_install(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "optuna.py").write_text("raise ImportError('No module named optuna')")
    done = subprocess.run(
        [sys.executable, "-m", "trainer", "tune", "logreg", *SMALL, "--search", "dropout=0..0.5"],
        cwd=tmp_path, env=environment(tmp_path / "site"), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "pip install 'gluon-trainer[tune]'" in done.stderr
