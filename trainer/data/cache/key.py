"""What a cache is found by: the files that it comes from, and what was made of them."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from trainer.data.cache.layout import VERSION
from trainer.data.checksum import Checksum
from trainer.errors import UsageError

READ_BYTES = 1 << 20
PACKAGES = ("gluon-trainer", "numpy", "pyarrow")
"""The packages whose versions can change the encoded rows."""
UNCERTAIN_NS = 10**9
"""A file that was changed this shortly before it was looked at may change again without a new time."""


@dataclass(frozen=True)
class Stamp:
    """A file as it looks from outside: its path without links, its size in bytes, and when it was changed."""

    path: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """The stamp of a file now. Raises UsageError if it cannot be looked at."""
        try:
            found = path.stat()
        except OSError as error:
            raise UsageError(f"it cannot be read: {error.strerror or error}", where=str(path)) from error
        return cls(os.path.realpath(path), found.st_size, found.st_mtime_ns)


@dataclass(frozen=True)
class Key:
    """Files in their order, and settings (any JSON value), with the versions of what encodes the rows.

    `seen_ns` is when the files were looked at, in nanoseconds since 1970.
    """

    files: tuple[Stamp, ...]
    settings: Any
    versions: Mapping[str, str]
    seen_ns: int = field(compare=False)

    @classmethod
    def of(cls, files: Iterable[str | Path], settings: Any) -> Key:
        """The key of files as they are now; none of them is opened. Raises UsageError if one is not there."""
        seen = time.time_ns()
        return cls(tuple(Stamp.of(Path(path)) for path in files), settings, versions(), seen)

    @cached_property
    def family(self) -> str:
        """What all keys share that differ in nothing but paths and times."""
        return _short([VERSION, self.settings, self.versions, [file.size for file in self.files]], 12)

    @cached_property
    def id(self) -> str:
        """The name of the cache that is built for this key."""
        return f"{self.family}-{_short([[file.path, file.mtime_ns] for file in self.files], 8)}"

    @property
    def is_certain(self) -> bool:
        """Whether the files would have another time if they had been changed after they were looked at."""
        return all(file.mtime_ns < self.seen_ns - UNCERTAIN_NS for file in self.files)

    @cached_property
    def content(self) -> list[str]:
        """The checksum of each file's bytes, which reads them all. Raises UsageError."""
        return content_of(self)

    def check_unchanged(self) -> None:
        """Raises UsageError if a file is no longer what it was when the key was made."""
        for file in self.files:
            now = Stamp.of(Path(file.path))
            if now != file:
                size = f": it has {now.size:,} bytes, and had {file.size:,}" if now.size != file.size else ""
                raise UsageError(
                    f"the file changed while it was read{size}", where=file.path, fix="Try again once it is complete."
                )


def content_of(key: Key, wanted: Callable[[], bool] = lambda: True) -> list[str]:
    """The checksum of the bytes of each file, read once. Raises UsageError.

    As soon as `wanted` returns false, it stops, and returns those that it has.
    """
    found: list[str] = []
    buffer = np.empty(READ_BYTES, np.uint8)
    for file in key.files:
        checksum = Checksum()
        try:
            with Path(file.path).open("rb", buffering=0) as source:
                while size := source.readinto(buffer.data):
                    if not wanted():
                        return found
                    checksum.add(buffer[:size])
        except OSError as error:
            raise UsageError(f"it cannot be read: {error.strerror or error}", where=file.path) from error
        found.append(checksum.hex())
    return found


@cache
def versions() -> Mapping[str, str]:
    """The versions of the packages that can change the encoded rows."""
    return {name: version(name) for name in PACKAGES}


def _short(value: Any, digits: int) -> str:
    text = json.dumps(value, sort_keys=True, allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:digits]
