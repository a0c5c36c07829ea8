"""Removes caches: those that are asked for, those used least recently, and what killed processes have left."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from trainer.atomic import hidden_name
from trainer.data.cache.faults import CacheUnwritable
from trainer.data.cache.listing import Stored, lock_file, stored_in
from trainer.data.cache.locks import Lock, take
from trainer.data.cache.manifest import USED
from trainer.errors import UsageError
from trainer.reading import in_gb


def remove(stored: Stored) -> bool:
    """Removes a cache, or what is left of one; false if it is in use or being built. Raises UsageError."""
    try:
        if stored.state in ("leftover", "being built"):
            return _remove_leftover(stored)
        lock: Lock | None = None
        with suppress(FileNotFoundError):
            lock = take(stored.folder / USED)
            if lock is None or not lock.certain:
                return False
        # First it is no longer there for others; then it takes its time.
        hidden = hidden_name(stored.folder)
        with suppress(FileNotFoundError):
            stored.folder.rename(hidden)
            shutil.rmtree(hidden)
        if lock is not None:
            lock.release()
    except OSError as error:
        raise UsageError(f"it cannot be removed: {error.strerror or error}", where=str(stored.folder)) from error
    return True


def _remove_leftover(stored: Stored) -> bool:
    """Removes what is left of a cache, unless its process is still there."""
    lock = take(lock_file(stored.folder.parent, stored.id), create=True)
    if lock is None or not lock.certain:
        return False
    try:
        with suppress(FileNotFoundError):
            shutil.rmtree(stored.folder)
    finally:
        lock.release(remove=True)
    return True


def remove_leftovers(folder: Path, family: str) -> None:
    """Removes what killed processes have left; the caller holds the lock of those that build caches of `family`."""
    for each in stored_in(folder):
        if each.id.startswith(f"{family}-") and each.state in ("leftover", "being built"):
            shutil.rmtree(each.folder, ignore_errors=True)
        elif each.state == "leftover":
            with suppress(UsageError):
                remove(each)


def make_room(folder: Path, limit: int | None, needed: int, own: Path) -> None:
    """Removes the caches used least recently until one of `needed` bytes, which is built in `own`, is within the limit.

    Caches in use stay. Raises CacheUnwritable if the limit is too small.
    """
    if limit is None:
        return
    fix = "Raise the limit, $TRAINER_CACHE_LIMIT."
    if needed > limit:
        raise CacheUnwritable(
            f"the cache needs {in_gb(needed)}, and the limit of all caches is {in_gb(limit)}",
            where=str(folder),
            fix=fix,
        )
    others = [each for each in stored_in(folder) if each.folder != own]
    total = sum(each.size for each in others)
    for each in _removable(others):
        if total + needed <= limit:
            return
        with suppress(UsageError):
            total -= each.size if remove(each) else 0
    if total + needed > limit:
        raise CacheUnwritable(
            f"the cache needs {in_gb(needed)}, and others that are in use take {in_gb(total)}"
            f" of the limit of {in_gb(limit)}",
            where=str(folder),
            fix=fix,
        )


def _removable(stored: Iterable[Stored]) -> list[Stored]:
    """Those that nobody uses: first what is of no use, then in the order of their last use."""
    found = [each for each in stored if each.state not in ("in use", "being built")]
    return sorted(found, key=lambda each: (each.state == "complete", each.used))
