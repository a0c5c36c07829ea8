"""A user's own source of rows, read block by block: a database, a folder of files, anything with random access."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.addressed import Addressed
from trainer.data.batches import Batch, Share
from trainer.data.blocks import CheckedBlocks
from trainer.data.fingerprint import TableFingerprint
from trainer.data.gather import Layout
from trainer.data.gathered import GatheredBatches, on_context
from trainer.data.near import NearWindows
from trainer.data.order import Order
from trainer.errors import UsageError, type_of

if TYPE_CHECKING:
    from trainer.mxnet import Array, Context


@dataclass(frozen=True, eq=False)
class Streamed(Addressed):
    """A split of rows that your own function reads, block by block, while training runs on the blocks before.

    `read(start, stop)` returns the rows from number `start` to `stop` (exclusive), always the same ones: (features,
    labels) or (features, labels, weights), numpy arrays with the rows along the first axis; features are a tuple for a
    net with several inputs. Floating-point and boolean features, labels and weights become float32; integer features
    stay integers. All numbers have to be finite.

    `read` is asked for one block of `block_rows` at a time, in a thread; the last block may be shorter. Blocks are
    visited in the order `windows`, and two windows are in memory. With several processes, each of them reads all
    blocks. `name` appears in messages. `version` says which data these are: a run is only resumed with the same one,
    and with the same values in the first, the middle and the last block.

    Raises UsageError for sizes that are not numbers of rows.
    """

    read: Callable[[int, int], Any]
    _: KW_ONLY
    rows: int
    block_rows: int
    name: str = "the rows"
    version: Any = None

    def __post_init__(self) -> None:
        if not callable(self.read):
            raise UsageError(
                f"read is {type_of(self.read)}, not a function",
                where=f"Streamed, {self.name}",
                fix="Give a function of (start, stop) that returns (features, labels) of these rows.",
            )
        for name in ("rows", "block_rows"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise UsageError(
                    f"{name} is {value!r}, not a number of rows",
                    where=f"Streamed, {self.name}",
                    fix="Give an integer of 1 or more.",
                )
            object.__setattr__(self, name, int(value))

    def __len__(self) -> int:
        return self.rows

    @cached_property
    def blocks(self) -> CheckedBlocks:
        """The blocks, of which the first is read here."""
        return CheckedBlocks(self.read, self.rows, self.block_rows, self.name)

    @property
    def row_bytes(self) -> int:
        return sum(array[:1].nbytes for array in self.blocks.first)

    @property
    def own_block_rows(self) -> int | None:
        return self.block_rows

    def fingerprint(self) -> TableFingerprint | None:
        """Reads the first, the middle and the last block."""
        about = {"version": str(self.version), "block_rows": str(self.block_rows)}
        return TableFingerprint(self.rows, {**about, **self.blocks.checksums()})


class StreamedBatches(GatheredBatches):
    """Batches of `Streamed` rows: in the order of windows, or, without `shuffle`, block after block."""

    def __init__(
        self,
        source: Streamed,
        *,
        batch_size: int,
        contexts: Sequence[Context],
        shuffle: bool,
        order: Order,
        share: Share | None = None,
        epochs: int | None = None,
        staged: bool = False,
    ) -> None:
        from trainer.host_memory import is_host

        self._blocks = blocks = source.blocks
        super().__init__(
            source.rows,
            [Layout(tuple(array.shape[1:]), array.dtype) for array in blocks.first],
            batch_size=batch_size,
            contexts=contexts,
            order=order,
            epochs=epochs,
            shuffle=shuffle,
            weighted=blocks.weighted,
            share=share,
            held=NearWindows(blocks, order) if shuffle else None,
            staged=staged or not all(map(is_host, contexts)),
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="read")

    def sample(self) -> tuple[Array, ...]:
        """The first row of each input on the first context, (1, …)."""
        first = self._blocks.first[: self._inputs]
        return tuple(on_context(array[:1], self._contexts[0], array.dtype) for array in first)

    def _in_order(self, skip: int) -> Iterator[Batch]:
        pieces = self._pieces(skip * self._size)
        for start in range(skip * self._size, self.rows, self._size):
            size = min(self._size, self.rows - start)
            columns = pieces.take(size)
            begin, counts = self._share.of(size)
            shards, first = [], begin
            for context, rows in zip(self._contexts, counts, strict=True):
                parts = [on_context(each[first : first + rows], context, each.dtype) for each in columns if rows]
                shards.append(self._shard(context, parts, rows))
                first += rows
            yield Batch(tuple(shards), size, np.arange(start + begin, start + first))

    def _pieces(self, start: int) -> _Pieces:
        return _Pieces(self._blocks, self._thread, start)


class _Pieces:
    """Rows in their order from `start` on, in memory of their own; the next block is read meanwhile."""

    def __init__(self, blocks: CheckedBlocks, thread: ThreadPoolExecutor, start: int) -> None:
        self._blocks = blocks
        self._thread = thread
        self._next, self._skip = divmod(start, blocks.block_rows)
        self._reading: Future[list[NDArray[Any]]] | None = None
        self._held: list[list[NDArray[Any]]] = []
        self._rows = 0
        self._read()

    def take(self, rows: int) -> list[NDArray[Any]]:
        """The next rows, a column each."""
        while self._rows < rows:
            assert self._reading is not None  # noqa: S101  there are as many rows as are asked for
            arrays = [array[self._skip :] for array in self._reading.result()]
            self._skip = 0
            self._held.append(arrays)
            self._rows += len(arrays[0])
            self._read()
        columns = [_joined(parts) for parts in zip(*self._held, strict=True)]
        self._held = [[column[rows:] for column in columns]]
        self._rows -= rows
        return [column[:rows] for column in columns]

    def _read(self) -> None:
        """Starts to read the next block, if one is left."""
        self._reading = None
        if self._next < self._blocks.count:
            self._reading = self._thread.submit(self._blocks.copy, self._next)
            self._next += 1


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    whole = [part for part in parts if len(part)]
    return whole[0] if len(whole) == 1 else np.concatenate(parts)


__all__ = ["Streamed"]
