"""Hashes of texts, the same on every machine, computed over Arrow's bytes without a Python object per text.

The hash of a text is the sum of (byte + 1) · FACTOR^position over its UTF-8 bytes, modulo 2^64. `mixed` adds a salt and
lets every bit depend on every other one (the finaliser of MurmurHash3), so that any bits of it may be used.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

FACTOR = 0x9E3779B97F4A7C15
"""An odd number, so that it has an inverse modulo 2^64."""
FIRST, SECOND = 0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53
MISSING_SALT = 0x2545F4914F6CDD1D
"""Added to the salt of a column for its missing values."""
BLOCK_BYTES = 1 << 16
"""Bytes of text that are hashed at a time, so that the products stay in the processor's cache."""
MODULUS = 1 << 64


def text_hashes(texts: pa.Array) -> NDArray[np.uint64]:
    """The hash of each text of an Arrow array of strings (n,), 0 for a null and for an empty text."""
    if not len(texts):
        return np.zeros(0, np.uint64)
    _, offsets_buffer, data_buffer = texts.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    data = np.frombuffer(data_buffer, np.uint8) if data_buffer is not None else np.zeros(0, np.uint8)
    found = np.empty(len(texts), np.uint64)
    start = 0
    while start < len(texts):
        # As many texts as fit into a block, at least one.
        stop = int(np.searchsorted(offsets, offsets[start] + BLOCK_BYTES, side="right")) - 1
        stop = min(max(stop, start + 1), len(texts))
        found[start:stop] = _hashed(data, offsets[start : stop + 1])
        start = stop
    if texts.null_count:
        found[texts.is_null().to_numpy(zero_copy_only=False)] = 0
    return found


def _hashed(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The hashes of consecutive texts: sums with the powers of their place in the block, taken back to their start."""
    length = int(offsets[-1] - offsets[0])
    powers, inverses = _powers(max(BLOCK_BYTES, 1 << length.bit_length()))
    sums = np.empty(length + 1, np.uint64)
    sums[0] = 0
    with np.errstate(over="ignore"):
        part = data[offsets[0] : offsets[-1]].astype(np.uint64)
        part += np.uint64(1)
        part *= powers[:length]
        np.cumsum(part, out=sums[1:])
        places = offsets - offsets[0]
        found: NDArray[np.uint64] = (sums[places[1:]] - sums[places[:-1]]) * inverses[places[:-1]]
    return found


@cache
def _powers(count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The powers of FACTOR and those of its inverse, from 0 on."""
    tables = []
    for base in (FACTOR, pow(FACTOR, -1, MODULUS)):
        steps = np.full(count, base, np.uint64)
        steps[0] = 1
        with np.errstate(over="ignore"):
            tables.append(np.cumprod(steps, dtype=np.uint64))
    return tables[0], tables[1]


def mixed(hashes: NDArray[np.uint64], salt: int) -> NDArray[np.uint64]:
    """Hashes with a salt, in which every bit depends on every other one."""
    with np.errstate(over="ignore"):
        found = hashes + np.uint64(salt)
        for factor in (FIRST, SECOND):
            found ^= found >> np.uint64(33)
            found *= np.uint64(factor)
        found ^= found >> np.uint64(33)
    return found


def salt_of(name: str) -> int:
    """The salt of a column: the hash of its name."""
    import pyarrow as pa

    return int(mixed(text_hashes(pa.array([name], pa.string())), 0)[0])


def bucket_of(hashes: NDArray[np.uint64], salt: int, bits: int) -> NDArray[np.int32]:
    """The row of a table of 2^bits rows for each hash: the highest bits."""
    return (mixed(hashes, salt) >> np.uint64(64 - bits)).astype(np.int32)
