"""The trained model: a folder that a run leaves, and what can be done with it without the run."""

from __future__ import annotations

from trainer.model.interface import Encoded, ModelInterface, RowSource
from trainer.model.load import load_model
from trainer.model.model import Model

__all__ = ["Encoded", "Model", "ModelInterface", "RowSource", "load_model"]
