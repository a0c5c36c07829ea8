"""The columns of a split as numpy arrays over its file, which is mapped and never copied."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.cache.blocks import frame_sum
from trainer.data.cache.faults import Damaged
from trainer.data.cache.layout import Layout, Span, spans
from trainer.data.cache.locks import Lock
from trainer.data.cache.manifest import DATA, SplitEntry
from trainer.data.cache.reserve import read_at

PIECE = 128 << 10
"""For one call Linux reads at most its read-ahead size, usually 128 KiB, and ignores the rest of the range."""


class _Mapped(mmap.mmap):
    """A mapped file. Arrays over it keep it, and it keeps the lock, so a cache is in use as long as an array is."""

    lock: Lock
    file: int

    def __del__(self) -> None:
        with suppress(OSError, AttributeError):
            os.close(self.file)


class MappedColumns:
    """The rows of a split: features (n, d), ids (n, k) or None, labels (n,), and weights (n,) or None; read-only."""

    def __init__(self, path: Path, entry: SplitEntry, lock: Lock) -> None:
        self.rows = entry.rows
        self.layout: Layout = entry.layout
        self.spans: list[Span] = list(spans(entry.layout, entry.rows, entry.begin))
        self._mapped = _mapped(path, entry, lock)
        found = {span.name: self._view(span) for span in self.spans}
        none = np.empty((self.rows, 0), np.float16 if entry.half else np.float32)
        self.features: NDArray[Any] = found.get("features", none)
        self.ids: NDArray[np.int32] | None = found.get("ids")
        self.labels: NDArray[np.float32] = found["labels"]
        self.weights: NDArray[np.float32] | None = found.get("weights")

    def _view(self, span: Span) -> NDArray[Any]:
        size = int(np.prod(span.shape))
        return np.frombuffer(self._mapped, span.kind, size, span.offset).reshape(span.shape)

    @property
    def descriptor(self) -> int:
        """The open file."""
        return self._mapped.file

    def prefetch(self, start: int, stop: int) -> None:
        """Asks the system to read rows from the disk ahead of their use, and does not wait for them."""
        start, stop = max(start, 0), min(stop, self.rows)
        for span in self.spans if stop > start else ():
            first, end = span.offset + start * span.row_bytes, span.offset + stop * span.row_bytes
            # The pieces begin with pages, as madvise wants them.
            for at in range(first - first % mmap.ALLOCATIONGRANULARITY, end, PIECE):
                _advise(self._mapped, at, min(PIECE, end - at))


def _advise(mapped: _Mapped, at: int, size: int) -> None:
    # Both calls do the same, but Python holds its lock during the second one.
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(mapped.file, at, size, os.POSIX_FADV_WILLNEED)
    else:
        mapped.madvise(mmap.MADV_WILLNEED, at, size)


def _mapped(path: Path, entry: SplitEntry, lock: Lock) -> _Mapped:
    """Maps the file once it is known to be as it was written, except for the rows. Raises Damaged."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Damaged(f"{path.name} cannot be opened: {error.strerror or error}") from error
    try:
        size = os.fstat(file).st_size
        # Beyond the end of its file a mapping ends the process, so this comes first.
        if size != entry.bytes or not 0 < entry.begin <= entry.end <= size:
            raise Damaged(f"{path.name} has {size:,} bytes instead of {entry.bytes:,}")
        last = max(span.offset + span.rows * span.row_bytes for span in spans(entry.layout, entry.rows, entry.begin))
        if last > entry.end:
            raise Damaged(f"{path.name} is too short for {entry.rows} rows")
        if frame_sum(read_at(file, entry.begin, 0), read_at(file, size - entry.end, entry.end)) != entry.frame:
            raise Damaged(f"{path.name} is another file")
        mapped = _Mapped(file, 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    except BaseException as error:
        os.close(file)
        if isinstance(error, OSError):
            raise Damaged(f"{path.name} cannot be mapped: {error.strerror or error}") from error
        raise
    mapped.file, mapped.lock = file, lock
    return mapped


def open_columns(folder: Path, splits: Mapping[str, SplitEntry], lock: Lock) -> dict[str, MappedColumns]:
    """The columns of all splits. Raises Damaged."""
    return {split: MappedColumns(folder / f"{split}{DATA}", entry, lock) for split, entry in splits.items()}
