"""How the weights of many categories reach the net, and which of them a step updates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from trainer import Run, UsageError
from trainer.errors import listed

if TYPE_CHECKING:
    from trainer.data import IdTable, Rows

Updates = Literal["auto", "lazy", "dense"]
USUAL = ("sgd", "adam", "adagrad", "ftrl")
"""The optimizers whose updates are lazy unless something else is asked for."""
LAZY = (*USUAL, "nag", "rmsprop", "adadelta", "adamax", "ftml", "signum", "dcasgd")
"""Those that can leave weights without a gradient as they are."""


def is_lazy(updates: Updates, run: Run) -> bool:
    """Whether a step updates only the rows of weights that its batch uses. Raises UsageError if it cannot."""
    if run.settings.solver != "optimizer":
        # A solver moves all weights at once.
        if updates == "lazy":
            raise UsageError(
                f"--solver {run.settings.solver} updates all weights",
                where="--updates",
                fix="Leave it out, or leave --solver out.",
            )
        return False
    optimizer = run.settings.optimizer.build()
    name = type(optimizer).__name__.lower()
    if updates == "lazy" and name not in LAZY:
        raise UsageError(
            f"{name} updates a table of weights as a whole",
            where="--updates",
            fix=f"Use --updates dense, or one of the optimizers {', '.join(LAZY)}.",
        )
    if updates == "auto":
        return name in USUAL and not optimizer.wd and not getattr(optimizer, "momentum", 0)
    return updates == "lazy"


def notes_on_hidden_layers(run: Run) -> list[str]:
    """What the user should know of the optimizer if the net has hidden layers, a line each."""
    if run.settings.solver != "optimizer" or type(run.settings.optimizer.build()).__name__ != "Ftrl":
        return []
    return [
        "ftrl pulls every weight to 0 from the first step on, so hidden layers hardly learn; "
        'use --optimizer adagrad or adam, or leave hidden layers out with --hidden ""'
    ]


def inputs_of(rows: Rows) -> Any:
    """The inputs of the net: an array, or a tuple of numbers and ids."""
    return rows.inputs if len(rows.inputs) > 1 else rows.inputs[0]


def check_without_ids(tables: Sequence[IdTable]) -> None:
    """Raises UsageError if columns are ids, which a caller's own net has no weights for."""
    columns = [column for table in tables for column in table.columns]
    if columns:
        is_hashed = any(column.kind == "hashed" for column in columns)
        one_hot = "hash_bits out" if is_hashed else "embedding out and raise one_hot_limit"
        raise UsageError(
            f"your own net takes numbers only, and these columns of categories are ids: "
            f"{listed([column.name for column in columns], 4)}",
            where="network",
            fix=f"Leave the columns out (ignore), leave {one_hot} for one-hot inputs, or use the task's own net.",
        )
