"""Rows of several classes that are ranked once per class: in memory, or by columns in a temporary file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.metrics.memory import UNLIMITED, Memory
from trainer.metrics.ranked import Part
from trainer.metrics.sorted_rows import ROW_BYTES, SortedRows
from trainer.metrics.spill import Spill


class ClassPart(NamedTuple):
    """Some rows: scores (rows, classes), class numbers and weights (rows,)."""

    scores: NDArray[Any]
    classes: NDArray[np.int64]
    weights: NDArray[np.float64]


class _Written(NamedTuple):
    """Where a part is in the file: its columns are one after another."""

    offset: int
    rows: int
    columns: int
    dtype: np.dtype[Any]


class ClassRows:
    """Rows whose classes are ranked one at a time, each against the rest."""

    def __init__(self, memory: Memory = UNLIMITED) -> None:
        self._memory = memory
        self._parts: list[ClassPart] = []
        self._kept = 0
        self._file: Spill | None = None
        self._written: list[_Written] = []
        self._present: set[int] = set()
        self._is_weighted = False

    def add(self, part: ClassPart) -> None:
        """Adds rows; their arrays must not change afterwards."""
        if not len(part.classes):
            return
        self._parts.append(part)
        self._present.update(np.unique(part.classes).tolist())
        self._is_weighted |= bool((part.weights != 1).any())
        # Twice, since parts are joined; and the ranking of a class.
        self._kept += 2 * sum(column.nbytes for column in part) + ROW_BYTES * len(part.classes)
        if not self._memory.allows(self._kept):
            self._spill()

    def area(self) -> float:
        """The mean of the areas under the classes' curves against the rest; NaN if fewer than two have rows."""
        if len(self._present) < 2:
            return float("nan")
        if self._file is not None:
            self._spill()
        return float(np.mean([self._area_of(number) for number in sorted(self._present)]))

    def parts(self) -> list[ClassPart]:
        """All rows. Reads those in the file back into memory."""
        return [*map(self._read, self._written), *self._parts]

    def _area_of(self, number: int) -> float:
        rows = SortedRows(self._memory if self._file is not None else UNLIMITED)
        for scores, classes, weights in self._columns(number):
            own = weights if self._is_weighted else None
            rows.add(Part(scores.astype(np.float64), classes == number, own))
        return rows.ranked().roc_auc()

    def _columns(self, number: int) -> Iterator[ClassPart]:
        if self._file is None:
            self._parts = [ClassPart(*(np.concatenate(columns) for columns in zip(*self._parts, strict=True)))]
            scores, classes, weights = self._parts[0]
            yield ClassPart(scores[:, number], classes, weights)
            return
        for written in self._written:
            own = written.offset + number * written.rows * written.dtype.itemsize
            scores = self._file.read(own, written.rows, written.dtype)
            yield ClassPart(scores, *self._labels(written))

    def _labels(self, written: _Written) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        assert self._file is not None  # noqa: S101
        offset = written.offset + written.columns * written.rows * written.dtype.itemsize
        classes = self._file.read(offset, written.rows, np.int64)
        return classes, self._file.read(offset + classes.nbytes, written.rows, np.float64)

    def _read(self, written: _Written) -> ClassPart:
        assert self._file is not None  # noqa: S101
        flat = self._file.read(written.offset, written.rows * written.columns, written.dtype)
        return ClassPart(flat.reshape(written.columns, written.rows).T, *self._labels(written))

    def _spill(self) -> None:
        if not self._parts:
            return
        self._file = self._file or Spill()
        scores, classes, weights = (np.concatenate(columns) for columns in zip(*self._parts, strict=True))
        self._parts, self._kept = [], 0
        offset = self._file.append(scores.T)
        self._file.append(classes)
        self._file.append(weights)
        self._written.append(_Written(offset, len(classes), scores.shape[1], scores.dtype))
