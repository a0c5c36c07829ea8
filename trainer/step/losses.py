"""The training loss: of the newest batch, and of an epoch, added up on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainer.errors import UsageError
from trainer.waiting import waiting

if TYPE_CHECKING:
    from trainer._mxnet import Array, Context

FLUSH_EVERY = 512
"""After so many additions the sums go to the host as float64. In float32 rounding would grow with the epoch's length;
reading waits for the device, so it must stay rare."""


class TrainingLoss:
    """The losses of the newest batch, and their sum over an epoch, kept without waiting for the device.

    Costs one addition a step and context; reading either of them waits.
    """

    def __init__(self) -> None:
        self._newest: Sequence[Array] = ()
        self._mean: float | None = float("nan")
        self._rows = 0
        self._sums: dict[tuple[object, tuple[int, ...]], Array] = {}
        self._additions = 0
        self._total = 0.0

    def add(self, losses: Sequence[Array], rows: int) -> None:
        """Takes a batch's losses, one array (rows on it,) a context that has rows; `rows` is the sum of those."""
        self._newest, self._rows, self._mean = losses, rows, None
        for part in losses:
            key = (part.context, part.shape)
            held = self._sums.get(key)
            if held is None:
                self._sums[key] = part.copy()
            else:
                held += part
            self._additions += 1
        if self._additions >= FLUSH_EVERY:
            self._flush()

    def newest(self) -> float:
        """The mean loss of the newest batch; NaN before the first. Waits for the device, once a batch."""
        if self._mean is None:
            with waiting:
                self._mean = sum(float(part.asnumpy().sum(dtype="float64")) for part in self._newest) / self._rows
        return self._mean

    @property
    def by_row(self) -> Sequence[Array]:
        """The losses of the newest batch, one array (rows on it,) a context that has rows; does not wait."""
        return self._newest

    def take_sum(self) -> float:
        """The losses of all rows since the last call, added up. Waits for the device."""
        self._flush()
        total, self._total = self._total, 0.0
        return total

    def state_dict(self) -> dict[str, Any]:
        """The sums as they stand: adding them up here would round otherwise than a run that is not saved."""
        return {
            "newest": self.newest(),
            "sums": [held.asnumpy() for held in self._sums.values()],
            "contexts": [str(context) for context, _ in self._sums],
            "additions": self._additions,
            "total": self._total,
        }

    def load_state_dict(self, state: Mapping[str, Any], contexts: Sequence[Context]) -> None:
        """Takes the state back; sums of contexts that this run does not have are added to the total."""
        from trainer._mxnet import mx

        self._newest, self._mean = (), state["newest"]
        self._sums, self._additions, self._total = {}, state["additions"], state["total"]
        known = {str(context): context for context in contexts}
        for held, name in zip(state["sums"], state["contexts"], strict=True):
            if name in known:
                array = mx.nd.array(held, ctx=known[name], dtype=held.dtype)
                self._sums[array.context, array.shape] = array
            else:
                self._total += float(held.sum(dtype="float64"))

    def _flush(self) -> None:
        with waiting:
            self._total += sum(float(held.asnumpy().sum(dtype="float64")) for held in self._sums.values())
        self._sums.clear()
        self._additions = 0


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
