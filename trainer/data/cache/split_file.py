"""The file of a split while it is written: by any number of threads and processes, in any order of the rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trainer.data.cache import blocks
from trainer.data.cache.faults import unwritable
from trainer.data.cache.frame import FileFrame, frame_of
from trainer.data.cache.layout import Layout, Span, spans
from trainer.data.cache.manifest import DATA, SUMS, WRITTEN, SplitEntry
from trainer.data.cache.reserve import read_at, reserve, write_at
from trainer.data.checksum import checksum_of
from trainer.errors import TrainerError, UsageError


class Encoded(Protocol):
    """Encoded rows: features (n, d) and labels, weights (n,), and ids (n, k) if the layout has them."""

    @property
    def features(self) -> NDArray[Any]:
        """Numbers (n, d)."""

    @property
    def ids(self) -> NDArray[Any] | None:
        """Row numbers in tables of weights (n, k)."""

    @property
    def labels(self) -> NDArray[Any] | None:
        """Labels (n,)."""

    @property
    def weights(self) -> NDArray[Any] | None:
        """Weights (n,)."""


class SplitFile:
    """One split in the folder of a cache that is being built."""

    def __init__(self, folder: Path, split: str, rows: int, layout: Layout, mark: str) -> None:
        self.split = split
        self.rows = rows
        self.layout = layout
        self.frame: FileFrame = frame_of(layout, rows, mark=f"{mark} {split}")
        self.spans: Sequence[Span] = list(spans(layout, rows, len(self.frame.head)))
        self._paths = [folder / f"{split}{end}" for end in (DATA, SUMS, WRITTEN)]
        self._open: list[int] = []

    @property
    def size(self) -> int:
        """The bytes that the split takes on the disk."""
        return self.frame.size + 8 * blocks.count(self.rows, self.layout.block_rows)

    def create(self) -> None:
        """Creates the files and reserves their room. Raises OSError."""
        self._open_files(os.O_CREAT | os.O_EXCL)
        data, sums, _ = self._open
        for descriptor, size in ((data, self.frame.size), (sums, self.size - self.frame.size)):
            reserve(descriptor, size, folder=self._paths[0].parent)
        write_at(data, self.frame.head, 0)
        write_at(data, self.frame.tail, self.frame.size - len(self.frame.tail))

    def attach(self) -> None:
        """Opens the files that another process has created. Raises OSError, and TrainerError if they do not fit."""
        self._open_files(0)
        data = self._open[0]
        begins = read_at(data, len(self.frame.head), 0) == self.frame.head
        if not begins or os.fstat(data).st_size != self.frame.size:
            self.close()
            raise TrainerError(f"{self._paths[0]} was not created for {self.rows} rows of {self.layout}")

    def _open_files(self, flags: int) -> None:
        for path, more in zip(self._paths, (0, 0, os.O_APPEND), strict=True):
            self._open.append(os.open(path, os.O_RDWR | os.O_CLOEXEC | flags | more, 0o666))

    def write(self, first: int, rows: Encoded) -> None:
        """Writes rows from the number `first` on. Raises OSError, and UsageError for what float16 cannot hold."""
        columns = self._columns(first, rows)
        data, sums, written = self._open
        end = first + len(columns[-1])
        if end == first:
            return
        for span, values in zip(self.spans, columns, strict=True):
            write_at(data, values, span.offset + first * span.row_bytes)
        size = self.layout.block_rows
        whole = blocks.within(first, end, self.rows, size)
        if whole:
            starts = [block * size - first for block in whole]
            found = [blocks.sum_of(values[start : start + size] for values in columns) for start in starts]
            write_at(sums, np.array(found, "<u8"), 8 * whole[0])
        # A few bytes are appended at once, between those of other processes.
        os.write(written, np.array([first, end], "<i8").tobytes())

    def _columns(self, first: int, rows: Encoded) -> list[NDArray[Any]]:
        """The values of each column as they are stored. Raises TrainerError if their shapes are wrong."""
        count = len(rows.features if self.layout.width or rows.labels is None else rows.labels)
        if first < 0 or first + count > self.rows:
            raise TrainerError(f"rows {first} to {first + count} of {self.rows} {self.split} rows do not exist")
        found = []
        for span in self.spans:
            values = getattr(rows, span.name)
            shape = None if values is None else values.shape
            if values is None or shape != (count, *span.shape[1:]):
                raise TrainerError(
                    f"{span.name} of {count} {self.split} rows have the shape {shape}, not {(count, *span.shape[1:])}"
                )
            if span.kind.kind == "f" and span.kind.itemsize < values.dtype.itemsize:
                values = self._narrowed(values, span, first)
            found.append(np.ascontiguousarray(values, span.kind))
        return found

    def _narrowed(self, values: NDArray[Any], span: Span, first: int) -> NDArray[Any]:
        with np.errstate(over="ignore", under="ignore"):
            narrow = values.astype(span.kind)
        lost = np.argwhere(np.isinf(narrow) & np.isfinite(values))
        if len(lost):
            row = int(lost[0][0])
            raise UsageError(
                f"{values[tuple(lost[0])]:g} is beyond what {span.kind.name} holds, ±{np.finfo(span.kind).max:g},",
                where=f"the {blocks.WORDS.get(self.split, self.split)} rows",
                row=first + row + 1,
                fix="Keep the features in float32, or standardise them.",
            )
        return narrow

    def complete(self) -> SplitEntry:
        """Adds what is missing of the checksums, and waits until all is on the disk.

        Raises OSError, and TrainerError if rows were not written, or twice.
        """
        data, sums, written = self._open
        known = self._known(read_at(written, os.fstat(written).st_size, 0))
        size, begin = self.layout.block_rows, len(self.frame.head)
        for block in sorted(set(range(blocks.count(self.rows, size))) - known):
            first = block * size
            found = blocks.stored_sum(data, self.spans, first, min(size, self.rows - first))
            write_at(sums, np.array([found], "<u8"), 8 * block)
        stored = np.frombuffer(read_at(sums, os.fstat(sums).st_size, 0), "<u8")
        os.fsync(data)
        os.fsync(sums)
        self._paths[2].unlink()
        return SplitEntry(
            rows=self.rows,
            width=self.layout.width,
            ids=self.layout.ids,
            weighted=self.layout.weighted,
            half=self.layout.half,
            bytes=self.frame.size,
            begin=begin,
            end=self.frame.size - len(self.frame.tail),
            frame=blocks.frame_sum(self.frame.head, self.frame.tail),
            sums=checksum_of(stored),
        )

    def _known(self, written: bytes) -> set[int]:
        """The blocks with a checksum. Raises TrainerError unless each row was written once."""
        reached, known = 0, set[int]()
        for first, end in sorted(np.frombuffer(written, "<i8").reshape(-1, 2).tolist()):
            if first != reached:
                what = "were not written" if first > reached else "were written twice"
                low, high = sorted((first, reached))
                raise TrainerError(f"rows {low} to {min(high, max(end, first))} of the {self.split} rows {what}")
            known.update(blocks.within(first, end, self.rows, self.layout.block_rows))
            reached = end
        if reached < self.rows:
            raise TrainerError(f"rows {reached} to {self.rows} of the {self.split} rows were not written")
        return known

    def refused(self, error: OSError, needed: int, taken: int) -> Exception:
        """The disk's error as the user should see it, after the room of this file is free again."""
        folder = self._paths[0].parent
        self.close()
        for path in self._paths:
            path.unlink(missing_ok=True)
        return unwritable(error, folder.parent, needed, taken)

    def close(self) -> None:
        """Closes the files."""
        while self._open:
            os.close(self._open.pop())
