"""Temporary files for rows that do not fit in memory. They have no name, so nothing can be left behind."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError
from trainer.reading import in_gb

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WHERE = "rows of an evaluation beyond --memory"


def _folder() -> str:
    """Where temporary files go: $TMPDIR even if it is unusable, since the user has named it."""
    return os.environ.get("TMPDIR") or tempfile.gettempdir()


class Spill:
    """A file without a name in the folder for temporary files. It is gone once it is closed, or the process ends.

    Raises UsageError if the folder cannot be written or is full.
    """

    def __init__(self) -> None:
        self.bytes = 0
        folder = ""
        try:
            folder = _folder()
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  it stays open
        except OSError as error:
            raise _failure(folder, error, 0) from error
        self._folder = folder

    def append(self, array: NDArray[Any]) -> int:
        """Writes an array at the end; returns its offset in bytes."""
        offset, content = self.bytes, _bytes_of(np.ascontiguousarray(array))
        try:
            written = 0
            while written < len(content):
                written += os.pwrite(self._file.fileno(), content[written:], offset + written)
        except OSError as error:
            raise _failure(self._folder, error, offset + len(content)) from error
        self.bytes += len(content)
        return offset

    def read(self, offset: int, count: int, dtype: Any) -> NDArray[Any]:
        """So many elements from an offset on."""
        found = np.empty(count, dtype)
        content, done = _bytes_of(found), 0
        while done < len(content):
            got = os.preadv(self._file.fileno(), [content[done:]], offset + done)
            if not got:
                raise UsageError("a temporary file has become shorter", where=self._folder)
            done += got
        return found

    def close(self) -> None:
        """Frees the disk space."""
        if hasattr(self, "_file"):
            self._file.close()

    __del__ = close


def _bytes_of(array: NDArray[Any]) -> memoryview:
    buffer: Any = array.view(np.uint8)
    return memoryview(buffer).cast("B")


def _failure(folder: str, error: OSError, needed: int) -> UsageError:
    fix = "Set the environment variable TMPDIR to a folder with room, raise --memory, or evaluate fewer rows."
    if error.errno in _FULL:
        if error.errno == errno.EFBIG:
            return UsageError(f"{folder} takes no file of {in_gb(needed)}: {error.strerror}", where=_WHERE, fix=fix)
        free = shutil.disk_usage(folder).free
        what = f"{folder} is full: a file of at least {in_gb(needed)} is needed there, and {in_gb(free)} are free"
        return UsageError(what, where=_WHERE, fix=fix)
    what = f"{folder or 'the folder for temporary files'} cannot be written: {error.strerror or error}"
    return UsageError(what, where=_WHERE, fix=fix)
