"""What holds for every test."""

import os
import sys

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says something about the machine, not about the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


FIRST = ("test_digits.py",)
"""Files whose tests share a training. A worker that runs out of tests takes the last ones of another, so the first ones
stay together, and the training is done once."""


@pytest.fixture(autouse=True, scope="session")
def _caches(tmp_path_factory):
    """Keeps what tests cache apart from what the user has."""
    os.environ["TRAINER_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in FIRST)


@pytest.fixture
def command(tmp_path, monkeypatch, capfd):
    """Runs `trainer …` in this process, in an empty folder: (exit code, standard output, standard error)."""
    from trainer.cli.app import run_app

    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["trainer", *map(str, arguments)])
        code = run_app()
        return code, *capfd.readouterr()

    return run
