"""How steadily the machine computes: a fixed loop, timed before and after every measurement.

The time of the loop is the fastest of its repeats, which a short disturbance does not change. It varies with what
slows a measurement as well: the clock rate, other processes, and a host that gives the cores to someone else.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from time import perf_counter

import numpy as np

LIMIT = 0.03
"""A round counts if the loop's times vary by less than this."""
REPEATS = 5
TURNS = 1500
"""Turns of one repeat: 50 to 100 ms."""


def seconds(repeats: int = REPEATS) -> float:
    """The time of the loop: the fastest of `repeats`. Half of it is Python, half numpy on 80 kB, in one thread."""
    values = np.linspace(0.1, 1.0, 10_000)
    least = float("inf")
    for _ in range(repeats):
        total = 0
        began = perf_counter()
        for turn in range(TURNS):
            np.sqrt(values * values + 1.0)
            for number in range(300):
                total += number ^ turn
        least = min(least, perf_counter() - began)
    return least


def spread(times: Sequence[float]) -> float:
    """How much the loop's times vary: (longest − shortest) / median."""
    return (max(times) - min(times)) / median(times) if times else 0.0
