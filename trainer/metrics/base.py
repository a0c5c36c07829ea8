"""The interface of every metric."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from numpy.typing import NDArray

from trainer.errors import UsageError

if TYPE_CHECKING:
    from trainer.metrics.memory import Memory
    from trainer.metrics.ranked import Ranking

Direction = Literal["max", "min"]
Mode = Literal["auto", "min", "max"]
"""Which values are better: lower or higher ones, or what the metric declares."""


class Metric(ABC):
    """Accumulates over the batches of one evaluation.

    With several processes each sees some of the rows. `state` returns what one process has accumulated, and `add_state`
    merges it into another, so that `compute` covers all rows.
    """

    directions: ClassVar[Mapping[str, Direction]] = {}
    """Whether higher (`max`) or lower (`min`) is better, for the names of `compute` that have a direction."""

    @abstractmethod
    def reset(self) -> None:
        """Discards all rows."""

    @abstractmethod
    def update(self, predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> None:
        """Adds one batch: arrays on the host with the rows along the first axis; weights (rows,) or None."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The values over all rows since `reset`, by kebab-case names without the split; NaN if undefined."""

    def keep_within(self, memory: Memory) -> None:  # noqa: B027  most metrics keep no rows
        """Called before `reset`: how much memory this metric's rows may take. Metrics that keep no rows ignore it."""

    def ranking(self) -> Ranking | None:
        """All rows since `reset` in descending order of their scores; None unless the metric ranks two classes."""
        return None

    @abstractmethod
    def state(self) -> dict[str, NDArray[Any]]:
        """What this process has accumulated, as arrays."""

    @abstractmethod
    def add_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Merges the `state` of another process."""


def check_names(names: Sequence[str]) -> None:
    """Raises UsageError if a name occurs twice: one value would overwrite the other."""
    if len(set(names)) == len(names):
        return
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"two values are called {name!r}",
                where="metrics",
                fix="Leave one of the metrics out, or give it another name: mx.metric classes take name=.",
            )


def direction_of(name: str, metrics: Iterable[Metric]) -> Direction | None:
    """Whether a higher or lower value of a logged `split/name` is better; None if no metric declares it."""
    # A metric of a class is called `split/recall/NAME`, and the name may be anything.
    name = name.partition("/")[2] or name
    if name == "loss":
        return "min"
    return next((metric.directions[name] for metric in metrics if name in metric.directions), None)
