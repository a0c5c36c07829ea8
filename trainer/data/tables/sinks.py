"""Where encoded rows go: arrays in memory, or what another room of the package makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from trainer.data.tables.schema import Rows


@dataclass(frozen=True)
class Layout:
    """What an encoded row consists of: `width` features, `ids`, a label, and a weight if it is `weighted`."""

    width: int
    ids: int
    weighted: bool
    dense: bool = True
    """Whether most features are not 0."""

    @property
    def row_bytes(self) -> int:
        """The memory of a row: numbers of four bytes."""
        return 4 * (self.width + self.ids + 1 + self.weighted)


class Sink(Protocol):
    """Takes the encoded rows of splits. `write` may be called in any order of the rows, and from any thread."""

    def open(self, split: str, rows: int, layout: Layout) -> None:
        """A split of so many rows is going to be written."""

    def write(self, split: str, first: int, rows: Rows) -> None:
        """Rows of a split, from its row number `first` on. They always have labels."""

    def close(self) -> Mapping[str, Rows]:
        """Everything was written: the rows of each split, in memory or mapped from files."""


@runtime_checkable
class InPlace(Protocol):
    """A sink whose memory is encoded into, so that nothing is copied."""

    def place(self, split: str, first: int, count: int) -> Rows:
        """The memory of some rows of a split; features are 0 unless the layout is dense."""


class MemorySink:
    """Arrays in memory."""

    def __init__(self) -> None:
        self._rows: dict[str, Rows] = {}

    def open(self, split: str, rows: int, layout: Layout) -> None:
        # Rows of many zeros are not touched in whole. Others are written over memory that is not zero yet, which comes
        # from the system in large pages and costs less.
        make = np.empty if layout.dense else np.zeros
        self._rows[split] = Rows(
            make((rows, layout.width), np.float32),
            np.empty(rows, np.float32),
            np.empty(rows, np.float32) if layout.weighted else None,
            {},
            ids=np.empty((rows, layout.ids), np.int32) if layout.ids else None,
        )

    def place(self, split: str, first: int, count: int) -> Rows:
        """The memory of some rows of a split."""
        return self._rows[split].part(slice(first, first + count))

    def write(self, split: str, first: int, rows: Rows) -> None:
        target = self.place(split, first, len(rows.features))
        target.features[:] = rows.features
        for to, part in ((target.ids, rows.ids), (target.labels, rows.labels), (target.weights, rows.weights)):
            if to is not None and part is not None:
                to[:] = part

    def close(self) -> Mapping[str, Rows]:
        rows, self._rows = self._rows, {}
        return rows
