"""Writes a cache: split by split, from any number of threads and processes."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.atomic import flush_folder, write_json
from trainer.data.cache import manifest
from trainer.data.cache.faults import disk_errors
from trainer.data.cache.key import Key, content_of
from trainer.data.cache.layout import VERSION, Layout
from trainer.data.cache.split_file import Encoded, SplitFile
from trainer.data.checksum import checksum_of
from trainer.errors import TrainerError
from trainer.reading import checked

if TYPE_CHECKING:
    import pyarrow as pa

    from trainer.data.cache.entry import Entry


class Joined:
    """Writes rows to a cache that another process of this machine is building, in the folder `path`."""

    def __init__(self, path: Path, mark: str) -> None:
        self.path = path
        self._mark = mark
        self._splits: dict[str, SplitFile] = {}

    @classmethod
    def at(cls, path: Path) -> Joined:
        """Joins the process that builds in a folder, its `Writer.path`. Raises Damaged or Gone if none does."""
        return cls(path, manifest.read_building(path).mark)

    def open(self, split: str, rows: int, layout: Layout) -> None:
        """Makes a split ready for `write`; the process that builds has opened it before, with the same values."""
        file = SplitFile(self.path, split, rows, layout, self._mark)
        with disk_errors(self.path.parent):
            file.attach()
        self._splits[split] = file

    def write(self, split: str, first: int, rows: Encoded) -> None:
        """Writes the rows of a split from the number `first` on, from 0: in any order, from any thread, each row once.

        Raises CacheUnwritable if the disk refuses them.
        """
        with disk_errors(self.path.parent, self.size):
            self._splits[split].write(first, rows)

    @property
    def size(self) -> int:
        """The bytes of all splits that were opened."""
        return sum(file.size for file in self._splits.values())

    def close(self) -> None:
        """Closes the files. All rows of this process have to be written."""
        for file in self._splits.values():
            file.close()


class Writer(Joined):
    """Builds a cache in the folder `path`, which takes its place once `finish` has been called."""

    def __init__(self, path: Path, key: Key, make_room: Callable[[int, Path], None]) -> None:
        super().__init__(path, secrets.token_hex(16))
        self._key = key
        self._make_room = make_room
        self._ended = threading.Event()
        self._threads = ThreadPoolExecutor(1)
        # The bytes of the files are read for it a second time, while they still are in memory.
        self._content: Future[list[str]] = self._threads.submit(content_of, key, lambda: not self._ended.is_set())
        write_json(path / manifest.BUILDING, {"version": VERSION, "mark": self._mark})
        self.finished = False
        self.entry: Entry | None = None
        """The complete cache, once the block of `Store.build` has ended."""

    def open(self, split: str, rows: int, layout: Layout) -> None:
        """Reserves the room of a split. Raises CacheUnwritable if the disk, or the cache's limit, is too small."""
        if split in self._splits:
            raise TrainerError(f"the split {split} is open already")
        file = SplitFile(self.path, split, rows, layout, self._mark)
        taken = self.size
        self._make_room(taken + file.size, self.path)
        try:
            file.create()
        except OSError as error:
            raise file.refused(error, taken + file.size, taken) from error
        self._splits[split] = file

    def finish(self, meta: Any = None, files: Mapping[str, bytes | pa.Table] | None = None) -> None:
        """Completes the cache with `meta`, any JSON value, and further files by name; it counts when the block ends.

        Raises UsageError if one of the files that the rows come from has changed, CacheUnwritable if the disk refuses,
        and TrainerError if rows are missing.
        """
        content = self._content.result()
        self._key.check_unchanged()
        with disk_errors(self.path.parent, self.size):
            splits = {split: file.complete() for split, file in self._splits.items()}
            further = self._write_files(files or {})
            value = {
                "version": VERSION,
                "mark": self._mark,
                "created": time.time(),
                "settings": self._key.settings,
                "versions": dict(self._key.versions),
                "sources": [file.path for file in self._key.files],
                "content": content,
                "splits": {split: entry.model_dump() for split, entry in splits.items()},
                "files": further,
                "meta": meta,
            }
            checked(manifest.Manifest, value)
            write_json(self.path / manifest.MANIFEST, value)
            manifest.remember(self.path, self._key)
            (self.path / manifest.USED).touch()
            (self.path / manifest.BUILDING).unlink()
            flush_folder(self.path)
        self.finished = True

    def _write_files(self, files: Mapping[str, bytes | pa.Table]) -> dict[str, dict[str, Any]]:
        folder = self.path / manifest.FILES
        folder.mkdir()
        found = {}
        for name, given in files.items():
            content = given if isinstance(given, bytes) else _as_file(given)
            with (folder / name).open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            found[name] = {"bytes": len(content), "checksum": checksum_of(np.frombuffer(content, np.uint8))}
        flush_folder(folder)
        return found

    def close(self) -> None:
        """Closes the files, and ends the thread."""
        self._ended.set()
        self._threads.shutdown()
        with suppress(Exception):
            self._content.result()
        super().close()


def _as_file(table: pa.Table) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
