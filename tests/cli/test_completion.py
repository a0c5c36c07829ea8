"""Completion, asked for as a shell does it."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from trainer import fit

ASKED = """
import contextlib, io, json, os, sys
from trainer.cli.app import run_app
os.environ["_TRAINER_COMPLETE"] = "complete_bash"
for folder, words in json.loads(sys.stdin.read()):
    os.chdir(folder)
    os.environ |= {"COMP_WORDS": " ".join(["trainer", *words]), "COMP_CWORD": str(len(words))}
    with contextlib.redirect_stdout(io.StringIO()) as offered, contextlib.suppress(SystemExit):
        run_app()
    print(json.dumps(offered.getvalue().split()))
print(json.dumps(sorted(sys.modules)))
"""


def complete(*asked):
    """What bash would offer after each `trainer words…`, given as (folder, words), whose last word is being typed.

    One process answers all of them, and imports nothing heavy.
    """
    done = subprocess.run(
        [sys.executable, "-c", ASKED],
        input=json.dumps([(str(folder), words) for folder, words in asked]),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    *offered, imported = map(json.loads, done.stdout.splitlines())
    assert not {"mxnet", "matplotlib", "sklearn", "tensorboard", "optuna"} & set(imported)
    return offered


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    for name in ("first", "second"):
        fit("logreg", epochs=1, train_rows=20, runs_dir=place / "runs", name=name, without=["progress", "tensorboard"])
    return place


OFFERED = [
    (["che"], {"check-devices"}),
    (["rep"], {"report"}),
    (["run", ""], {"linreg", "logreg", "image-classification"}),
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
    (["runs", "list", "--task", ""], {"linreg", "logreg", "image-classification"}),
]


def test_what_is_offered(place):
    found = complete(*((place, words) for words, _ in OFFERED))
    assert [set(words) for words in found] == [offered for _, offered in OFFERED]


def test_options_are_offered_and_a_mistake_while_typing_is_not_a_traceback(place):
    options, nothing, elsewhere = complete(
        (place, ["run", "logreg", "--"]), (place, ["run", "nothing", ""]), (place.parent, ["resume", ""])
    )
    assert {"--epochs", "--hidden", "--plugin"} <= set(options)
    assert (nothing, elsewhere) == ([], [])


def test_the_program_answers_a_shell(place):
    env = {**os.environ, "_TRAINER_COMPLETE": "complete_bash", "COMP_WORDS": "trainer che", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "trainer"], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.split(), done.stderr) == (["check-devices"], "")


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
