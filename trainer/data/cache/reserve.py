"""Room on a disk that is taken before anything is written to it, and writing at a place in a file."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

from trainer.data.cache.faults import free_bytes

REFUSED = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
"""The errors of a file system that cannot reserve."""


def reserve(descriptor: int, size: int, *, folder: Path) -> None:
    """Makes an empty file `size` bytes long, with its room on the disk reserved. Raises OSError if there is too little.

    Where the file system cannot reserve room, the room that is free is compared, and the file has holes.
    """
    failed = _allocate(descriptor, size)
    if failed == 0:
        return
    if failed not in REFUSED:
        raise OSError(failed, os.strerror(failed))
    if size > free_bytes(folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.ftruncate(descriptor, size)


def _allocate(descriptor: int, size: int) -> int:
    """Reserves the first `size` bytes of a file; returns the number of the error, or 0.

    `os.posix_fallocate` is the same, but writes to every page where the file system cannot reserve.
    """
    allocate = _fallocate()
    if allocate is None or size == 0:
        return errno.EOPNOTSUPP
    while allocate(descriptor, 0, 0, size) != 0:
        if ctypes.get_errno() != errno.EINTR:
            return ctypes.get_errno()
    return 0


@cache
def _fallocate() -> Any:
    """Linux's fallocate(2) from the C library; None on other systems."""
    if not sys.platform.startswith("linux"):
        return None
    found = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
    if found is not None:
        found.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return found


def write_at(descriptor: int, data: Any, offset: int) -> None:
    """Writes all bytes of a buffer at an offset of a file."""
    rest = memoryview(data).cast("B")
    while len(rest):
        done = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[done:], offset + done


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """The bytes of a file from an offset on; fewer than `size` at its end."""
    parts = []
    while size > 0 and (part := os.pread(descriptor, size, offset)):
        parts.append(part)
        size, offset = size - len(part), offset + len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
