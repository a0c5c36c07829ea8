"""Splits rows by time: the newest are held out, and rows of one moment stay together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.data.stratified import TooFewRows


class ByTime(NamedTuple):
    """The rows of each part in ascending order, and those that are in none because of the gap."""

    parts: dict[str, NDArray[np.int64]]
    left_out: NDArray[np.int64]


def chronological_split(times: NDArray[Any], shares: Mapping[str, float], gap: float = 0) -> ByTime:
    """The newest rows are those of the last part, those before them of the part before it, and so on.

    `times` are numbers (rows,). `shares` are the parts' shares of all rows, the oldest first; the oldest gets the rest.
    Each part begins at the moment with which its size is closest to its share, and has a moment at least. The rows
    less than `gap` older than the first row of a part are left out. Raises TooFewRows if there are fewer moments than
    parts, or the gap leaves a part without one.
    """
    ordered = np.sort(times)
    begins = _begins(ordered)
    part = np.full(len(times), -1, np.int8)
    end = len(begins)
    names = list(shares)
    for number in range(len(names) - 1, -1, -1):
        if end <= number:
            raise TooFewRows(f"{len(begins)} moments are too few")
        if number == 0:
            part[times <= ordered[begins[end - 1]]] = 0
            break
        stop = int(begins[end]) if end < len(begins) else len(times)
        # Of the moments at which it may begin, the others need one each.
        begin = _nearest(begins, stop - round(shares[names[number]] * len(times)), number, end - 1)
        first = ordered[begins[begin]]
        part[(times >= first) & (times <= ordered[begins[end - 1]])] = number
        end = begin
        if gap > 0:
            row = int(np.searchsorted(ordered[: begins[begin]], first - gap, side="right"))
            end = int(np.searchsorted(begins[:begin], row))
    parts = {name: np.flatnonzero(part == number) for number, name in enumerate(names)}
    return ByTime(parts, np.flatnonzero(part < 0))


def _begins(ordered: NDArray[Any]) -> NDArray[np.int64]:
    """Where each moment begins in the ordered times."""
    is_new = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=is_new[1:])
    return np.flatnonzero(is_new)


def _nearest(begins: NDArray[np.int64], row: int, low: int, high: int) -> int:
    """Which moment, from `low` to `high`, begins closest to a row; the later one of two."""
    after = min(max(int(np.searchsorted(begins, row)), low), high)
    before = max(after - 1, low)
    return after if abs(int(begins[after]) - row) <= abs(int(begins[before]) - row) else before
