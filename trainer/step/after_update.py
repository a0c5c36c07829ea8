"""What plugins do to the weights within an update, after the optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.step.changes import part_of
from trainer.step.groups import Group

if TYPE_CHECKING:
    from trainer.mxnet import Array


@dataclass(frozen=True, eq=False)
class UpdatedWeight:
    """A parameter that an update changes, as the optimizer sees it: see `Run.after_update`."""

    name: str
    """Its place in the net (`0.weight`)."""
    array: Array
    """Its values on the first context; flat if the parameter shares a buffer with others. Write into it."""
    state: Any
    """The optimizer's state of it: an array like `array`, a tuple of them, or None."""
    optimizer: Any
    index: int
    """The optimizer's number of it."""

    @property
    def learning_rate(self) -> float:
        """The learning rate of the update, with the optimizer's scheduler and the parameter's `lr_mult`."""
        return float(self.optimizer._get_lr(self.index))  # noqa: SLF001  as MXNet's classes ask for it

    @property
    def updates(self) -> int:
        """How often it was updated, including this time."""
        return int(self.optimizer._index_update_count[self.index])  # noqa: SLF001  there is no public way


Change = Callable[[Sequence[UpdatedWeight]], None]


class AfterUpdate:
    """The functions that every update calls, and the weights that it hands to them."""

    def __init__(self, find: Callable[[], Iterator[UpdatedWeight]]) -> None:
        self._find = find
        self._weights: Sequence[UpdatedWeight] | None = None
        self._changes: list[Change] = []

    def add(self, change: Change) -> Sequence[UpdatedWeight]:
        """Calls a function in each update from now on; returns the present weights."""
        self._changes.append(change)
        return self.weights

    @property
    def weights(self) -> Sequence[UpdatedWeight]:
        """The same sequence until the layout changes."""
        if self._weights is None:
            self._weights = tuple(self._find())
        return self._weights

    def forget(self) -> None:
        """The layout, or what is trained, may have changed."""
        self._weights = None

    def __call__(self) -> None:
        for change in self._changes:
            change(self.weights)


def updated_weights(
    groups: Sequence[Group],
    states: Sequence[Any],
    named: Mapping[str, Any],
    optimizer: Any,
    split: Mapping[str, int],
) -> Iterator[UpdatedWeight]:
    """The trained members of all groups. Those in `split` are updated one by one, with these numbers."""
    for index, (group, state) in enumerate(zip(groups, states, strict=True)):
        start, weights = 0, group.weights[0]
        for name in group.names:
            array, own, end = weights, state, start + int(np.prod(named[name].shape))
            if len(group.names) > 1:
                array, own = weights[start:end], part_of(state, start, end)
            if named[name].grad_req != "null":
                yield UpdatedWeight(name, array, own, optimizer, split.get(name, index))
            start = end
