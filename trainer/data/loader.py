"""A Gluon DataLoader as Batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.data.batches import Batch, Shard, Share
from trainer.errors import UsageError
from trainer.seeds import derive

if TYPE_CHECKING:
    from trainer.mxnet import Array, Context


class LoaderBatches:
    """Batches from a `gluon.data.DataLoader` that yields (data, label) or (data, label, weight).

    The loader determines batch size and order. It shuffles with numpy's global generator, which is seeded from (seed,
    epoch) at the start of every epoch, so runs are reproducible. With several processes, each loads whole batches and
    computes its rows of them.
    """

    def __init__(self, loader: Any, *, contexts: Sequence[Context], seed: int, share: Share | None = None) -> None:
        self._loader = loader
        self._contexts = list(contexts)
        self._share = share or Share(len(self._contexts))
        self._seed = seed
        self._left_over: tuple[int, list[Any]] = (1, [])
        # The net's shapes come from this batch, so it must be the same in every run and process.
        np.random.seed(derive(seed, "order", 0))  # noqa: NPY002  see epoch()
        first = next(iter(loader), None)
        if first is None:
            raise UsageError("the DataLoader yields no batch", where="the task's splits()")
        if not isinstance(first, (list, tuple)) or len(first) not in (2, 3):
            raise UsageError(
                f"the DataLoader yields {type(first).__name__} of {len(first) if hasattr(first, '__len__') else 1}",
                where="the task's splits()",
                fix="A batch is (data, label) or (data, label, weight).",
            )
        _check(first)
        self.weighted = len(first) == 3
        self.batch_size = int(first[1].shape[0])
        """The rows of the first batch."""
        self._sample = tuple(part[0:1] for part in _inputs(first[0]))

    @property
    def rows(self) -> int | None:
        """Unknown: a batch sampler may skip rows."""
        return None

    @property
    def batches_per_epoch(self) -> int | None:
        """The loader's length; None if it has none."""
        try:
            return len(self._loader)
        except (TypeError, NotImplementedError):
            return None

    def sample(self) -> tuple[Array, ...]:
        return tuple(_moved(part, 0, 1, self._contexts[0]) for part in self._sample)

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """The batches of an epoch without the first `skip`, which are loaded and discarded."""
        self._roll_over(epoch)
        # DataLoader(shuffle=True) draws from the legacy generator.
        np.random.seed(derive(self._seed, "order", epoch))  # noqa: NPY002
        for number, parts in enumerate(self._loader):
            if number >= skip:
                yield self._batch(parts)

    def _roll_over(self, epoch: int) -> None:
        """With `last_batch="rollover"`, gives the sampler the rows that the epochs before would have left over.

        So an epoch's batches depend on the seed and its number, also if the epoch before ended early or was trained
        by another process.
        """
        loader = getattr(self._loader, "source", self._loader)
        sampler: Any = getattr(loader, "_batch_sampler", None)
        if getattr(sampler, "_last_batch", "") != "rollover":
            return
        at, held = self._left_over if self._left_over[0] <= epoch else (1, [])
        for earlier in range(at, epoch):
            np.random.seed(derive(self._seed, "order", earlier))  # noqa: NPY002  as in `epoch`
            held = [*held, *sampler._sampler]  # noqa: SLF001  Gluon's class has no public way to its state
            held = held[len(held) - len(held) % sampler._batch_size :]  # noqa: SLF001
        self._left_over = epoch, held
        sampler._prev = list(held)  # noqa: SLF001

    def _batch(self, parts: Sequence[Any]) -> Batch:
        inputs, label = _inputs(parts[0]), parts[1]
        weight = parts[2] if self.weighted else None
        total = int(label.shape[0])
        start, counts = self._share.of(total)
        shards = []
        for context, rows in zip(self._contexts, counts, strict=True):
            if rows == 0:
                shards.append(Shard(context, (), None, None, 0))
                continue
            end = start + rows
            shards.append(
                Shard(
                    context,
                    tuple(_moved(part, start, end, context) for part in inputs),
                    _moved(label, start, end, context),
                    None if weight is None else _moved(weight, start, end, context),
                    rows,
                )
            )
            start = end
        return Batch(tuple(shards), total, None)


def _inputs(data: Any) -> tuple[Any, ...]:
    return tuple(data) if isinstance(data, (list, tuple)) else (data,)


def _check(parts: Sequence[Any]) -> None:
    """Raises UsageError unless the parts of a batch are NDArrays with the same number of rows."""
    arrays = [*_inputs(parts[0]), *parts[1:]]
    for array in arrays:
        if not hasattr(array, "as_in_context"):
            raise UsageError(
                f"the DataLoader yields a {type(array).__name__}, not an NDArray",
                where="the task's splits()",
                fix="Convert it with mx.nd.array in the loader's batchify_fn.",
            )
    lengths = sorted({int(array.shape[0]) for array in arrays})
    if len(lengths) > 1:
        raise UsageError(
            f"the parts of a batch have different numbers of rows: {', '.join(map(str, lengths))}",
            where="the task's splits()",
        )
    if len(parts) == 3 and parts[2].size != lengths[0]:
        raise UsageError(f"its weights have shape {parts[2].shape}, not one per row", where="the task's splits()")


def _moved(part: Array, start: int, end: int, context: Context) -> Array:
    """Rows start to end on the context. With workers the arrays are in cpu_shared memory, which nets do not accept."""
    part = part if (start, end) == (0, part.shape[0]) else part[start:end]
    part = part.as_in_context(context)
    return part.astype("float32") if part.dtype in (np.float64, np.float16) else part
