"""Rules that decide by what mistakes cost, and by a threshold for each group."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trainer.decisions.coverage import both_classes
from trainer.decisions.groups import codes_of
from trainer.decisions.points import named
from trainer.decisions.rule import Rule
from trainer.errors import UsageError


@dataclass(frozen=True)
class LeastCost(Rule):
    """A column `decision`: what has the least expected cost by the row's probabilities."""

    kind: ClassVar[str] = "least-cost"
    costs: tuple[tuple[float, ...], ...]
    """A row for each class, a column for each decision."""
    decisions: tuple[str, ...]
    suffix: str = ""
    """What the column's name ends with."""

    def __post_init__(self) -> None:
        """Raises ValueError unless there is a cost for each decision."""
        if not self.costs or {len(row) for row in self.costs} != {len(self.decisions)}:
            raise ValueError("the costs do not fit the decisions")

    @property
    def names(self) -> Sequence[str]:
        return (f"decision{self.suffix}",)

    def decide(self, predictions: NDArray[Any]) -> NDArray[np.int64]:
        """The place of each row's decision, the first of equally cheap ones; -1 if a probability is not a number."""
        if not len(predictions):
            return np.zeros(0, np.int64)
        expected = np.asarray(both_classes(predictions), np.float64) @ np.array(self.costs)
        unknown = np.isnan(expected).any(axis=1)
        return np.where(unknown, -1, np.argmin(np.where(unknown[:, None], 0, expected), axis=1))

    def columns(self, predictions: NDArray[Any], table: Mapping[str, Any]) -> dict[str, Any]:
        return {self.names[0]: named(self.decide(predictions), self.decisions)}

    def card(self) -> Mapping[str, Any]:
        return {"columns": list(self.names), "decisions": list(self.decisions), "costs": [list(c) for c in self.costs]}


@dataclass(frozen=True)
class GroupThresholds(Rule):
    """A column `decision`: class 1 if its probability is above the threshold of the row's group."""

    kind: ClassVar[str] = "group-thresholds"
    group: str
    """The column that names the group."""
    thresholds: Mapping[str, float]
    rest: float
    """The threshold for other groups."""
    classes: tuple[str, str]
    suffix: str = ""
    """What the column's name ends with."""

    @property
    def reads(self) -> Sequence[str]:
        return (self.group,)

    @property
    def names(self) -> Sequence[str]:
        return (f"decision{self.suffix}",)

    def of_codes(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """The threshold of each row by the place of its group in `thresholds`, -1 for others."""
        values: NDArray[np.float64] = np.array([*self.thresholds.values(), self.rest])[codes]
        return values

    def columns(self, predictions: NDArray[Any], table: Mapping[str, Any]) -> dict[str, Any]:
        probabilities = np.asarray(predictions, np.float64).reshape(-1)
        own = self.of_codes(codes_of(table[self.group], list(self.thresholds)))
        places = np.where(np.isnan(probabilities), -1, (probabilities > own).astype(np.int64))
        return {self.names[0]: named(places, self.classes)}

    def card(self) -> Mapping[str, Any]:
        thresholds = {**self.thresholds, "others": self.rest}
        return {"columns": list(self.names), "group": self.group, "thresholds": thresholds}


def costs_of(text: str, classes: Sequence[str], person: str, suffix: str = "") -> LeastCost:
    """A matrix as it is written: a row for each class, divided by `;`, and in it a cost for each decision.

    The decisions are the classes; with one more column, the last one is a person. Raises UsageError for anything else.
    """
    count = len(classes)
    rows = [row for row in text.split(";") if row.strip()]
    try:
        costs = tuple(tuple(float(part) for part in row.split(",")) for row in rows)
    except ValueError as error:
        raise UsageError(
            f"it is not a matrix of numbers: {error}",
            fix="Divide the costs of a class by commas, and the classes by semicolons: 0,1; 5,0.",
        ) from None
    widths = {len(row) for row in costs}
    if len(costs) != count or widths not in ({count}, {count + 1}):
        shape = f"{len(costs)} × {'/'.join(map(str, sorted(widths)))}"
        raise UsageError(
            f"the matrix is {shape}, and there are {count} classes: {', '.join(classes)}",
            fix=f"Give a row for each class with {count} costs, or {count + 1} if the last decision is a person.",
        )
    if not all(math.isfinite(cost) for row in costs for cost in row):
        raise UsageError("a cost is not finite", fix="Use numbers; 0 for the right decisions.")
    decisions = (*classes, person) if widths == {count + 1} else tuple(classes)
    if all(row == costs[0] for row in costs):
        raise UsageError("the costs are the same for every class, so the probabilities do not matter")
    return LeastCost(costs, tuple(decisions), suffix)
