"""Files that are either the old version or the new one, never half of one."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from trainer.errors import UsageError


def write_atomic(path: Path, content: str | bytes) -> None:
    """Writes to a temporary name beside `path`, flushes it to the disk, and renames."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, which becomes `path` at the end of the block; after an error nothing is left of it."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files for their owner alone; these are as readable as any other output.
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
    flush_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """`value` as indented JSON, atomically."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def cut_back(path: Path, size: int) -> None:
    """Shortens a file to the size that it had when a checkpoint was written: what came later is written again.

    Raises UsageError for a file that is gone or shorter than that, since something else has changed it.
    """
    found = path.stat().st_size if path.is_file() else 0
    if found < size:
        raise UsageError(
            f"it has {found} bytes, but had {size} when the checkpoint was written",
            where=str(path),
            fix="Put it back, or go on from a checkpoint that is older than the change.",
        )
    if found > size:
        os.truncate(path, size)


def shown(path: Path) -> str:
    """The path as a user would type it here: relative where that is inside the current folder."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def put_folder(new: Path, folder: Path) -> None:
    """Gives the folder `new` its name; what had the name before goes only once that is done."""
    if not folder.exists():
        new.rename(folder)
        return
    old = new.with_name(f"{new.name}.old")
    folder.rename(old)
    try:
        new.rename(folder)
    except BaseException:
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def flush_folder(folder: Path) -> None:
    """Makes renames and new names in the folder last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
