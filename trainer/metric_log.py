"""The logged values of a run: the newest ones, those of the step and the epoch, and the history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trainer.errors import UsageError, choose_from

if TYPE_CHECKING:
    from trainer.metrics.base import Direction


class MetricLog:
    """Stores logged values; the engine opens and closes steps, epochs and entries of the history."""

    def __init__(self) -> None:
        self.newest: dict[str, float] = {}
        self.times_logged: dict[str, int] = {}
        self.directions: dict[str, Direction] = {}
        self.of_step: dict[str, float] = {}
        self.of_epoch: dict[str, float] = {}
        self.history: list[dict[str, float]] = []
        self.after: dict[str, float] = {}
        """Values of names that first appear after the last epoch."""
        self._entry: dict[str, float] | None = None
        self._ending: Literal["", "training", "evaluations"] = ""
        self._has_begun = False

    def add(self, metrics: Mapping[str, Any], *, within_batch: bool) -> None:
        """Records values by name. Raises TypeError for a value that is not a number."""
        for name, value in metrics.items():
            number = value if type(value) is float else _number(name, value)
            self.newest[name] = number
            self.times_logged[name] = self.times_logged.get(name, 0) + 1
            self.of_epoch[name] = number
            if self._entry is not None:
                self._entry[name] = number
            elif self._ending:
                self._add_at_the_end(name, number)
            if within_batch:
                self.of_step[name] = number

    def value(self, name: str, *, where: str) -> float:
        """The newest value of a metric. Raises UsageError, listing the names, if it was never logged."""
        if name not in self.newest:
            raise not_logged(name, self.newest, where=where)
        return self.newest[name]

    def begin_epoch(self) -> None:
        """Starts a new epoch for the values; the first one has those that were logged before it."""
        if self._has_begun:
            self.of_epoch = {}
        self._has_begun = True

    def begin_step(self) -> None:
        """Starts a new step for the values."""
        if self.of_step:
            self.of_step = {}

    def open_entry(self, epoch: int, step: int) -> None:
        """Adds an entry to the history; values are added to it until it is closed."""
        self._entry = {"epoch": epoch, "step": step, **self.of_epoch}
        self.history.append(self._entry)

    def close_entry(self) -> None:
        """Ends the epoch; later values belong to no epoch."""
        self._entry = None

    def begin_ending(self, what: Literal["training", "evaluations"]) -> None:
        """What is logged from here on belongs to the end of a run that was not cut short."""
        self._ending = what

    def _add_at_the_end(self, name: str, number: float) -> None:
        """Adds a value of the training's end to the last entry, unless the epoch has one of that name."""
        entry = self.history[-1] if self.history else {}
        if name in entry and name not in self.after:
            return
        self.after[name] = number
        if self._ending == "training":
            entry[name] = number

    def state_dict(self) -> dict[str, Any]:
        """Everything except the values of the step, as JSON values."""
        return {
            "metrics": self.newest,
            "directions": self.directions,
            "times_logged": self.times_logged,
            "epoch_metrics": self.of_epoch,
            "history": self.history,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self.newest, self.directions = state["metrics"], state["directions"]
        self.times_logged, self.of_epoch = state["times_logged"], state["epoch_metrics"]
        self.history = state["history"]
        self._has_begun = True


def not_logged(name: str, logged: Iterable[str], *, where: str) -> UsageError:
    """The error for a name that is not among the logged ones."""
    fix = choose_from(name, sorted(logged), label="Logged are", limit=99)
    return UsageError(f"the metric {name!r} is not logged", where=where, fix=fix)


def _number(name: str, value: Any) -> float:
    """`value` as a float. Reading an NDArray waits for the device."""
    if isinstance(value, (str, bytes)):
        raise TypeError(f"run.log takes numbers; {name!r} is {value!r}")
    try:
        array = value.asnumpy() if hasattr(value, "asnumpy") else value
        # An array of one element may have axes, which float() does not accept.
        return float(array.item() if isinstance(array, np.ndarray) else array)
    except (TypeError, ValueError):
        raise TypeError(f"run.log takes numbers; {name!r} is a {type(value).__name__}") from None
