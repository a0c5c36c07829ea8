"""Rows that are sorted by score: in memory up to a limit, beyond it in temporary files (external merge sort).

Full parts are sorted and written as runs. To rank all rows, the runs are merged: of each the next piece is in memory,
everything above the piece that ends first is sorted and handed on. No loop is over single rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from trainer.metrics.memory import UNLIMITED, Memory
from trainer.metrics.ranked import POINTS, Part, Points, Ranking, Vector, confusion, descending, ends, ranked_of
from trainer.metrics.sorted_runs import LEAST, Run, decoded, encoded, is_packable, merged
from trainer.metrics.spill import Spill

ROW_BYTES = 96
"""Memory for a row while rows are kept, sorted and ranked."""
MOST_RUNS = 32
"""More are merged into one."""
Mapping = Callable[[Vector], Vector]


class SortedRows:
    """Rows that can be ranked. `before_spill` is called with the rows that are about to leave memory."""

    def __init__(self, memory: Memory = UNLIMITED, before_spill: Callable[[Part], None] | None = None) -> None:
        self._memory, self._before_spill = memory, before_spill
        self._parts: list[Part] = []
        self._kept = 0
        self._levels: list[list[Run]] = []
        self.rows = 0

    def add(self, part: Part) -> None:
        """Adds rows; their arrays must not change afterwards."""
        if len(part.scores):
            self._parts.append(part)
            self._kept += len(part.scores)
            self.rows += len(part.scores)
            if not self._memory.allows(ROW_BYTES * self._kept):
                self._spill()

    @property
    def spilled(self) -> bool:
        """Whether some rows have left memory."""
        return bool(self._levels)

    def kept(self) -> Part:
        """The rows in memory, in order. They replace the parts, so the next call need not join them again."""
        if not self._parts:
            return Part(np.empty(0), np.empty(0, bool), None)
        if len(self._parts) > 1:
            scores, positive = (np.concatenate([part[column] for part in self._parts]) for column in (0, 1))
            weights = None
            if any(part.weights is not None for part in self._parts):
                weights = np.concatenate([np.ones(len(p)) if w is None else w for p, _, w in self._parts])
            self._parts = [Part(scores, positive, weights)]
        return self._parts[0]

    def unsorted(self) -> Iterator[Part]:
        """All rows, in parts."""
        for run in self._runs():
            for start in range(0, run.rows, self._piece()):
                yield decoded(run.read(start, self._piece()))
        yield self.kept()

    def descending(self) -> Iterator[Part]:
        """All rows by descending score, in parts; rows of equal score in the order in which they came. NaN is last."""
        if self.spilled:
            self._spill()
            for rows in merged(self._runs(), self._piece()):
                yield decoded(rows)
            return
        scores, positive, weights = self.kept()
        order = np.argsort(-scores, kind="stable")
        yield Part(scores[order], positive[order], None if weights is None else weights[order])

    def ranked(self) -> Ranking:
        """The rows so far, ranked: in memory, or in a temporary file if they do not fit there."""
        if not self.spilled:
            return ranked_of(self.kept())
        self._spill()
        return StoredRanking(self)

    def close(self) -> None:
        """Frees the disk space."""
        for run in self._runs():
            run.close()
        self._levels, self._parts, self._kept = [], [], 0

    def _runs(self) -> list[Run]:
        return [run for level in reversed(self._levels) for run in level]

    def _piece(self) -> int:
        """Rows that may be sorted in memory at a time."""
        return max(self._memory.bytes // ROW_BYTES, LEAST)

    def _spill(self) -> None:
        """Writes the rows in memory as a run; with many runs, merges them. Runs stay in the order of the rows."""
        if not self._kept:
            return
        part = self.kept()
        if self._before_spill is not None:
            self._before_spill(part)
        run = Run(is_packable(part), part.weights is not None)
        run.write(encoded(part))
        self._parts, self._kept = [], 0
        for level in self._levels:
            level.append(run)
            if len(level) <= MOST_RUNS:
                return
            run = Run(all(each.packed for each in level), any(each.weighted for each in level))
            for rows in merged(level, self._piece()):
                run.write(rows)
            for each in level:
                each.close()
            level.clear()
        self._levels.append([run])


class StoredRanking(Ranking):
    """Rows ranked in temporary files: the distinct scores with the sums at each, in blocks."""

    def __init__(self, rows: SortedRows) -> None:
        self._keep(rows, None, _distinct(self._points_of(rows)))

    def _keep(self, rows: SortedRows, function: Mapping | None, pieces: Iterator[NDArray[np.float64]]) -> None:
        """`function` maps the scores of the rows to those of the points."""
        self._rows, self._function = rows, function
        self.rows = rows.rows
        self._file = Spill()
        self._firsts: list[float] = []
        self.distinct = self.not_numbers = 0
        self.positives = self.negatives = 0.0
        self._weighted = False
        for block in _blocks(pieces):
            self._firsts.append(float(block[0, 0]))
            self.distinct += block.shape[1]
            self.positives, self.negatives = float(block[1, -1]), float(block[2, -1])
            self._file.append(block)

    def mapped(self, function: Mapping) -> StoredRanking:
        """Reads the points once, and writes others."""
        first = self._function
        found = StoredRanking.__new__(StoredRanking)
        both = function if first is None else lambda scores: function(first(scores))
        found._keep(self._rows, both, _distinct(_mapped(self.points(), function)))  # noqa: SLF001  its own class
        found._weighted, found.not_numbers = self._weighted, self.not_numbers  # noqa: SLF001
        return found

    def _points_of(self, all_rows: SortedRows) -> Iterator[NDArray[np.float64]]:
        """(3, rows) of scores, summed true and summed false."""
        true = false = 0.0
        for scores, positive, weights in all_rows.descending():
            self._weighted |= weights is not None
            self.not_numbers += int(np.isnan(scores[-1]) and np.isnan(scores).sum())
            each = np.ones(len(scores)) if weights is None else weights
            sums = np.where(positive, each, 0.0), np.where(positive, 0.0, each)
            # Added to the first row, not afterwards to all: the order of additions is that of one pass.
            sums[0][0] += true
            sums[1][0] += false
            trues, falses = (np.add.accumulate(part) for part in sums)
            true, false = float(trues[-1]), float(falses[-1])
            yield np.stack([scores, trues, falses])

    def _block(self, number: int) -> Points:
        count = min(POINTS, self.distinct - number * POINTS)
        values = self._file.read(number * 24 * POINTS, 3 * count, np.float64).reshape(3, count)
        return Points(values[0], values[1], values[2])

    def points(self) -> Iterator[Points]:
        """Reads block by block."""
        return map(self._block, range(len(self._firsts)))

    def at(self, places: NDArray[np.int64]) -> Points:
        """Reads the blocks that have one of the points."""
        blocks = places // POINTS
        found = [np.empty((3, 0))]
        for number in np.unique(blocks).tolist():
            block, own = self._block(number), places[blocks == number] - number * POINTS
            found.append(np.stack([block.probabilities[own], block.true[own], block.false[own]]))
        whole = np.concatenate(found, axis=1)
        return Points(whole[0], whole[1], whole[2])

    def cells(self, threshold: float) -> NDArray[np.float64]:
        """One block is read; with weights or NaN, all rows are."""
        if self._weighted or self.not_numbers:
            function = self._function
            rows = self._rows.unsorted()
            parts = rows if function is None else (each._replace(scores=function(each.scores)) for each in rows)
            return confusion(parts, threshold)
        true = false = 0.0
        # The last block whose first score is above the threshold.
        number = int(np.count_nonzero(np.array(self._firsts) > threshold)) - 1
        if number >= 0:
            block = self._block(number)
            above = int(np.count_nonzero(block.probabilities > threshold)) - 1
            true, false = float(block.true[above]), float(block.false[above])
        return np.array([[self.negatives - false, false], [self.positives - true, true]])


def _distinct(pieces: Iterable[NDArray[np.float64]]) -> Iterator[NDArray[np.float64]]:
    """The last column of each run of equal scores, of pieces (3, n) in descending order of their first row."""
    held: NDArray[np.float64] = np.empty((3, 0))
    for piece in pieces:
        points = piece[:, ends(piece[0])]
        # The last score may continue in the next piece.
        if held.shape[1] and held[0, 0] != points[0, 0]:
            yield held
        held, points = points[:, -1:], points[:, :-1]
        yield points
    yield held


def _mapped(blocks: Iterable[Points], function: Mapping) -> Iterator[NDArray[np.float64]]:
    """(3, points) of blocks whose scores are mapped."""
    last = math.inf
    for points in blocks:
        scores = descending(function(points.probabilities), last)
        last = float(np.fmin(last, scores[-1]))
        yield np.stack([scores, points.true, points.false])


def _blocks(pieces: Iterator[NDArray[np.float64]]) -> Iterator[NDArray[np.float64]]:
    """Pieces of any width as blocks (3, POINTS), the last one narrower."""
    waiting: list[NDArray[np.float64]] = []
    width = 0
    for piece in pieces:
        waiting.append(piece)
        width += piece.shape[1]
        if width >= POINTS:
            whole = np.concatenate(waiting, axis=1)
            full = width - width % POINTS
            for start in range(0, full, POINTS):
                yield whole[:, start : start + POINTS]
            waiting, width = [whole[:, full:].copy()], width - full
    if width:
        yield np.concatenate(waiting, axis=1)
