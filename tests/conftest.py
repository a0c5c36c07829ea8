"""What holds for every test."""

import sys

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says something about the machine, not about the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


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
