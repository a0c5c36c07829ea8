"""The trained model: the folder that a run writes, and what you can do with it without the run."""

from __future__ import annotations

from trainer.model.interface import Encoded, ModelInterface, RowSource
from trainer.model.load import load_model
from trainer.model.model import Model

__all__ = ["Encoded", "Model", "ModelInterface", "RowSource", "load_model"]
