"""The kinds of columns. Each learns from the training rows, and leads from stored values to inputs of the net."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from trainer.data.tables.kinds.category import Category
from trainer.data.tables.kinds.date import Date
from trainer.data.tables.kinds.duration import Duration
from trainer.data.tables.kinds.embedded import Embedded
from trainer.data.tables.kinds.flag import Flag
from trainer.data.tables.kinds.hashed import Hashed
from trainer.data.tables.kinds.number import Number
from trainer.data.tables.kinds.time import TimeOfDay

Column = Annotated[
    Number | Flag | Category | Embedded | Hashed | Date | TimeOfDay | Duration, Field(discriminator="kind")
]
IDS = (Embedded, Hashed)
"""The kinds that are ids: numbers of rows in tables of weights."""
IN_TIME = (Date, TimeOfDay, Duration)
"""The kinds that have types of their own, and a notation by which text is told to be one."""
ORDERED = (Number, Date, TimeOfDay, Duration)
"""The kinds whose values have a place on an axis; the others have words."""

__all__ = [
    "IDS",
    "IN_TIME",
    "ORDERED",
    "Category",
    "Column",
    "Date",
    "Duration",
    "Embedded",
    "Flag",
    "Hashed",
    "Number",
    "TimeOfDay",
]
