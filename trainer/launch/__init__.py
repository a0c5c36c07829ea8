"""From what a user asks for to a run, new or resumed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer._lazy import exports

if TYPE_CHECKING:
    from trainer.cpu import cores
    from trainer.launch.launch import Launch
    from trainer.launch.prepare import Request, prepare_run

__all__ = [
    "Launch",
    "Request",
    "cores",
    "prepare_run",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        "trainer.cpu": ("cores",),
        "trainer.launch.launch": ("Launch",),
        "trainer.launch.prepare": ("Request", "prepare_run"),
    },
)
