"""An event-driven training engine for Apache MXNet Gluon, where every part is a plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer._lazy import exports

if TYPE_CHECKING:
    from trainer.catalog.api_version import API_VERSION
    from trainer.data.arrays import Arrays
    from trainer.data.streamed import Streamed
    from trainer.engine import Engine
    from trainer.errors import PluginError, TrainerError, UsageError
    from trainer.evaluation import Evaluation
    from trainer.events import Changed, Due, Phase, Plugin
    from trainer.functions import on
    from trainer.launch.fit import fit
    from trainer.launch.resume import resume
    from trainer.model.interface import ModelInterface
    from trainer.model.load import load_model
    from trainer.model.model import Model
    from trainer.number_losses import NumberLoss
    from trainer.processes.single import Processes
    from trainer.requests import Decision
    from trainer.run import Run
    from trainer.signals import Interrupted
    from trainer.step.after_update import UpdatedWeight
    from trainer.step.groups import Gradients
    from trainer.step.guard import Guard
    from trainer.task import Defaults, EmbeddedCategories, Numbers, Splits, Task

__all__ = [
    "API_VERSION",
    "Arrays",
    "Changed",
    "Decision",
    "Defaults",
    "Due",
    "EmbeddedCategories",
    "Engine",
    "Evaluation",
    "Gradients",
    "Guard",
    "Interrupted",
    "Model",
    "ModelInterface",
    "NumberLoss",
    "Numbers",
    "Phase",
    "Plugin",
    "PluginError",
    "Processes",
    "Run",
    "Splits",
    "Streamed",
    "Task",
    "TrainerError",
    "UpdatedWeight",
    "UsageError",
    "fit",
    "load_model",
    "on",
    "resume",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        "trainer.catalog.api_version": ("API_VERSION",),
        "trainer.data.arrays": ("Arrays",),
        "trainer.data.streamed": ("Streamed",),
        "trainer.engine": ("Engine",),
        "trainer.errors": ("PluginError", "TrainerError", "UsageError"),
        "trainer.evaluation": ("Evaluation",),
        "trainer.events": ("Changed", "Due", "Phase", "Plugin"),
        "trainer.functions": ("on",),
        "trainer.launch.fit": ("fit",),
        "trainer.launch.resume": ("resume",),
        "trainer.model.interface": ("ModelInterface",),
        "trainer.model.load": ("load_model",),
        "trainer.model.model": ("Model",),
        "trainer.number_losses": ("NumberLoss",),
        "trainer.processes.single": ("Processes",),
        "trainer.requests": ("Decision",),
        "trainer.run": ("Run",),
        "trainer.signals": ("Interrupted",),
        "trainer.step.after_update": ("UpdatedWeight",),
        "trainer.step.groups": ("Gradients",),
        "trainer.step.guard": ("Guard",),
        "trainer.task": ("Defaults", "EmbeddedCategories", "Numbers", "Splits", "Task"),
    },
)
