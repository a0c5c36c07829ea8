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
    moments, place, counts = np.unique(times, return_inverse=True, return_counts=True)
    place = place.reshape(-1)
    part = np.full(len(moments), -1)
    end = len(moments)
    names = list(shares)
    for number in range(len(names) - 1, -1, -1):
        if end <= number:
            raise TooFewRows(f"{len(moments)} moments are too few")
        if number == 0:
            part[:end] = 0
            break
        # Of the moments at which it may begin, the others need one each.
        sizes = np.cumsum(counts[end - 1 : number - 1 : -1])
        off = np.abs(sizes - round(shares[names[number]] * len(times)))
        begin = end - 1 - int(np.argmin(off))
        part[begin:end] = number
        end = begin
        if gap > 0:
            end = int(np.searchsorted(moments[:begin], moments[begin] - gap, side="right"))
    found = part[place]
    parts = {name: np.flatnonzero(found == number) for number, name in enumerate(names)}
    return ByTime(parts, np.flatnonzero(found < 0))
