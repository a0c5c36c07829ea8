"""What can be wrong with a cache, and with the disk that it lies on."""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from trainer.errors import TrainerError, UsageError, listed
from trainer.reading import in_gb

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The disk, the user's share of it, or the largest file that the process may write."""
ROOM = (
    "Choose a folder on a larger disk with --cache-dir, or make room: trainer data cache list shows what "
    "takes it, and trainer data cache remove ID deletes a cache."
)


class CacheUnwritable(UsageError):  # noqa: N818  it says what it is
    """The cache cannot be written: the disk is full, or the folder is read-only. Nothing is left of what was begun."""


class CorruptRows(UsageError):  # noqa: N818  it says what it is
    """Rows of a cache are not what was written: `blocks` has the numbers of their blocks, by split, from 0."""

    def __init__(self, folder: Path, blocks: Mapping[str, Sequence[int]], phrases: Sequence[str]) -> None:
        self.folder = folder
        self.blocks = blocks
        verb = "is" if len(phrases) == 1 else "are"
        super().__init__(
            f"{listed(phrases, 5)} {verb} corrupt",
            where=str(folder),
            fix="Build it again with --cache rebuild, or remove it: "
            f"trainer data cache remove {folder.name} --cache-dir {shlex.quote(str(folder.parent.parent))}.",
        )


class Damaged(TrainerError):  # noqa: N818  it says what it is
    """A cache that cannot be used, with the reason: a file is missing, cut off or replaced."""


class OtherVersion(Damaged):
    """A cache that another version of the program has written."""


class Gone(TrainerError):  # noqa: N818  it says what it is
    """A cache that was removed."""


def free_bytes(folder: Path) -> int:
    """The bytes that this user may still write to the disk of a folder. Raises OSError."""
    about = os.statvfs(folder)
    return about.f_bavail * about.f_frsize


@contextmanager
def disk_errors(folder: Path, needed: int = 0) -> Iterator[None]:
    """Around what writes to the cache in a folder: turns the disk's refusals into CacheUnwritable.

    `needed` is the size of what is written, in bytes; 0 if it is small.
    """
    try:
        yield
    except OSError as error:
        raise unwritable(error, folder, needed) from error


def unwritable(error: OSError, folder: Path, needed: int = 0, taken: int = 0) -> CacheUnwritable:
    """The disk's error as the user should see it; `taken` bytes of those that are `needed` are reserved already."""
    where = str(folder)
    if error.errno == errno.EFBIG:
        return CacheUnwritable(
            f"the cache needs {_exact(needed)}, and this process may not write files of that size",
            where=where,
            fix="Raise the limit with: ulimit -f unlimited.",
        )
    if error.errno in FULL:
        try:
            free = f"{_exact(free_bytes(_existing(folder)) + taken)} are free"
        except OSError:
            free = "the disk is full"
        free = "your quota is used up" if error.errno == errno.EDQUOT else free
        needs = f"needs {_exact(needed)}" if needed else "needs more room"
        return CacheUnwritable(f"the cache {needs}, and {free}", where=where, fix=ROOM)
    return CacheUnwritable(
        f"the cache cannot be written: {error.strerror or error}",
        where=where,
        fix="Choose another folder with --cache-dir, or train without a cache: --cache off.",
    )


def _existing(folder: Path) -> Path:
    """The folder, or the first one above it that exists."""
    return next(each for each in (folder, *folder.parents) if each.exists())


def _exact(size: int) -> str:
    return f"{size:,} bytes ({in_gb(size)})"
