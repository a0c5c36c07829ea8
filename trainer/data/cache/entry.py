"""A cache that is complete: opened, checked, and in use until nothing refers to it any more."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.data.cache import blocks
from trainer.data.cache.columns import MappedColumns, open_columns
from trainer.data.cache.faults import CorruptRows, Damaged, Gone
from trainer.data.cache.locks import Lock, take
from trainer.data.cache.manifest import FILES, SUMS, USED, Manifest, read
from trainer.data.checksum import checksum_of
from trainer.errors import TrainerError

if TYPE_CHECKING:
    import pyarrow as pa

PATIENCE = 5.0
"""Seconds."""
ATTEMPTS = 3
"""A cache may be replaced by a new one while it is opened."""


class Entry:
    """A cache: `splits` by name, `meta` as its builder gave it, and further files.

    It is not removed while it, or an array of its columns, is in use.
    """

    def __init__(self, folder: Path, manifest: Manifest, splits: Mapping[str, MappedColumns], lock: Lock) -> None:
        self.folder = folder
        self.manifest = manifest
        self.splits = splits
        self._lock = lock

    @property
    def id(self) -> str:
        """Its name."""
        return self.folder.name

    @property
    def meta(self) -> Any:
        """The JSON value that its builder gave."""
        return self.manifest.meta

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the further files."""
        return tuple(self.manifest.files)

    def file(self, name: str) -> bytes:
        """The content of a further file. Raises KeyError if there is none of that name, and Damaged."""
        entry = self.manifest.files[name]
        try:
            content = (self.folder / FILES / name).read_bytes()
        except OSError as error:
            raise Damaged(f"{name} cannot be read: {error.strerror or error}") from error
        if (len(content), checksum_of(np.frombuffer(content, np.uint8))) != (entry.bytes, entry.checksum):
            raise Damaged(f"{name} is not what was written")
        return content

    def table(self, name: str) -> pa.Table:
        """A further file that was given as a table. Raises KeyError and Damaged."""
        import pyarrow as pa

        try:
            return pa.ipc.open_file(pa.py_buffer(self.file(name))).read_all()
        except pa.ArrowException as error:
            raise Damaged(f"{name} is not a table") from error

    def verify(self) -> None:
        """Reads all rows and compares the checksums of their blocks. Raises CorruptRows with those that differ."""
        found = {split: list(self._corrupt(split)) for split in self.splits}
        found = {split: wrong for split, wrong in found.items() if wrong}
        if found:
            phrases = [
                blocks.phrase(split, block, self.splits[split].rows, self.splits[split].layout.block_rows)
                for split, wrong in found.items()
                for block in wrong
            ]
            raise CorruptRows(self.folder, found, phrases)

    def _corrupt(self, split: str) -> Iterator[int]:
        """The numbers of the blocks that differ; all of them if the checksums do not match their own."""
        columns, size = self.splits[split], self.splits[split].layout.block_rows
        count = blocks.count(columns.rows, size)
        try:
            content = (self.folder / f"{split}{SUMS}").read_bytes()
        except OSError:
            content = b""
        if len(content) % 8 or checksum_of(np.frombuffer(content, "<u8")) != self.manifest.splits[split].sums:
            yield from range(count)
            return
        sums = np.frombuffer(content, "<u8").tolist()

        def differs(block: int) -> bool:
            first = block * size
            try:
                return bool(
                    sums[block]
                    != blocks.stored_sum(columns.descriptor, columns.spans, first, min(size, columns.rows - first))
                )
            except OSError:
                return True

        # Reading and the sums both let other threads run.
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
            yield from (block for block, wrong in enumerate(threads.map(differs, range(count))) if wrong)


def open_entry(folder: Path) -> Entry:
    """Opens a cache, whatever its size in milliseconds. Raises Damaged, OtherVersion, or Gone if it was removed."""
    for attempt in range(1, ATTEMPTS + 1):
        before = _identity(folder)
        try:
            return _open(folder)
        except TrainerError:
            if attempt == ATTEMPTS or _identity(folder) == before:
                raise
    raise AssertionError


def _identity(folder: Path) -> tuple[int, int]:
    try:
        found = folder.stat()
    except FileNotFoundError:
        raise Gone(f"{folder} was removed") from None
    return found.st_dev, found.st_ino


def _in_use(path: Path) -> Lock | None:
    """A lock that says that the cache is in use; None if someone else keeps it from being used."""
    until = time.monotonic() + PATIENCE
    # Those who ask whether a cache is in use, or remove it, lock it for a moment.
    while (lock := take(path, shared=True)) is None and time.monotonic() < until:
        time.sleep(0.005)
    return lock


def _open(folder: Path) -> Entry:
    try:
        lock = _in_use(folder / USED)
    except FileNotFoundError:
        if not folder.is_dir():
            raise Gone(f"{folder} was removed") from None
        raise Damaged(f"{USED} is missing") from None
    except OSError as error:
        raise Damaged(f"{USED} cannot be opened: {error.strerror or error}") from error
    if lock is None:
        raise Gone(f"{folder} is being removed")
    manifest = read(folder)
    entry = Entry(folder, manifest, open_columns(folder, manifest.splits, lock), lock)
    # When it was used last; a folder that cannot be written does without.
    with suppress(OSError):
        os.utime(folder / USED)
    return entry
