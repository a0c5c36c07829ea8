"""trainer plugins check, without its runs: which task a plugin is tried on."""

import pytest

from trainer import UsageError
from trainer.cli import plugin_check
from trainer_plugins.logreg import LogisticRegression


def test_a_plugin_is_tried_on_the_task_that_is_named(monkeypatch):
    tasks = []
    monkeypatch.setattr(plugin_check, "plugin_checks", lambda plugin, task, ignore: tasks.append(task()) or [])
    sets = ["task.train-rows=21", "logreg.hidden=3", "metrics-log.every=2"]
    assert list(plugin_check.examine("metrics-log", sets, [], task="logreg")) == []
    assert isinstance(tasks[0], LogisticRegression)
    assert (tasks[0].name, tasks[0].train_rows, tasks[0].hidden) == ("logreg", 21, (3,))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("logreg", {"task": "logreg"}, "--task: it cannot be combined: a task is checked by itself"),
        ("metrics-log", {"task": "logreg", "images": True}, "--task: it cannot be combined: --images"),
        ("metrics-log", {"task": "logrge"}, "there is no task 'logrge'"),
    ],
)
def test_a_mistake_is_a_usage_error(name, values, message):
    with pytest.raises(UsageError, match=message):
        list(plugin_check.examine(name, [], [], **values))
