"""Seeds for everything that draws random numbers, each derived from the run's single seed.

Because seeds are derived, not drawn one after another from one generator, a run can continue at any position
without replaying the earlier ones, and one consumer of random numbers never affects another.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray


def derive(seed: int, stream: str, *position: int) -> int:
    """A seed in [0, 2³¹) for one named `stream` of random numbers, at a `position` such as (epoch,).

    numpy's SeedSequence mixes the parts, so neighbouring seeds and positions give unrelated streams.
    """
    mixed = np.random.SeedSequence(seed, spawn_key=(zlib.crc32(stream.encode()), *position))
    return int(mixed.generate_state(1)[0]) & 0x7FFFFFFF


def permutation(rows: int, seed: int, epoch: int) -> NDArray[Any]:
    """The order, int64 (rows,), in which `epoch` visits the rows; it depends only on seed and epoch."""
    return np.random.default_rng(derive(seed, "order", epoch)).permutation(rows)


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Restores the states of Python's and numpy's global generators at the end."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  others may use the global generator
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


__all__ = ["derive", "permutation"]
