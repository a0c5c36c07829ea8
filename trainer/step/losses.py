"""The training loss of the latest batch and of the epoch, summed on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainer.device_time import waiting
from trainer.errors import UsageError

if TYPE_CHECKING:
    from trainer.mxnet import Array, Context

FLUSH_EVERY = 512
"""After this many additions the sums move to the host as float64. In float32, rounding errors would grow with the
epoch's length; reading waits for the device, so it must stay rare."""


class _Sum:
    """The summed losses of batches of one size on one context."""

    __slots__ = ("add", "empty", "total")

    def __init__(self, losses: Array) -> None:
        from trainer.step.calls import Call

        self.total: Array = losses.copy()
        self.add = Call("broadcast_add", [self.total, losses], self.total)
        self.empty = False


class TrainingLoss:
    """The losses of the latest batch, and their sum over an epoch, collected without waiting for the device.

    Costs one addition per step and context; reading the values waits.
    """

    def __init__(self, contexts: Sequence[Context]) -> None:
        self._contexts = list(contexts)
        self._names = [_nth(self._contexts, number) for number in range(len(self._contexts))]
        self._newest: Sequence[Array] = ()
        self._mean: float | None = float("nan")
        self._rows = 0
        self._sums: dict[tuple[int, int], _Sum] = {}
        self._additions = 0
        self._total = 0.0

    def add(self, losses: Sequence[Array], rows: Sequence[int]) -> None:
        """Takes a batch's losses: one array (rows,) per context with rows; `rows` counts them for every context."""
        self._newest, self._rows, self._mean = losses, sum(rows), None
        parts = iter(losses)
        for number, count in enumerate(rows):
            if count == 0:
                continue
            part = next(parts)
            held = self._sums.get((number, count))
            if held is None:
                self._sums[number, count] = _Sum(part)
            elif held.empty:
                part.copyto(held.total)
                held.empty = False
            else:
                held.add.on(1, part)
            self._additions += 1
        if self._additions >= FLUSH_EVERY:
            self._flush()

    def newest(self) -> float:
        """The mean loss of the latest batch; NaN before the first. Waits for the device, once per batch."""
        if self._mean is None:
            with waiting:
                self._mean = sum(float(part.asnumpy().sum(dtype="float64")) for part in self._newest) / self._rows
        return self._mean

    @property
    def by_row(self) -> Sequence[Array]:
        """The losses of the latest batch, one array (rows,) per context with rows; does not wait."""
        return self._newest

    def take_sum(self) -> float:
        """The sum of the losses of all rows since the last call. Waits for the device."""
        self._flush()
        total, self._total = self._total, 0.0
        return total

    def state_dict(self) -> dict[str, Any]:
        """The separate sums: adding them up here would round differently from a run that is not saved."""
        sums = {key: held for key, held in self._sums.items() if not held.empty}
        return {
            "newest": self.newest(),
            "sums": [held.total.asnumpy() for held in sums.values()],
            "contexts": [self._names[number] for number, _ in sums],
            "additions": self._additions,
            "total": self._total,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state; sums of contexts that this run does not have are added to the total."""
        from trainer.mxnet import mx

        self._newest, self._mean = (), state["newest"]
        self._sums, self._additions, self._total = {}, state["additions"], state["total"]
        numbers = {name: number for number, name in enumerate(self._names)}
        for held, name in zip(state["sums"], state["contexts"], strict=True):
            if name in numbers:
                number = numbers[name]
                array = mx.nd.array(held, ctx=self._contexts[number], dtype=held.dtype)
                self._sums[number, len(held)] = _Sum(array)
            else:
                self._total += float(held.sum(dtype="float64"))

    def _flush(self) -> None:
        held = [each for each in self._sums.values() if not each.empty]
        with waiting:
            self._total += sum(float(each.total.asnumpy().sum(dtype="float64")) for each in held)
        for each in held:
            each.empty = True
        self._additions = 0


def _nth(contexts: Sequence[Context], number: int) -> str:
    """A part's name: its context and, from the context's second part on, the part number."""
    before = sum(context == contexts[number] for context in contexts[:number])
    return f"{contexts[number]}/{before}" if before else str(contexts[number])


def column(weights: Any, axes: int) -> Any:
    """Weights (rows,) or (rows, 1) as (rows, 1, …), with as many axes as the outputs.

    Gluon's losses multiply them with the loss of each output before averaging over a row. (rows,) times (rows, 1) would
    broadcast to (rows, rows), and silently give every row the weights of all.
    """
    return weights.reshape((-1,) + (1,) * (axes - 1))


def check_rows(losses: Array, rows: int) -> None:
    """Raises UsageError unless the loss returned one value per row, which weighting batches by their rows requires."""
    if losses.shape != (rows,):
        raise UsageError(
            f"the loss returns shape {losses.shape} for {rows} rows",
            where="the task's loss()",
            fix=f"Return one value per row, shape ({rows},): average over the other axes, not over the rows.",
        )
