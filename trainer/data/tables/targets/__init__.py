"""The kinds of targets: what a table's label column becomes. Each learns from the column and encodes it.

A kind has `learn`, `fitted` (with what depends on the training rows), `encode`, `strata` (of which each side of a split
gets its share; the same number for every row divides them at random), `check_rows`, `too_few`, `describe`, `summary`
and `check`, and a field `kind` that tells it apart in JSON. `Classes` describes them.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from trainer.data.tables.targets.classes import Classes
from trainer.data.tables.targets.quantity import Quantity

Target = Annotated[Classes | Quantity, Field(discriminator="kind")]

__all__ = ["Classes", "Quantity", "Target"]
