"""Locks on files, which the kernel releases when their process ends in any way."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from contextlib import suppress
from pathlib import Path

HELD = frozenset({errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK})
UNSUPPORTED = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
"""The errors of a file system that has no locks."""


class Lock:
    """A lock that this process holds until `release`, or until nothing refers to it any more.

    `certain` says that the file system knows locks. Without them nobody can tell what others are doing.
    """

    def __init__(self, path: Path, descriptor: int, *, certain: bool) -> None:
        self.path = path
        self.certain = certain
        self._descriptor = descriptor

    def sign(self) -> None:
        """Writes into the file who holds the lock, for those that wait."""
        holder = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()
        with suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, holder, 0)

    def release(self, *, remove: bool = False) -> None:
        """Releases the lock; with `remove`, its file is deleted first, while nobody else has it."""
        if self._descriptor < 0:
            return
        if remove:
            with suppress(OSError):
                self.path.unlink()
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def __del__(self) -> None:
        with suppress(OSError):
            self.release()


def take(path: Path, *, shared: bool = False, create: bool = False) -> Lock | None:
    """Locks a file; None if another process, or another user of this one, holds a lock that excludes it.

    Raises OSError if the file cannot be opened.
    """
    flags = (os.O_RDONLY if shared else os.O_RDWR) | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    while True:
        descriptor = os.open(path, flags, 0o666)
        lock = Lock(path, descriptor, certain=True)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in HELD:
                return None
            if error.errno not in UNSUPPORTED:
                raise
            lock.certain = False
        # A holder deletes the file before it lets go: then this lock is on a file that no one else will find.
        with suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(descriptor)):
                return lock
        lock.release()


def holder_of(path: Path) -> str:
    """Who holds a lock, in words: `process 4711 on this host`."""
    try:
        holder = json.loads(path.read_bytes())
        host = "this host" if holder["host"] == socket.gethostname() else str(holder["host"])
        return f"process {int(holder['pid'])} on {host}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
