"""What every metric has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

from numpy.typing import NDArray

Direction = Literal["max", "min"]


class Metric(ABC):
    """Adds up over the batches of one evaluation.

    Several processes each see some of the rows: `state` is what one of them knows, as arrays, and `add_state` takes in
    what another knows, so that `compute` is over all rows.
    """

    directions: ClassVar[Mapping[str, Direction]] = {}
    """For the names of `compute` that have one: whether more (`max`) or less (`min`) is better."""

    @abstractmethod
    def reset(self) -> None:
        """Forgets every row."""

    @abstractmethod
    def update(self, predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> None:
        """Takes in one batch: arrays on the host with the rows along the first axis; weights (rows,) or None."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The values over all rows since `reset`, by names in kebab-case without the split; NaN where undefined."""

    @abstractmethod
    def state(self) -> dict[str, NDArray[Any]]:
        """What this process knows of the rows it has seen."""

    @abstractmethod
    def add_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes in the `state` of another process."""


def direction_of(name: str, metrics: Iterable[Metric]) -> Direction | None:
    """Whether more or less of a logged `split/name` is better; None where nobody says."""
    name = name.rpartition("/")[2]
    if name == "loss":
        return "min"
    return next((metric.directions[name] for metric in metrics if name in metric.directions), None)
