"""What plugins ask of the engine: the open requests of a run, and the decision record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from trainer.errors import TrainerError

Action = Literal["stop", "end_epoch", "save", "evaluate", "skip_update", "disable", "restore"]

REQUESTS: tuple[Action, ...] = ("stop", "end_epoch", "save", "evaluate", "skip_update")
"""Actions that can be requested; other actions appear in the decision record only."""


@dataclass(slots=True)
class Decision:
    """One line of the decision record: who asked for what, why, and when.

    Repeating a request with the same reason increments `count` instead of adding a line, so a plugin that asks in every
    batch takes one line. `epoch` and `step` are those of the first time, `last_step` is that of the last.
    """

    plugin: str
    action: Action
    reason: str
    epoch: int
    step: int
    count: int
    last_step: int


class Requests:
    """The open requests of one run, with reasons and requesters, and its decision record."""

    def __init__(self) -> None:
        self.decisions: list[Decision] = []
        self._open: dict[Action, str] = {}
        self._requesters: dict[Action, list[str]] = {}
        self._known: dict[tuple[str, Action, str], Decision] = {}

    def ask(self, action: Action, reason: str, *, plugin: str, epoch: int, step: int) -> None:
        """Opens a request, or adds a requester to it. Raises TrainerError without a reason."""
        if not isinstance(reason, str) or not reason:
            raise TrainerError(f"a request to {action.replace('_', ' ')} needs its reason, a sentence as a string")
        if action not in self._open:
            self._open[action], self._requesters[action] = reason, []
        if plugin not in self._requesters[action]:
            self._requesters[action].append(plugin)
        self.decide(action, reason, plugin=plugin, epoch=epoch, step=step)

    def reason(self, action: Action) -> str | None:
        """The reason of an open request, or None."""
        return self._open.get(action)

    def requesters(self, action: Action) -> list[str]:
        """Who made the open request, or the one taken last: plugin names, or `engine`, in order of asking."""
        return self._requesters.get(action) or ["engine"]

    def take(self, action: Action) -> str | None:
        """Closes a request and returns its reason; None if it is not open."""
        return self._open.pop(action, None) if self._open else None

    def decide(self, action: Action, reason: str, *, plugin: str, epoch: int, step: int) -> None:
        """Adds one line to the decision record, or increments the count of an equal line."""
        known = self._known.get((plugin, action, reason))
        if known is not None:
            known.count += 1
            known.last_step = step
            return
        decision = Decision(plugin, action, reason, epoch, step, count=1, last_step=step)
        self._known[plugin, action, reason] = decision
        self.decisions.append(decision)

    def state_dict(self) -> dict[str, Any]:
        """Open requests and decisions as JSON values."""
        return {"requests": dict(self._open), "decisions": [asdict(decision) for decision in self.decisions]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        decisions: Sequence[Mapping[str, Any]] = state["decisions"]
        self._open = dict(state["requests"])
        self._requesters = {}
        self.decisions = [Decision(**decision) for decision in decisions]
        self._known = {(each.plugin, each.action, each.reason): each for each in self.decisions}
