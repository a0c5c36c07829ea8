"""The kinds of columns. Each learns from the training rows, and leads from stored values to inputs of the net."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from trainer.data.tables.kinds.category import Category
from trainer.data.tables.kinds.flag import Flag
from trainer.data.tables.kinds.number import Number

Column = Annotated[Number | Flag | Category, Field(discriminator="kind")]

__all__ = ["Category", "Column", "Flag", "Number"]
