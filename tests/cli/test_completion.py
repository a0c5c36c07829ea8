"""Completion, asked for as a shell does it."""

import os
import shutil
import subprocess
import sys

import pytest

from trainer import fit


def complete(*words, cwd=None, shell="bash"):
    """What the shell would offer after `trainer words…`, the last of which is being typed."""
    env = {**os.environ, "_TRAINER_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        env |= {"COMP_WORDS": " ".join(["trainer", *words]), "COMP_CWORD": str(len(words))}
    else:
        env |= {"_TYPER_COMPLETE_ARGS": " ".join(["trainer", *words])}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "trainer"],
        cwd=cwd, env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not {"mxnet", "matplotlib", "sklearn", "tensorboard", "optuna"} & imported
    return done.stdout.split()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    for name in ("first", "second"):
        fit("logreg", epochs=1, train_rows=20, runs_dir=place / "runs", name=name, without=["progress", "tensorboard"])
    return place


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["che"], {"check-devices"}),
        (["rep"], {"report"}),
        (["run", ""], {"logreg", "image-classification"}),
        (["tune", "log"], {"logreg"}),
        (["run", "logreg", "--plugin", "early"], {"early-stopping"}),
        (["run", "logreg", "--no-plugin", "check"], {"checkpoint"}),
        (["plugins", "show", "log"], {"logreg"}),
        (["resume", ""], {"first", "second"}),
        (["report", "f"], {"first"}),
        (["runs", "show", "s"], {"second"}),
        (["runs", "compare", "first", "s"], {"second"}),
        (["runs", "remove", "runs/logreg/"], {"runs/logreg/first", "runs/logreg/second"}),
        (["runs", "list", "--sort", "validation/roc"], {"validation/roc-auc"}),
        (["runs", "list", "--task", ""], {"logreg", "image-classification"}),
    ],
)
def test_what_is_offered(place, words, offered):
    assert set(complete(*words, cwd=place)) == offered


def test_options_are_offered(place):
    assert {"--epochs", "--hidden", "--plugin"} <= set(complete("run", "logreg", "--", cwd=place))


def test_a_mistake_while_typing_is_not_a_traceback(place):
    assert complete("run", "nothing", "", cwd=place) == []
    assert complete("resume", "", cwd=place.parent) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_asks_trainer(shell):
    done = subprocess.run(
        [sys.executable, "-m", "trainer"],
        env={**os.environ, "_TRAINER_COMPLETE": f"source_{shell}"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert f"_TRAINER_COMPLETE=complete_{shell}" in done.stdout
    if shell == "bash" and shutil.which("bash"):
        assert subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=False).returncode == 0
