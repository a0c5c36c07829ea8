"""An event-driven training engine for Apache MXNet Gluon, where every part is a plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.catalog.api_version import API_VERSION
    from trainer.config.settings import Settings
    from trainer.data.arrays import Arrays
    from trainer.data.batches import Batch, Batches, Shard
    from trainer.engine import Engine
    from trainer.errors import PluginError, TrainerError, UsageError
    from trainer.evaluation import Evaluation
    from trainer.events import Changed, Phase, Plugin
    from trainer.functions import on
    from trainer.launch.fit import fit
    from trainer.launch.resume import resume
    from trainer.metrics.base import Metric
    from trainer.model.interface import Encoded, ModelInterface, RowSource
    from trainer.model.load import load_model
    from trainer.model.model import Model
    from trainer.requests import Decision
    from trainer.run import Run
    from trainer.signals import Interrupted
    from trainer.step.parameters import Gradients
    from trainer.task import Defaults, Splits, Task

__all__ = [
    "API_VERSION",
    "Arrays",
    "Batch",
    "Batches",
    "Changed",
    "Decision",
    "Defaults",
    "Encoded",
    "Engine",
    "Evaluation",
    "Gradients",
    "Interrupted",
    "Metric",
    "Model",
    "ModelInterface",
    "Phase",
    "Plugin",
    "PluginError",
    "RowSource",
    "Run",
    "Settings",
    "Shard",
    "Splits",
    "Task",
    "TrainerError",
    "UsageError",
    "fit",
    "load_model",
    "on",
    "resume",
]

_MODULES = {
    "API_VERSION": "trainer.catalog.api_version",
    "Arrays": "trainer.data.arrays",
    "Batch": "trainer.data.batches",
    "Batches": "trainer.data.batches",
    "Changed": "trainer.events",
    "Decision": "trainer.requests",
    "Defaults": "trainer.task",
    "Encoded": "trainer.model.interface",
    "Engine": "trainer.engine",
    "Evaluation": "trainer.evaluation",
    "Gradients": "trainer.step.parameters",
    "Interrupted": "trainer.signals",
    "Metric": "trainer.metrics.base",
    "Model": "trainer.model.model",
    "ModelInterface": "trainer.model.interface",
    "Phase": "trainer.events",
    "Plugin": "trainer.events",
    "PluginError": "trainer.errors",
    "RowSource": "trainer.model.interface",
    "Run": "trainer.run",
    "Settings": "trainer.config.settings",
    "Shard": "trainer.data.batches",
    "Splits": "trainer.task",
    "Task": "trainer.task",
    "TrainerError": "trainer.errors",
    "UsageError": "trainer.errors",
    "fit": "trainer.launch.fit",
    "load_model": "trainer.model.load",
    "on": "trainer.functions",
    "resume": "trainer.launch.resume",
}


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used: `trainer --help` would otherwise pay for MXNet."""
    if name not in _MODULES:
        raise AttributeError(f"module 'trainer' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__all__", "__doc__"]
