"""Writes files and folders atomically: a reader sees the old version or the new one, never a partial one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from trainer.errors import UsageError

TEMPORARY, REPLACED = ".tmp", ".old"
"""The ends of temporary names: what is being written, and what is being replaced."""
LEFTOVER = re.compile(rf"\.(.+)\.[a-z0-9_]{{8}}({re.escape(TEMPORARY)}|{re.escape(REPLACED)})")


def write_atomic(path: Path, content: str | bytes) -> None:
    """Writes a temporary file next to `path`, flushes it to disk, and renames it."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, which is renamed to `path` at the end of the block; after an error nothing is left of it."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp creates files that only their owner can read; these get the usual permissions.
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
    flush_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def cut_back(path: Path, size: int) -> None:
    """Shortens a file to the size that it had when a checkpoint was written; later lines are written again.

    Raises UsageError if the file is gone or shorter, since something else has changed it then.
    """
    found = path.stat().st_size if path.is_file() else 0
    if found < size:
        raise UsageError(
            f"it has {found} bytes, but had {size} when the checkpoint was written",
            where=str(path),
            fix="Restore it, or resume from a checkpoint that is older than the change.",
        )
    if found > size:
        os.truncate(path, size)


def shown(path: Path) -> str:
    """The path as a user would type it: relative if it is inside the current folder."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


@contextmanager
def new_folder(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """A hidden folder to fill, which is renamed to `folder` at the end of the block; after an error nothing is left.

    With `replace`, a folder of that name is deleted once the new one is in its place. Raises OSError if the parent
    does not exist, if `folder` exists and is not to be replaced, and for everything else that the disk refuses.
    """
    temporary = hidden_name(folder)
    try:
        temporary.mkdir()
        yield temporary
        if replace:
            _put(temporary, folder)
        else:
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    flush_folder(folder.parent)


def _put(new: Path, folder: Path) -> None:
    """Renames `new` to `folder`; the folder that had the name is deleted last."""
    if not folder.exists():
        new.rename(folder)
        return
    old = new.with_name(new.name.removesuffix(TEMPORARY) + REPLACED)
    folder.rename(old)
    try:
        new.rename(folder)
    except BaseException:
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def hidden_name(path: Path) -> Path:
    """A name next to `path` for a temporary file or folder, which `remove_leftovers` recognises."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")


def remove_leftovers(folder: Path) -> None:
    """Deletes the temporary files and folders of processes that were killed, in `folder` and below.

    A folder that was about to be replaced when the process was killed gets its name back.
    """
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = LEFTOVER.fullmatch(path.name)
        with suppress(OSError):
            if match is None:
                if path.is_dir() and not path.is_symlink():
                    remove_leftovers(path)
            elif match[2] == REPLACED and not path.with_name(match[1]).exists():
                path.rename(path.with_name(match[1]))
            elif path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal. Raises OSError."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def flush_folder(folder: Path) -> None:
    """Makes renames and new names in the folder survive a power cut."""
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


__all__ = ["cut_back", "shown", "write_atomic", "write_json"]
