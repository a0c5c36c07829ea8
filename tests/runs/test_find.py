"""A run by its path or its name, whatever else has that name."""

from pathlib import Path

import pytest

from trainer import UsageError
from trainer.runs.find import find_run


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run_in(*parts):
    folder = Path(*parts)
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text("")
    (folder / "run.json").write_text("{}")
    return folder.absolute()


@pytest.mark.parametrize("given", ["digits", "digits/", "images/digits", "runs/images/digits"])
def test_a_folder_of_a_runs_name_does_not_hide_the_run(given):
    made = run_in("runs", "images", "digits")
    Path("digits", "train").mkdir(parents=True)
    Path("images", "digits").mkdir(parents=True)
    assert find_run(given, Path("runs")) == made


def test_the_folder_of_a_run_counts_before_a_run_of_that_name():
    run_in("runs", "images", "digits")
    assert find_run("digits", Path("runs")) != (near := run_in("digits"))
    assert find_run("digits", Path("runs")) == near


def test_a_name_that_two_tasks_have_asks_which_even_if_there_is_a_folder_of_that_name():
    run_in("runs", "one", "digits")
    run_in("runs", "two", "digits")
    Path("digits").mkdir()
    with pytest.raises(UsageError, match=r"there are 2 runs called 'digits'. Name one: one/digits, two/digits"):
        find_run("digits", Path("runs"))


def test_a_folder_that_is_no_run_gets_the_name_that_was_meant():
    run_in("runs", "images", "digits-1")
    Path("digits").mkdir()
    with pytest.raises(UsageError, match=r"digits is not the folder of a run.*Did you mean 'digits-1'"):
        find_run("digits", Path("runs"))
