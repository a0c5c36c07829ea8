"""The kinds of columns. Each learns from the training rows, and leads from stored values to inputs of the net."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from trainer.data.tables.kinds.category import Category
from trainer.data.tables.kinds.date import Date, DateSurvey
from trainer.data.tables.kinds.duration import Duration, DurationSurvey
from trainer.data.tables.kinds.embedded import Embedded
from trainer.data.tables.kinds.flag import Flag
from trainer.data.tables.kinds.hashed import Hashed
from trainer.data.tables.kinds.number import Number
from trainer.data.tables.kinds.time import TimeOfDay, TimeSurvey

Column = Annotated[
    Number | Flag | Category | Embedded | Hashed | Date | TimeOfDay | Duration, Field(discriminator="kind")
]
IDS = (Embedded, Hashed)
"""The kinds that are ids: numbers of rows in tables of weights."""
IN_TIME = (Date, TimeOfDay, Duration)
"""The kinds that have types of their own, and a notation by which text is told to be one."""
SURVEYS_IN_TIME: dict[Any, type[DateSurvey] | type[TimeSurvey] | type[DurationSurvey]] = {
    Date: DateSurvey,
    TimeOfDay: TimeSurvey,
    Duration: DurationSurvey,
}
"""What each of them is learned from."""
ORDERED = (Number, Date, TimeOfDay, Duration)
"""The kinds whose values have a place on an axis; the others have words."""

__all__ = [
    "IDS",
    "IN_TIME",
    "ORDERED",
    "SURVEYS_IN_TIME",
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
