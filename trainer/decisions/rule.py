"""What a model says about a row beside its prediction, such as a set of classes or the name of a decision."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from trainer.decisions.stored import Storable, read_stored

RULES: Mapping[str, str] = {
    "class-sets": "trainer.decisions.sets.ClassSets",
    "group-thresholds": "trainer.decisions.costs.GroupThresholds",
    "intervals": "trainer.decisions.sets.Intervals",
    "least-cost": "trainer.decisions.costs.LeastCost",
    "points": "trainer.decisions.points.Points",
}
"""Each kind, and its class."""


class Rule(Storable, ABC):
    """Gives further columns for predictions; a frozen dataclass whose fields are what was chosen."""

    @property
    def reads(self) -> Sequence[str]:
        """The columns of the table that it needs, such as one that names groups."""
        return ()

    @property
    @abstractmethod
    def names(self) -> Sequence[str]:
        """The names of its columns, such as `decision`."""

    @abstractmethod
    def columns(self, predictions: NDArray[Any], table: Mapping[str, Any]) -> dict[str, Any]:
        """Its columns for some rows: arrays (rows,), of Arrow if they are not numbers.

        `predictions` (rows, …) are what the model predicts, calibrated; `table` has the columns named in `reads`, as
        Arrow arrays.
        """

    def card(self) -> Mapping[str, Any]:
        """What the model card says about it, as JSON values."""
        return {}


def rule_of(value: object) -> Rule:
    """The rule that `to_json` described. Raises UsageError for anything else."""
    return read_stored(value, RULES, Rule, "rule")  # type: ignore[type-abstract]
