"""What a run of a bare net is called, and what to say to somebody who has the run and not the net."""

from __future__ import annotations

from pathlib import Path

from trainer.atomic import shown
from trainer.errors import UsageError

NET = "gluon-net"
"""The task's name: in run folders and in `model.json`. No entry point has it, so `load_model` and `resume` know it."""


def needs_net(path: Path) -> UsageError:
    """The error for a run of a bare net that something wants to continue without the net."""
    return UsageError(
        "the run trained a net from Python, which its folder does not hold",
        where=shown(path),
        fix=f'In Python, give the same call again: fit(net, train=…, loss=…, resume="{shown(path)}").',
    )
