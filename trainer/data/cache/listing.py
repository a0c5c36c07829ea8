"""What there is in a folder of caches, complete or not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainer.atomic import LEFTOVER
from trainer.data.cache import manifest
from trainer.data.cache.faults import Damaged, Gone, OtherVersion
from trainer.data.cache.locks import take

ID = re.compile(r"[0-9a-f]{12}-[0-9a-f]{8}")
State = Literal["complete", "in use", "being built", "leftover", "damaged", "other version"]


@dataclass(frozen=True)
class Stored:
    """A cache in a folder, or what is left of one: its bytes, and when it was used last, in seconds since 1970."""

    id: str
    folder: Path
    state: State
    size: int
    used: float
    rows: Mapping[str, int]
    """The rows of each split; empty unless it is complete."""
    sources: tuple[str, ...]
    """The files that it was built from."""


def lock_file(folder: Path, cache: str) -> Path:
    """The file that is locked by the process that builds a cache: one for all that are found by the same settings."""
    return folder / f".{cache.partition('-')[0]}.lock"


def stored_in(folder: Path) -> list[Stored]:
    """All caches in a folder, the one used last at the end. Other files and folders are not counted."""
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        with suppress(FileNotFoundError, Gone):
            match = LEFTOVER.fullmatch(path.name)
            if ID.fullmatch(path.name):
                found.append(_complete(path))
            elif match is not None and ID.fullmatch(match[1]):
                state: State = "being built" if is_held(lock_file(folder, match[1])) else "leftover"
                found.append(Stored(match[1], path, state, size_of(path), path.stat().st_mtime, {}, ()))
    return sorted(found, key=lambda each: (each.used, each.id))


def _complete(folder: Path) -> Stored:
    size, used = size_of(folder), folder.stat().st_mtime
    with suppress(FileNotFoundError):
        used = (folder / manifest.USED).stat().st_mtime
    try:
        about = manifest.read(folder)
        for split, entry in about.splits.items():
            manifest.check_size(folder, split, entry)
    except OtherVersion:
        return Stored(folder.name, folder, "other version", size, used, {}, ())
    except Damaged:
        return Stored(folder.name, folder, "damaged", size, used, {}, ())
    rows = {split: entry.rows for split, entry in about.splits.items()}
    state: State = "in use" if is_held(folder / manifest.USED) else "complete"
    return Stored(folder.name, folder, state, size, used, rows, tuple(about.sources))


def is_held(path: Path) -> bool:
    """Whether a lock excludes that the file's cache is removed; false if there is no such file."""
    try:
        lock = take(path)
    except FileNotFoundError:
        return False
    except OSError:
        # It belongs to someone else: who cannot lock it cannot remove it.
        return True
    if lock is None:
        return True
    lock.release()
    return not lock.certain


def size_of(folder: Path) -> int:
    """The bytes of all files in a folder and below."""
    return sum(size for size in _sizes(folder))


def _sizes(folder: Path) -> Iterator[int]:
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if not path.is_symlink() and path.is_file():
                yield path.stat().st_size
