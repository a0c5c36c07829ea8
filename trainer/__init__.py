"""An event-driven training engine for Apache MXNet Gluon, where every part is a plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.catalog.api_version import API_VERSION
    from trainer.data.arrays import Arrays
    from trainer.engine import Engine
    from trainer.errors import PluginError, TrainerError, UsageError
    from trainer.events import Changed, Phase, Plugin
    from trainer.launch.fit import fit
    from trainer.launch.resume import resume
    from trainer.model import Model, ModelInterface, load_model
    from trainer.run import Run
    from trainer.signals import Interrupted
    from trainer.task import Defaults, Splits, Task

__all__ = [
    "API_VERSION",
    "Arrays",
    "Changed",
    "Defaults",
    "Engine",
    "Interrupted",
    "Model",
    "ModelInterface",
    "Phase",
    "Plugin",
    "PluginError",
    "Run",
    "Splits",
    "Task",
    "TrainerError",
    "UsageError",
    "fit",
    "load_model",
    "resume",
]

_MODULES = {
    "API_VERSION": "trainer.catalog.api_version",
    "Arrays": "trainer.data.arrays",
    "Changed": "trainer.events",
    "Defaults": "trainer.task",
    "Engine": "trainer.engine",
    "Interrupted": "trainer.signals",
    "Model": "trainer.model.model",
    "ModelInterface": "trainer.model.interface",
    "Phase": "trainer.events",
    "Plugin": "trainer.events",
    "PluginError": "trainer.errors",
    "Run": "trainer.run",
    "Splits": "trainer.task",
    "Task": "trainer.task",
    "TrainerError": "trainer.errors",
    "UsageError": "trainer.errors",
    "fit": "trainer.launch.fit",
    "load_model": "trainer.model.load",
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
