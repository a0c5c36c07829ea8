"""The conformance kit: tries a plugin or a task in tiny real runs, and checks what authors get wrong.

In a package's tests, with pytest:

    import pytest
    from trainer.testing import plugin_checks
    from my_package import MyPlugin


    @pytest.mark.parametrize("check", plugin_checks(MyPlugin))
    def test_it_keeps_the_contract_of_a_plugin(check):
        check()

Each check is a test with its own name. `task_checks(MyTask)` gives those of a task. `check_plugin` and `check_task` run
all checks in one call, and `trainer plugins check NAME` runs those of an installed plugin or task. The kit itself does
not need pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer._lazy import exports

if TYPE_CHECKING:
    from trainer.testing.checks import BrokenPromiseError, Check, Outcome, outcomes
    from trainer.testing.plugins import check_plugin, plugin_checks
    from trainer.testing.tasks import check_task, task_checks
    from trainer.testing.tiny import TinyImages, TinyTask, TinyWithThreshold, rows, settings

__all__ = [
    "BrokenPromiseError",
    "Check",
    "Outcome",
    "TinyImages",
    "TinyTask",
    "TinyWithThreshold",
    "check_plugin",
    "check_task",
    "outcomes",
    "plugin_checks",
    "rows",
    "settings",
    "task_checks",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        "trainer.testing.checks": ("BrokenPromiseError", "Check", "Outcome", "outcomes"),
        "trainer.testing.plugins": ("check_plugin", "plugin_checks"),
        "trainer.testing.tasks": ("check_task", "task_checks"),
        "trainer.testing.tiny": ("TinyImages", "TinyTask", "TinyWithThreshold", "rows", "settings"),
    },
)
