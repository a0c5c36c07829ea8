"""The training loss of the latest batch and of the epoch, summed on the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.device_time import waiting
from trainer.errors import UsageError

if TYPE_CHECKING:
    from trainer.mxnet import Array, Context
    from trainer.step.closed_form import Floats, Lean

FLUSH_EVERY = 512
"""After this many additions the sums move to the host as float64. In float32, rounding errors would grow with the
epoch's length; reading waits for the device, so it must stay rare."""
KEPT_BATCHES, KEPT_BYTES = 64, 1 << 17
"""The largest buffer of batches whose losses are computed together. Larger ones do not stay in a core's cache, and the
loss of a row takes three times as long."""


class _Sum:
    """The summed losses of batches of one size on one context."""

    __slots__ = ("add", "empty", "total")

    def __init__(self, losses: Array) -> None:
        from trainer.calls import Call

        self.total: Array = losses.copy()
        self.add = Call("broadcast_add", [self.total, losses], self.total)
        self.empty = False


class _Kept:
    """Outputs, labels and weights of batches of one size on one context, whose losses are computed many at once.

    There are two buffers: the device fills one while the losses of the other are computed.
    """

    __slots__ = ("_buffers", "_calls", "_current", "_is_other_full", "_lean", "_place", "_places", "_rows", "total")

    def __init__(self, parts: Sequence[Array], rows: int, lean: Lean) -> None:
        from trainer.calls import Call
        from trainer.mxnet import mx

        batches = max(1, min(KEPT_BATCHES, KEPT_BYTES // sum(4 * part.size for part in parts)))
        self._buffers = [
            [mx.nd.empty((batches, *part.shape), ctx=part.context, dtype=part.dtype) for part in parts]
            for _ in range(2)
        ]
        self._places = [[[each[number] for each in buffer] for number in range(batches)] for buffer in self._buffers]
        self._calls = [Call("_copyto", [part], part) for part in parts]
        self._rows, self._lean = rows, lean
        self._current = self._place = 0
        self._is_other_full = False
        self.total = 0.0
        """The batches are added one after another, so it does not matter when their losses are computed."""

    def add(self, parts: Sequence[Array]) -> None:
        """Copies what a batch has left. If the buffer is full, computes the losses of the other one first."""
        places = self._places[self._current]
        if self._place == len(places):
            self._collect_other()
            self._is_other_full, self._place, self._current = True, 0, 1 - self._current
            places = self._places[self._current]
        for call, place, part in zip(self._calls, places[self._place], parts, strict=True):
            call.into(place, part)
        self._place += 1

    def collect(self) -> None:
        """Computes the losses of all batches so far. Waits for the device."""
        self._collect_other()
        self._take(self._buffers[self._current], self._place)
        self._place = 0

    def _collect_other(self) -> None:
        if self._is_other_full:
            other = self._buffers[1 - self._current]
            self._take(other, len(other[0]))
            self._is_other_full = False

    def _take(self, buffer: Sequence[Array], batches: int) -> None:
        if batches:
            with waiting:
                kept = [each.asnumpy()[:batches] for each in buffer]
            for total in _sums(kept, self._rows, self._lean):
                self.total += total


class _KeptOnHost:
    """The same for batches that numpy computed."""

    __slots__ = ("_buffers", "_lean", "_place", "_places", "_rows", "total")

    def __init__(self, parts: Sequence[Floats], rows: int, lean: Lean) -> None:
        batches = max(1, min(KEPT_BATCHES, KEPT_BYTES // sum(part.nbytes for part in parts)))
        self._buffers = [np.empty((batches, *part.shape), part.dtype) for part in parts]
        self._places = [list(buffer) for buffer in zip(*self._buffers, strict=True)]
        self._place = 0
        self._rows, self._lean = rows, lean
        self.total = 0.0

    def add(self, parts: Sequence[Floats]) -> None:
        for place, part in zip(self._places[self._place], parts, strict=True):
            place[...] = part
        self._place += 1
        if self._place == len(self._places):
            self.collect()

    def collect(self) -> None:
        """Computes the losses of all batches so far."""
        if self._place:
            for total in _sums([each[: self._place] for each in self._buffers], self._rows, self._lean):
                self.total += total
            self._place = 0


def _sums(kept: Sequence[Floats], rows: int, lean: Lean) -> list[float]:
    """The summed losses of each batch, from outputs, labels and weights, (batches, …) each."""
    outputs, labels, *weights = lean.split(kept, rows)
    with np.errstate(over="ignore", invalid="ignore"):  # a loss that is not finite is reported when it is logged
        losses = lean.losses(outputs, labels)
        if weights:
            losses = losses * weights[0].reshape(losses.shape)
    sums: list[float] = losses.astype(np.float64).sum(axis=1).tolist()
    return sums


class TrainingLoss:
    """The losses of the latest batch, and their sum over an epoch, collected without waiting for the device.

    Costs one operator per step and context; reading the values waits.
    """

    def __init__(self, contexts: Sequence[Context]) -> None:
        self._contexts = list(contexts)
        self._names = [_nth(self._contexts, number) for number in range(len(self._contexts))]
        self._newest: Sequence[Array] | Callable[[], Sequence[Array]] = ()
        self._mean: float | None = float("nan")
        self._rows = 0
        self._sums: dict[tuple[int, int], _Sum] = {}
        self._additions = 0
        self._total = 0.0
        self._newest_kept: tuple[Sequence[Sequence[Array]], Sequence[int], Lean] | None = None
        self._kept: dict[tuple[int, int], _Kept | _KeptOnHost] = {}
        self._earlier: dict[tuple[int, int], float] = {}
        """The totals of `_kept` in a run that is resumed."""

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

    def keep(
        self, kept: Sequence[Sequence[Array]], rows: Sequence[int], lean: Lean, losses: Callable[[], Sequence[Array]]
    ) -> None:
        """Takes a batch's outputs, labels and weights instead of its losses, which `losses` computes when asked.

        `kept` holds them for each context with rows.
        """
        self._newest, self._rows, self._mean = losses, sum(rows), None
        self._newest_kept = kept, rows, lean
        parts = iter(kept)
        for number, count in enumerate(rows):
            if count:
                part = next(parts)
                held = self._kept.get((number, count))
                if held is None:
                    make = _KeptOnHost if isinstance(part[0], np.ndarray) else _Kept
                    held = self._kept[number, count] = make(part, count, lean)
                    held.total = self._earlier.pop((number, count), 0.0)
                held.add(part)

    def newest(self) -> float:
        """The mean loss of the latest batch; NaN before the first. Waits for the device, once per batch."""
        if self._mean is None:
            with waiting:
                if callable(self._newest) and self._newest_kept is not None:
                    kept, rows, lean = self._newest_kept
                    held = [[on_host(each)[np.newaxis] for each in parts] for parts in kept]
                    counts = filter(None, rows)
                    total = sum(_sums(parts, count, lean)[0] for parts, count in zip(held, counts, strict=True))
                else:
                    total = sum(float(part.asnumpy().sum(dtype="float64")) for part in self.by_row)
            self._mean = total / self._rows
        return self._mean

    @property
    def by_row(self) -> Sequence[Array]:
        """The losses of the latest batch, one array (rows,) per context with rows; does not wait."""
        if callable(self._newest):
            self._newest = self._newest()
        return self._newest

    def take_sum(self) -> float:
        """The sum of the losses of all rows since the last call. Waits for the device."""
        self._flush()
        # fsum does not depend on the order, which differs in a run that was resumed.
        total = math.fsum([self._total, *self._totals().values()])
        self._total, self._earlier = 0.0, {}
        for held in self._kept.values():
            held.total = 0.0
        return total

    def _totals(self) -> dict[tuple[int, int], float]:
        for held in self._kept.values():
            held.collect()
        return {**self._earlier, **{key: held.total for key, held in self._kept.items()}}

    def state_dict(self) -> dict[str, Any]:
        """The separate sums: adding them up here would round differently from a run that is not saved."""
        sums = {key: held for key, held in self._sums.items() if not held.empty}
        return {
            "newest": self.newest(),
            "sums": [held.total.asnumpy() for held in sums.values()],
            "contexts": [self._names[number] for number, _ in sums],
            "additions": self._additions,
            "total": self._total,
            "kept": [
                {"context": self._names[number], "rows": rows, "total": total}
                for (number, rows), total in sorted(self._totals().items())
                if total
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state; sums of contexts that this run does not have are added to the total."""
        from trainer.mxnet import mx

        self._newest, self._mean = (), state["newest"]
        self._sums, self._additions, self._total = {}, state["additions"], state["total"]
        self._kept, self._earlier = {}, {}
        numbers = {name: number for number, name in enumerate(self._names)}
        for held, name in zip(state["sums"], state["contexts"], strict=True):
            if name in numbers:
                number = numbers[name]
                array = mx.nd.array(held, ctx=self._contexts[number], dtype=held.dtype)
                self._sums[number, len(held)] = _Sum(array)
            else:
                self._total += float(held.sum(dtype="float64"))
        for each in state["kept"]:
            if each["context"] in numbers:
                self._earlier[numbers[each["context"]], each["rows"]] = each["total"]
            else:
                self._total += each["total"]

    def _flush(self) -> None:
        held = [each for each in self._sums.values() if not each.empty]
        with waiting:
            self._total += sum(float(each.total.asnumpy().sum(dtype="float64")) for each in held)
        for each in held:
            each.empty = True
        self._additions = 0


def on_host(array: Array) -> Floats:
    """An array of numpy, or the values of an NDArray; waits for the device."""
    held: Floats = array if isinstance(array, np.ndarray) else array.asnumpy()
    return held


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
