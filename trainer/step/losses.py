"""The training loss of an epoch, added up on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trainer.errors import UsageError

if TYPE_CHECKING:
    from trainer._mxnet import Array

FLUSH_EVERY = 512
"""After so many additions the sums go to the host as float64. In float32 rounding would grow with the epoch's length;
reading waits for the device, so it must stay rare."""


class LossSum:
    """Adds up per-row losses without waiting for the device: one addition a step and context."""

    def __init__(self) -> None:
        self._sums: dict[tuple[object, tuple[int, ...]], Array] = {}
        self._additions = 0
        self._total = 0.0

    def add(self, losses: Array) -> None:
        """Adds the losses (rows,) of one context's part of a batch."""
        key = (losses.context, losses.shape)
        held = self._sums.get(key)
        if held is None:
            self._sums[key] = losses.copy()
        else:
            held += losses
        self._additions += 1
        if self._additions >= FLUSH_EVERY:
            self._flush()

    def take(self) -> float:
        """The sum of everything added since the last call. Waits for the device."""
        self._flush()
        total, self._total = self._total, 0.0
        return total

    def _flush(self) -> None:
        self._total += sum(float(held.asnumpy().sum(dtype="float64")) for held in self._sums.values())
        self._sums.clear()
        self._additions = 0


def mean_loss(losses: Sequence[Array], rows: int) -> float:
    """The mean of the contexts' per-row losses; NaN without any. Waits for the device."""
    total = sum(float(part.asnumpy().sum(dtype="float64")) for part in losses)
    return total / rows if losses else float("nan")


def column(weights: Any, axes: int) -> Any:
    """Weights (rows,) or (rows, 1) as (rows, 1, …), with as many axes as the outputs have.

    Gluon's losses multiply them with the loss of each output before they average it over a row; (rows,) times
    (rows, 1) would broadcast to (rows, rows), and every row would silently get the weights of all.
    """
    return weights.reshape((-1,) + (1,) * (axes - 1))


def check_rows(losses: Array, rows: int) -> None:
    """Raises UsageError unless the loss gave one value a row: only then can batches be weighted by their rows."""
    if losses.shape != (rows,):
        raise UsageError(
            f"the loss gives shape {losses.shape} for {rows} rows",
            where="the task's loss()",
            fix=f"It has to give one value a row, shape ({rows},): average over the other axes, not over the rows.",
        )
