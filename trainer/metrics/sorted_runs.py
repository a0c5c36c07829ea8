"""Sorted rows in temporary files, and their merge. No loop is over single rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.metrics.ranked import Part, Vector, packed_of
from trainer.metrics.spill import Spill

LEAST = 64
"""Rows that are read from a run at a time, at least."""
_SIGN, _ONE = np.uint64(1 << 63), np.uint64(1)
Keys = NDArray[np.uint64]


class Rows(NamedTuple):
    """Rows with integers that ascend while scores descend; `positive` is None if the lowest bit holds the class."""

    keys: Keys
    positive: NDArray[np.bool_] | None
    weights: Vector | None


class Run:
    """Sorted rows in a file of their own."""

    def __init__(self, packed: bool, weighted: bool) -> None:
        self.packed, self.weighted, self.rows = packed, weighted, 0
        fields: list[Any] = [("key", np.uint64)]
        fields += [] if packed else [("positive", np.bool_)]
        fields += [("weight", np.float64)] if weighted else []
        self._type = np.dtype(fields)
        self._file = Spill()

    def write(self, rows: Rows) -> None:
        if self.packed:
            self._file.append(rows.keys)
        else:
            rows = _unpacked(rows)
            table = np.empty(len(rows.keys), self._type)
            table["key"], table["positive"] = rows.keys, rows.positive
            if self.weighted:
                table["weight"] = 1.0 if rows.weights is None else rows.weights
            self._file.append(table)
        self.rows += len(rows.keys)

    def read(self, start: int, count: int) -> Rows:
        size = max(0, min(count, self.rows - start))
        table = self._file.read(start * self._type.itemsize, size, self._type)
        if self.packed:
            return Rows(table.view(np.uint64), None, None)
        weights = table["weight"].copy() if self.weighted else None
        return Rows(table["key"].copy(), table["positive"].copy(), weights)

    def close(self) -> None:
        self._file.close()


class _Reader:
    """The next piece of a run."""

    def __init__(self, run: Run, piece: int) -> None:
        self._run, self._piece, self._next = run, piece, 0
        self._packed = run.packed
        self.fill()

    def fill(self) -> None:
        self.rows = self._run.read(self._next, self._piece)
        self._next += len(self.rows.keys)

    @property
    def is_last(self) -> bool:
        """Whether nothing follows the piece."""
        return self._next >= self._run.rows

    def take(self, count: int) -> Rows:
        taken = Rows(*(None if column is None else column[:count] for column in self.rows))  # type: ignore[arg-type]
        self.rows = Rows(*(None if column is None else column[count:] for column in self.rows))  # type: ignore[arg-type]
        if not len(self.rows.keys) and not self.is_last:
            self.fill()
        return taken


def merged(runs: Sequence[Run], capacity: int) -> Iterator[Rows]:
    """The rows of all runs in order, those of equal scores in the order of the runs."""
    packed = all(run.packed for run in runs)
    readers = [_Reader(run, max(capacity // len(runs), LEAST)) for run in runs if run.rows]
    while readers:
        # Whatever is above the end of a piece that others follow is complete. Of equal ends the first run's counts:
        # its next piece may begin with the same score, and those rows come before the ones of later runs.
        open_ends = [
            (each.rows.keys[-1] if packed else _key_at(each, -1), n)
            for n, each in enumerate(readers)
            if not each.is_last
        ]
        end, first = min(open_ends) if open_ends else (None, len(readers))
        taken = []
        for number, reader in enumerate(readers):
            rows = reader.rows if packed else _unpacked(reader.rows)
            reader.rows = rows
            count = len(rows.keys)
            if end is not None:
                count = int(rows.keys.searchsorted(end, "right" if number <= first else "left"))
            if count:
                taken.append(reader.take(count))
        yield _sorted(taken)
        readers = [reader for reader in readers if len(reader.rows.keys)]


def _key_at(reader: _Reader, place: int) -> Any:
    reader.rows = _unpacked(reader.rows)
    return reader.rows.keys[place]


def _sorted(parts: Sequence[Rows]) -> Rows:
    """Sorted rows of several runs as one."""
    if len(parts) == 1:
        return parts[0]
    keys = np.concatenate([part.keys for part in parts])
    if parts[0].positive is None:
        keys.sort()
        return Rows(keys, None, None)
    order = np.argsort(keys, kind="stable")
    positive = np.concatenate([part.positive for part in parts if part.positive is not None])
    weights = None
    if any(part.weights is not None for part in parts):
        weights = np.concatenate([np.ones(len(part.keys)) if part.weights is None else part.weights for part in parts])[
            order
        ]
    return Rows(keys[order], positive[order], weights)


def is_packable(part: Part) -> bool:
    """Whether 8 bytes hold a row: its score is a number ≥ 0, and it has no weight."""
    return part.weights is None and bool(np.minimum.reduce(part.scores) >= 0)


def encoded(part: Part) -> Rows:
    """The rows, sorted."""
    if is_packable(part):
        keys = ~packed_of(part.scores, part.positive)
        keys.sort()
        return Rows(keys, None, None)
    bits = (part.scores + 0.0).view(np.uint64)
    # Numbers below 0 ascend with their bits inverted; the order is turned round once more, to descend.
    keys = np.where(bits & _SIGN, bits, ~(bits | _SIGN))
    keys[np.isnan(part.scores)] = ~np.uint64(0)
    order = np.argsort(keys, kind="stable")
    return Rows(keys[order], part.positive[order], None if part.weights is None else part.weights[order])


def _unpacked(rows: Rows) -> Rows:
    """The class in a column of its own."""
    if rows.positive is not None:
        return rows
    bits = ~rows.keys
    return Rows(~((bits >> _ONE) | _SIGN), (bits & _ONE).astype(bool), None)


def decoded(rows: Rows) -> Part:
    """Scores, classes and weights."""
    keys, positive, weights = _unpacked(rows)
    assert positive is not None  # noqa: S101
    # Keys of numbers below 0 have their sign bit, and are the numbers' bits.
    scores = np.where(keys & _SIGN, keys, ~keys & ~_SIGN).view(np.float64)
    return Part(scores, positive, weights)
