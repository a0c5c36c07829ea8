"""The trained model: the folder that a run writes, and what you can do with it without the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer._lazy import exports

if TYPE_CHECKING:
    from trainer.model.ids import Ids
    from trainer.model.interface import Encoded, ModelInterface, RowSource
    from trainer.model.load import load_model
    from trainer.model.manifest import About, FileEntry, InputEntry, TaskEntry, Thresholds
    from trainer.model.model import Model
    from trainer.model.parameters import read_parameters
    from trainer.model.tables import TableModel

__all__ = [
    "About",
    "Encoded",
    "FileEntry",
    "Ids",
    "InputEntry",
    "Model",
    "ModelInterface",
    "RowSource",
    "TableModel",
    "TaskEntry",
    "Thresholds",
    "load_model",
    "read_parameters",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        "trainer.model.ids": ("Ids",),
        "trainer.model.interface": ("Encoded", "ModelInterface", "RowSource"),
        "trainer.model.load": ("load_model",),
        "trainer.model.manifest": ("About", "FileEntry", "InputEntry", "TaskEntry", "Thresholds"),
        "trainer.model.model": ("Model",),
        "trainer.model.parameters": ("read_parameters",),
        "trainer.model.tables": ("TableModel",),
    },
)
