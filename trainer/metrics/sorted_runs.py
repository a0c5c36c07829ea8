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
    """The next piece of a run. It is refilled once half of it is used: small rests of pieces make many small merges."""

    def __init__(self, run: Run, piece: int, *, packed: bool) -> None:
        self._run, self._piece, self._packed, self._next = run, piece, packed, 0
        self.rows = self._read(piece)

    def _read(self, count: int) -> Rows:
        rows = self._run.read(self._next, count)
        self._next += len(rows.keys)
        return rows if self._packed else _unpacked(rows)

    @property
    def is_last(self) -> bool:
        """Whether nothing follows the piece."""
        return self._next >= self._run.rows

    def take(self, count: int) -> Rows:
        """The first rows of the piece, which then begins after them."""
        taken, rest = _cut(self.rows, slice(count)), _cut(self.rows, slice(count, None))
        missing = self._piece - len(rest.keys)
        if 2 * missing >= self._piece and not self.is_last:
            rest = _joined([rest, self._read(missing)])
        self.rows = rest
        return taken


def merged(runs: Sequence[Run], capacity: int) -> Iterator[Rows]:
    """The rows of all runs in order, those of equal scores in the order of the runs."""
    packed = all(run.packed for run in runs)
    piece = max(capacity // len(runs), LEAST)
    readers = [_Reader(run, piece, packed=packed) for run in runs if run.rows]
    while readers:
        # Whatever is above the end of a piece that others follow is complete. Of equal ends the first run's counts:
        # its next piece may begin with the same score, and those rows come before the ones of later runs.
        open_ends = [(reader.rows.keys[-1], n) for n, reader in enumerate(readers) if not reader.is_last]
        end, first = min(open_ends) if open_ends else (None, len(readers))
        taken = []
        for number, reader in enumerate(readers):
            count = len(reader.rows.keys)
            if end is not None:
                count = int(reader.rows.keys.searchsorted(end, "right" if number <= first else "left"))
            if count:
                taken.append(reader.take(count))
        yield _sorted(taken)
        readers = [reader for reader in readers if len(reader.rows.keys)]


def _cut(rows: Rows, part: slice) -> Rows:
    positive, weights = (None if column is None else column[part] for column in (rows.positive, rows.weights))
    return Rows(rows.keys[part], positive, weights)  # type: ignore[arg-type]


def _joined(parts: Sequence[Rows]) -> Rows:
    """Rows of several runs, which are all packed or all unpacked."""
    if len(parts) == 1:
        return parts[0]
    keys = np.concatenate([part.keys for part in parts])
    positive = [part.positive for part in parts if part.positive is not None]
    weights = None
    if any(part.weights is not None for part in parts):
        weights = np.concatenate([np.ones(len(part.keys)) if part.weights is None else part.weights for part in parts])
    return Rows(keys, np.concatenate(positive) if positive else None, weights)


def _sorted(parts: Sequence[Rows]) -> Rows:
    """Sorted rows of several runs as one."""
    rows = _joined(parts)
    if len(parts) == 1:
        return rows
    if rows.positive is None:
        rows.keys.sort()
        return rows
    order = np.argsort(rows.keys, kind="stable")
    return Rows(rows.keys[order], rows.positive[order], None if rows.weights is None else rows.weights[order])


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
