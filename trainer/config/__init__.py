"""The settings of a run and the options of plugins and tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer._lazy import exports

if TYPE_CHECKING:
    from trainer.config.options import to_toml
    from trainer.config.settings import OptimizerSettings, Settings, full_name
    from trainer.config.text import as_text

__all__ = [
    "OptimizerSettings",
    "Settings",
    "as_text",
    "full_name",
    "to_toml",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        "trainer.config.options": ("to_toml",),
        "trainer.config.text": ("as_text",),
        "trainer.config.settings": ("OptimizerSettings", "Settings", "full_name"),
    },
)
