"""Refuses options that mean nothing for a run whose weights a solver finds."""

from __future__ import annotations

from collections.abc import Mapping

from trainer.config.given import Given
from trainer.config.settings import OPTIMIZER, ORDER, PENALTIES, Settings
from trainer.errors import UsageError
from trainer.launch.layers import Merged

ITERATIONS = 1000
"""The epochs of a run with a solver unless they are given: it ends by itself."""
MEANINGLESS = {
    "batch-size": "every iteration takes all training rows",
    "micro-batches": "every iteration takes all training rows on one device",
    **dict.fromkeys(ORDER, "every iteration takes all training rows"),
}
"""Settings that mean nothing then, with the reason."""


def check_solver(given: Merged, settings: Settings) -> None:
    """Raises UsageError for an option of optimizers or batches that was given beside a solver."""
    if settings.solver == OPTIMIZER:
        return
    for name, why in MEANINGLESS.items():
        _refuse(given.settings, name, why, settings.solver)
    for name in given.optimizer:
        if name not in PENALTIES:
            _refuse(
                given.optimizer, name, "there is no optimizer, and steps have the length that fits", settings.solver
            )


def _refuse(given: Mapping[str, Given], name: str, why: str, solver: str) -> None:
    if name in given and given[name].origin.source != "default":
        raise UsageError(
            f"it means nothing with --solver {solver}: {why}",
            where=given[name].where,
            fix="Leave it out, or leave --solver out.",
        )
