"""What plugins may assign on a run: the rest is refused, since it would have no effect or break the loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from trainer.data.batches import Batch
from trainer.errors import TrainerError, did_you_mean, type_of
from trainer.numbers import finite

if TYPE_CHECKING:
    from trainer.engine_state import EngineState

SETTABLE = frozenset({
    "batch", "learning_rate", "threshold", "threshold_reason", "calibrator", "rules", "evaluation_weights", "notes",
})  # fmt: skip
"""Attributes of a run that plugins may assign."""

_COUNTED = "Use run.stop(reason), run.end_epoch(reason) or run.skip_update(reason)."
_LOGGED = "Use run.log({name: value})."
INSTEAD: Mapping[str, str] = {
    "net": "Change its parameters' values with run.set_weights, or their grad_req, lr_mult and wd_mult.",
    "optimizer": "Set its numbers, such as run.optimizer.wd; another optimizer needs another run.",
    "train": "Set run.batch in on_batch_begin.",
    **dict.fromkeys(
        ("epoch", "step", "step_in_epoch", "updates", "status", "reason", "last_batch", "epochs"), _COUNTED
    ),
    **dict.fromkeys(("metrics", "step_metrics", "epoch_metrics", "end_metrics", "history"), _LOGGED),
    "gradients": "Change its arrays in place, or set run.gradients.factor.",
    "loss": "Change the batch, its weights or the gradients.",
    "optimizer_states": "Change the arrays in place.",
    "moving_weights": "Use run.exchange_weights(values).",
    "decisions": "Use run.decide(action, reason).",
}
"""What to do instead of an assignment."""


class Guarded:
    """A run as plugins assign to it. The engine assigns freely while no plugin is being called."""

    _state: EngineState
    optimizer: Any

    def __setattr__(self, name: str, value: Any) -> None:
        state: EngineState | None = vars(self).get("_state")
        if state is not None and state.acting != "engine" and name not in SETTABLE:
            raise _refused(type(self), name)
        object.__setattr__(self, name, value)

    @property
    def acting(self) -> str:
        """The name of the plugin that is being called, or `engine`."""
        return self._state.acting

    @property
    def batch(self) -> Batch | None:
        """The current batch; in `on_batch_begin`, a TRANSFORM plugin may change it in place, or replace it."""
        batch = self._state.batch
        if batch is not None:
            batch.settle()
        return batch

    @batch.setter
    def batch(self, value: Batch) -> None:
        state = self._state
        if state.acting != "engine":
            check_batch(state.batch, value, state.event)
        state.batch = value

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next update; plugins may set it."""
        return float(self.optimizer.learning_rate)

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self.optimizer.set_learning_rate(rate(value))


@contextmanager
def acting_as(run: Guarded, plugin: str) -> Iterator[None]:
    """Within it, `run.acting` is the plugin."""
    state = run._state  # noqa: SLF001  this module's own class
    before, state.acting = state.acting, plugin
    try:
        yield
    finally:
        state.acting = before


def _refused(cls: type, name: str) -> TrainerError:
    known = [each for each in (*vars(cls), *cls.__dataclass_fields__, *vars(Guarded)) if not each.startswith("_")]  # type: ignore[attr-defined]
    if name not in known:
        hint = did_you_mean(name, sorted(SETTABLE)) or "A plugin keeps what it needs in its own attributes."
        return TrainerError(f"a run has no attribute {name!r} to assign to. {hint}")
    return TrainerError(f"run.{name} cannot be assigned. {INSTEAD.get(name, 'Plugins can only read it.')}")


def check_batch(old: Batch | None, new: Any, event: str) -> None:
    """Raises TrainerError if a batch cannot take the place of the current one."""
    if event != "batch_begin" or old is None:
        raise TrainerError("run.batch can be replaced in on_batch_begin only: in other events it has no effect")
    if not isinstance(new, Batch):
        raise TrainerError(
            f"run.batch is {'None' if new is None else type_of(new)}, not a Batch. "
            "Use dataclasses.replace(run.batch, shards=…), or run.skip_update(reason) to leave the batch out."
        )
    if [shard.context for shard in new.shards] != [shard.context for shard in old.shards]:
        raise TrainerError(
            f"the new run.batch has {len(new.shards)} shards, the old one {len(old.shards)}: a batch has one shard for "
            "each part, on its context"
        )
    for shard in new.shards:
        lengths = {shape[0] for shape in shard.shapes} if shard.rows else set()
        if lengths - {shard.rows}:
            raise TrainerError(
                f"a shard of the new run.batch has {shard.rows} rows, and arrays of {max(lengths - {shard.rows})}"
            )
    new.inherit(old)


def rate(value: Any) -> float:
    """A learning rate as a float. Raises TrainerError unless it is a finite number."""
    number = finite(value)
    if number is None:
        raise TrainerError(f"run.learning_rate = {value!r}: it is not a finite number")
    return number
