"""What mixup and cutmix compute with: the orders of a block of steps, and the mixing of a shard's columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.seeds import derive

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.data import Shard
    from trainer.mxnet import Array

BLOCK = 64
"""Steps whose random numbers are drawn, and moved to the device, together."""


class Orders:
    """Shares and permutations of a batch's rows, one of each for every step of a block."""

    def __init__(self, rows: int, seed: int, name: str) -> None:
        self._rows, self._seed, self._name = rows, seed, name
        self._block = -1
        self._shares: Sequence[float] = ()
        self.host = np.empty((BLOCK, rows), np.int32)
        self._on: dict[str, tuple[list[int], Array, list[Array]]] = {}

    def draw(self, block: int, shares: Sequence[float]) -> None:
        """Draws the permutations of a block, whose shares are given."""
        if block != self._block:
            self._block, self._shares = block, shares
            generator = np.random.default_rng(derive(self._seed, self._name, block, self._rows))
            self.host = generator.permuted(np.tile(np.arange(self._rows, dtype=np.int32), (BLOCK, 1)), axis=1)

    def on(self, context: Any, place: int) -> Array:
        """The share and the permutation of a step in one array, on a device. Overwritten by the next block's."""
        from trainer.mxnet import mx

        held = self._on.get(str(context))
        if held is None:
            array = mx.nd.empty((BLOCK, 1 + self._rows), ctx=context)
            held = self._on[str(context)] = ([-1], array, [array[number] for number in range(BLOCK)])
        block, array, places = held
        if block[0] != self._block:
            block[0] = self._block
            both = np.column_stack([self._shares, self.host]).astype(np.float32)
            mx.nd.array(both, ctx=context).copyto(array)
        return places[place]


class Mixer:
    """Mixes the columns of one shard with those of the partners, by one symbol bound to arrays of its own.

    The first `masked` columns are not mixed. With `takes`, the partners are rows of the same arrays, and order and
    share come in one array.
    """

    def __init__(self, arrays: Sequence[Array], *, masked: int, takes: bool) -> None:
        from trainer.calls import Call, Executor
        from trainer.mxnet import mx

        context = arrays[0].context
        used = [number for number in range(len(arrays)) if takes or number >= masked]
        given = {f"own{number}": arrays[number].copy() for number in used}
        self._load = [(number, _copy_into(given[f"own{number}"])) for number in used]
        self._load_others: list[tuple[int, Any]] = []
        if takes:
            given["order"] = order_held = mx.nd.zeros(1 + arrays[0].shape[0], ctx=context)
            self._set_order = _copy_into(order_held)
        else:
            given |= {f"other{number}": arrays[number].copy() for number in used}
            self._load_others = [(number, _copy_into(given[f"other{number}"])) for number in used]
        # With a mask, its area says how much of the label stays.
        has_share = masked or not takes
        if has_share:
            given["share"] = share_held = mx.nd.zeros(1, ctx=context)
        self._set_share = Call("_set_value", [], share_held, src=0.0) if has_share else None
        both, share = mx.sym.var("order"), mx.sym.var("share")
        order = mx.sym.slice_axis(both, axis=0, begin=1, end=None)
        if not has_share:
            share = mx.sym.slice_axis(both, axis=0, begin=0, end=1)
        outputs = []
        for number in used:
            own = mx.sym.var(f"own{number}")
            other = mx.sym.take(own, order) if takes else mx.sym.var(f"other{number}")
            if number >= masked:
                part = mx.sym.cast(share, dtype=arrays[number].dtype)
                other = mx.sym.broadcast_mul(own, part) + mx.sym.broadcast_mul(other, 1 - part)
            outputs.append(other)
        self._executor = Executor(mx.sym.Group(outputs).bind(context, args=given, grad_req="null"))
        self._missing = len(arrays) - len(used)

    def load(self, arrays: Sequence[Array], others: Sequence[Array]) -> None:
        """Takes a batch, and the rows of the partners if they come from elsewhere."""
        for number, copy in self._load:
            copy.on(0, arrays[number])
        for number, copy in self._load_others:
            copy.on(0, others[number])

    def __call__(self, order: Array | None, share: float) -> list[Any]:
        """For each column share · own + (1 - share) · other, overwritten by the next call.

        For masked columns the partners, or None if they come from elsewhere.
        """
        if order is not None:
            self._set_order.on(0, order)
        if self._set_share is not None:
            self._set_share.having(share)
        self._executor.forward()
        return [None] * self._missing + self._executor.outputs


class HostMixer:
    """Mixes the columns of a shard, to the bit as `Mixer`, by numpy: the step of a small net takes no other time."""

    def __init__(self, shard: Shard) -> None:
        from trainer.calls import memory_of

        self._held = [array.copy() for array in shard.arrays]
        self._memory = tuple(map(memory_of, self._held))
        self._own = [np.empty_like(memory) for memory in self._memory]

    def __call__(self, shard: Shard, order: NDArray[np.int32], share: float) -> Shard:
        from trainer.calls import wait_for_all

        wait_for_all()
        part = np.float32(share)
        for column, mixed, own in zip(shard.memory, self._memory, self._own, strict=True):
            np.take(column, order, 0, mixed, "clip")
            np.multiply(mixed, np.float32(1) - part, mixed)
            np.multiply(column, part, own)
            np.add(own, mixed, mixed)
        count = len(shard.inputs)
        inputs, (label, *weight) = tuple(self._held[:count]), self._held[count:]
        return shard.having(inputs, label, weight[0] if weight else None, memory=self._memory)


def _copy_into(held: Array) -> Any:
    """A call whose `on(0, array)` copies another array into this one."""
    from trainer.calls import Call

    return Call("_copyto", [held], held)


def where(mask: Any, own: Array, other: Array) -> Array:
    """The elements of `other` where the mask is 1, elsewhere those of `own`."""
    from trainer.mxnet import mx

    there = mx.nd.array(mask, ctx=own.context, dtype=own.dtype)
    return mx.nd.where(mx.nd.broadcast_like(there, own), other, own)
