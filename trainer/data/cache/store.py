"""The caches in a folder: finds the one that fits, or builds it once however many processes ask."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path

from trainer.atomic import new_folder
from trainer.data.cache import manifest
from trainer.data.cache.entry import Entry, open_entry
from trainer.data.cache.faults import CacheUnwritable, Damaged, Gone, OtherVersion, disk_errors
from trainer.data.cache.key import Key
from trainer.data.cache.listing import lock_file
from trainer.data.cache.locks import Lock, holder_of, take
from trainer.data.cache.removal import make_room, remove_leftovers
from trainer.data.cache.writer import Joined, Writer

log = logging.getLogger("trainer")

NOTE = {"note": True}
FIRST_WAIT, LONGEST_WAIT = 0.02, 0.5
"""Seconds until a lock is tried again."""


class _Unfinished(Exception):  # noqa: N818  it says what it is
    """A block has ended without `Writer.finish`."""


class Store:
    """The caches in `folder`, which need not exist; `limit` is the bytes that all of them may take, None any number."""

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        self.folder = folder
        self.limit = limit
        self._warned: set[Path] = set()
        """Damaged caches that were spoken of."""

    def find(self, key: Key, *, verify: bool = False) -> Entry | None:
        """The cache of a key, or None. The files are not opened if their paths, sizes and times are known to fit.

        If only paths or times differ, the content of the files is compared. With `verify`, it always is, and so are
        the checksums of all rows. Raises CorruptRows, and UsageError if a file cannot be read.
        """
        folders = self._family(key)
        known = [folder for folder in folders if _fits(folder, key)]
        for folder in [*known, *(folder for folder in folders if folder not in known)]:
            entry = self._opened(folder)
            if entry is None:
                continue
            if verify or folder not in known:
                if not _same_content(entry, key):
                    continue
                if verify:
                    entry.verify()
                # A folder that cannot be written compares the content every time.
                with suppress(OSError):
                    manifest.remember(folder, key)
            return entry
        return None

    @contextmanager
    def build(self, key: Key, *, again: bool = False, if_writable: bool = False) -> Iterator[Writer | Entry | None]:
        """A Writer to build the cache of a key with; or, if another process has built it meanwhile, the Entry.

        The new cache is there once the block has ended, as `Writer.entry`, if `Writer.finish` was called in it;
        otherwise nothing is. One process builds, and the others wait for it. With `again`, a cache that is there
        already is replaced. Raises CacheUnwritable if the folder cannot be written; with `if_writable` the block gets
        None instead.
        """
        before = {_mark(folder) for folder in self._family(key)} if again else set()
        try:
            lock = self._locked(key)
        except CacheUnwritable:
            if not if_writable:
                raise
            yield None
            return
        try:
            found = self.find(key)
            if found is not None and found.manifest.mark not in before:
                yield found
                return
            target = self.folder / key.id if found is None else found.folder
            # It is in use no longer.
            found = None
            remove_leftovers(self.folder, key.family)
            with suppress(_Unfinished), self._writing(key, target) as writer:
                yield writer
        finally:
            lock.release(remove=True)

    def join(self, path: Path) -> Joined:
        """Joins the process that builds in `path`, its `Writer.path`: each writes its rows, and that one finishes."""
        return Joined.at(path)

    @contextmanager
    def _writing(self, key: Key, target: Path) -> Iterator[Writer]:
        with ExitStack() as stack:
            with disk_errors(self.folder):
                path = stack.enter_context(new_folder(target, replace=True))
                room = partial(make_room, self.folder, self.limit)
                writer = stack.enter_context(closing(Writer(path, key, room)))
            yield writer
            if not writer.finished:
                raise _Unfinished
            with disk_errors(self.folder, writer.size):
                stack.close()
            writer.entry = open_entry(target)

    def _locked(self, key: Key) -> Lock:
        """Waits until no other process builds a cache that may be this one, and keeps them from it."""
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            path = lock_file(self.folder, key.id)
            seconds = FIRST_WAIT
            while (lock := take(path, create=True)) is None:
                if seconds == FIRST_WAIT:
                    log.warning(
                        "waiting for another process that builds the cache of these files: %s",
                        holder_of(path),
                        extra=NOTE,
                    )
                time.sleep(seconds)
                seconds = min(2 * seconds, LONGEST_WAIT)
            lock.sign()
            return lock

    def _opened(self, folder: Path) -> Entry | None:
        """The cache in a folder; None, with a warning, if it is damaged."""
        try:
            return open_entry(folder)
        except (OtherVersion, Gone):
            return None
        except Damaged as error:
            if folder not in self._warned:
                self._warned.add(folder)
                log.warning("the cache %s is damaged and not used: %s", folder, error)
            return None

    def _family(self, key: Key) -> list[Path]:
        """The caches of the same settings and sizes, the one that is named after the key first."""
        found = sorted(self.folder.glob(f"{key.family}-{'[0-9a-f]' * 8}"))
        return sorted(found, key=lambda folder: folder.name != key.id)


def _fits(folder: Path, key: Key) -> bool:
    try:
        return manifest.fits(folder, key)
    except (Damaged, Gone):
        # Then the content decides.
        return False


def _mark(folder: Path) -> str | None:
    """The mark of a cache, which a new one in its place does not share."""
    with suppress(Damaged, Gone):
        return manifest.read(folder).mark
    return None


def _same_content(entry: Entry, key: Key) -> bool:
    """Whether the files have the content that a cache was built from."""
    if "content" not in vars(key):
        log.warning("comparing the content of the files with that of their cache", extra=NOTE)
        key.check_unchanged()
        _ = key.content
        key.check_unchanged()
    return key.content == entry.manifest.content
