"""time-budget keeps the contract of a plugin, and stops a run whose time is up."""

import pytest
from time_budget import TimeBudget

from trainer import fit
from trainer.testing import TinyTask, plugin_checks


@pytest.mark.parametrize("check", plugin_checks(TimeBudget))
def test_it_keeps_the_contract_of_a_plugin(check):
    check()


def test_it_stops_once_saves_and_says_why(tmp_path):
    task = TinyTask(train_rows=8, validation_rows=4)
    run = fit(task, epochs=1000, batch_size=2, plugins=[TimeBudget(minutes=1e-9)], runs_dir=tmp_path)
    assert (run.status, run.reason, run.step) == ("stopped", "it has used its 1e-09 minutes", 1)
    assert [(each.plugin, each.action) for each in run.decisions] == [("time-budget", "save"), ("time-budget", "stop")]
    assert "validation/loss" in run.metrics
    assert [path.name for path in (run.folder / "checkpoints").iterdir()] == ["step-00000001"]
