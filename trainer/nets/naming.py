"""The task name for runs of a bare net, and the error if such a run is used without the net."""

from __future__ import annotations

from pathlib import Path

from trainer.atomic import shown
from trainer.errors import UsageError

NET = "gluon-net"
"""The task's name: in run folders and in `model.json`. Not an entry point; `load_model` and `resume` handle it."""


def needs_net(path: Path) -> UsageError:
    """The error for continuing a run of a bare net without the net."""
    return UsageError(
        "the run trained a net from Python, which its folder does not hold",
        where=shown(path),
        fix=f'In Python, give the same call again: fit(net, train=…, loss=…, resume="{shown(path)}").',
    )
