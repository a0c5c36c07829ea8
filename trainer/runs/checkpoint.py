"""Checkpoints on disk: arrays and JSON, written completely or not at all, and checked when they are read.

`<run>/checkpoints/step-<n>/` (within an epoch) or `step-<n>-epoch-<m>/` (after the end of epoch m) holds `arrays.npz`,
`state.json` and, written last, `manifest.json` with the sizes and the SHA-256 of the two. Nothing is pickled, and no
name in them is used as a path, so reading one can neither run code nor leave the folder. What a state means is
`trainer.runs.state`'s.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import secrets
import shutil
import time
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from trainer.atomic import flush_folder, put_folder, write_atomic, write_json
from trainer.errors import TrainerError

SCHEMA = 1
FOLDER = "checkpoints"
ARRAYS = "arrays.npz"
STATE = "state.json"
MANIFEST = "manifest.json"

NAME = re.compile(r"(step|failed)-(\d+)(-epoch-\d+)?")
"""`failed-<n>` is the state in the middle of a step that failed: good weights, but a run that goes on from it does not
equal one that never failed."""


class CheckpointError(TrainerError):
    """A checkpoint that cannot be used; the message says which and why."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose manifest was read and whose files have the right sizes."""

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def step(self) -> int:
        """The last step that is in it."""
        return int(self.manifest["step"])

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """The newest figures when it was written; null for what was not finite."""
        metrics: Mapping[str, float | None] = self.manifest["metrics"]
        return metrics

    @property
    def is_exact(self) -> bool:
        """Whether a run that goes on from it equals one that never stopped."""
        return self.folder.name.startswith("step-")

    @property
    def is_epoch_end(self) -> bool:
        """Whether it was written after the end of an epoch, so that its figures are those of its weights."""
        return "-epoch-" in self.folder.name

    def read(self) -> dict[str, Any]:
        """The state, with its arrays, after checking every byte. Raises CheckpointError."""
        for name, about in self.manifest["files"].items():
            if _digest(self.folder / name) != about["sha256"]:
                raise CheckpointError(f"{self.folder}: {name} is damaged: it does not have its checksum")
        try:
            # allow_pickle=False: an array of objects is refused, not loaded.
            with np.load(self.folder / ARRAYS, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            if not all(isinstance(array, np.ndarray) for array in arrays.values()):
                raise ValueError(f"{ARRAYS} holds what is no array")
            state = _joined(json.loads((self.folder / STATE).read_text(encoding="utf-8")), arrays)
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise CheckpointError(f"{self.folder} cannot be read: {error}") from error
        if not isinstance(state, dict):
            raise CheckpointError(f"{self.folder}: {STATE} holds no state")
        return state


def write(run_folder: Path, name: str, state: Mapping[str, Any], about: Mapping[str, Any]) -> Checkpoint:
    """Writes a checkpoint; one of the same name is replaced once the new one is complete.

    `about` goes into the manifest, which readers see without reading the arrays: `step`, `epoch`, `reason`, `metrics`.
    Raises TrainerError where the disk refuses or the state holds what JSON and arrays cannot; nothing is left then.
    """
    assert NAME.fullmatch(name)  # noqa: S101
    arrays: dict[str, NDArray[Any]] = {}
    plain = _split(state, "", arrays)
    folder = run_folder / FOLDER / name
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        text = json.dumps(plain, ensure_ascii=False, allow_nan=False).encode()
        write_atomic(temporary / STATE, text)
        files = {
            ARRAYS: _write_arrays(temporary / ARRAYS, arrays),
            STATE: {"bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()},
        }
        manifest = {"schema": SCHEMA, "time": time.time(), **about, "files": files}
        write_json(temporary / MANIFEST, manifest)
        put_folder(temporary, folder)
        flush_folder(folder.parent)
    except OSError as error:
        reason = error.strerror or error
        raise TrainerError(f"the checkpoint of step {about['step']} cannot be written: {reason}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Checkpoint(folder, manifest)


def find(run_folder: Path) -> Iterator[Checkpoint | CheckpointError]:
    """Every checkpoint of a run, the newest first, those that cannot be used as the error that says why.

    Reads the manifests alone; `Checkpoint.read` checks the rest.
    """
    named = [(match, folder) for folder in _children(run_folder / FOLDER) if (match := NAME.fullmatch(folder.name))]
    # Of those at one step an exact one counts as newer, and the one after the epoch's end as newest.
    for _, folder in sorted(named, key=lambda pair: (int(pair[0][2]), pair[0][1], pair[0][3] or ""), reverse=True):
        try:
            yield _opened(folder)
        except CheckpointError as error:
            yield error


def complete(run_folder: Path) -> list[Checkpoint]:
    """The checkpoints that can be used, by their manifests, the newest first."""
    return [found for found in find(run_folder) if isinstance(found, Checkpoint)]


def remove(checkpoint: Checkpoint) -> None:
    """Takes a checkpoint away; one that is half removed is not taken for a whole one."""
    gone = checkpoint.folder.with_name(f".{checkpoint.folder.name}.{secrets.token_hex(4)}")
    with suppress(OSError):
        checkpoint.folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def remove_leftovers(run_folder: Path) -> None:
    """Takes away what a process that was killed in the middle of a save has left."""
    for folder in _children(run_folder / FOLDER):
        if folder.name.startswith("."):
            shutil.rmtree(folder, ignore_errors=True)


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _opened(folder: Path) -> Checkpoint:
    """The checkpoint in a folder. Raises CheckpointError."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} is not complete: it has no {MANIFEST}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: {MANIFEST} cannot be read: {error}") from error
    try:
        if manifest["schema"] != SCHEMA:
            newer = "a newer" if manifest["schema"] > SCHEMA else "another"
            raise CheckpointError(f"{folder} was written by {newer} version of this program")
        # The names are ours, never the manifest's: what it says must not lead to another file.
        expected = {name: int(manifest["files"][name]["bytes"]) for name in (ARRAYS, STATE)}
        well_formed = set(manifest["files"]) == set(expected) and isinstance(manifest["metrics"], dict)
        if not well_formed or int(manifest["step"]) < 0:
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CheckpointError(f"{folder}: {MANIFEST} is damaged") from None
    for name, size in expected.items():
        found = (folder / name).stat().st_size if (folder / name).is_file() else None
        if found != size:
            raise CheckpointError(f"{folder}: {name} is damaged: it has {found or 'no'} bytes instead of {size}")
    return Checkpoint(folder, manifest)


# ---- files ----------------------------------------------------------------------------------------------------------


class _Hashing:
    """A file whose checksum is computed, by a thread of its own, while it is written.

    Hashing takes about as long as writing does, and both leave Python's lock alone, so the two overlap.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._waiting: SimpleQueue[Any] = SimpleQueue()
        self._thread = Thread(target=self._work, daemon=True)
        self._thread.start()
        self.bytes = 0

    def write(self, data: Any) -> int:
        self._waiting.put(data)
        written = self._file.write(data)
        self.bytes += written
        return written

    def flush(self) -> None:
        self._file.flush()

    def finish(self) -> str:
        """The checksum of all that was written."""
        self._waiting.put(None)
        self._thread.join()
        return self._hash.hexdigest()

    def _work(self) -> None:
        while (data := self._waiting.get()) is not None:
            self._hash.update(data)


def _write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Writes an .npz archive and flushes it to the disk; returns its size and checksum.

    As numpy.savez would, which copies every array and can only write to what it can seek in.
    """
    with path.open("wb", buffering=1 << 20) as file:
        hashing = _Hashing(file)
        try:
            with zipfile.ZipFile(hashing, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
                for name, array in arrays.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        _write_array(member, array)
            file.flush()
            os.fsync(file.fileno())
        finally:
            checksum = hashing.finish()
    return {"bytes": hashing.bytes, "sha256": checksum}


def _write_array(member: IO[bytes], array: NDArray[Any]) -> None:
    """One array in numpy's own format, without a copy where it is contiguous."""
    array = np.asarray(array, order="C")
    header = np.lib.format.header_data_from_array_1_0(array)  # type: ignore[no-untyped-call]
    np.lib.format.write_array_header_2_0(member, header)  # type: ignore[no-untyped-call]
    if array.size:
        member.write(array.reshape(-1).view(np.uint8).data)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


# ---- a state as JSON and arrays -------------------------------------------------------------------------------------


def _split(value: Any, path: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """`value` as JSON: an array is put into `arrays` and replaced by {"$array": name}, NaN by {"$float": "nan"}."""
    if hasattr(value, "asnumpy"):
        value = value.asnumpy()
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TrainerError(f"{path} is an array of Python objects, which only pickle could hold")
        name = _name(path, arrays)
        arrays[name] = value
        return {"$array": name}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return _split_mapping(value, path, arrays)
    if isinstance(value, (list, tuple)):
        return [_split(part, f"{path}/{number}", arrays) for number, part in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TrainerError(f"{path} is a {type(value).__name__}; a state holds JSON values and arrays")


def _name(path: str, taken: Collection[str]) -> str:
    """What the array at `path` is called in the archive: the path, unless an archive cannot hold it as a name.

    It cannot with a NUL, or thousands of characters; and what ends in .npy reads back as another one's name.
    """
    if path not in taken and path.isprintable() and len(path) < 1000 and not path.endswith(".npy"):
        return path
    number = len(taken)
    while f"array-{number}" in taken:
        number += 1
    return f"array-{number}"


def _split_mapping(value: Mapping[Any, Any], path: str, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    for key in value:
        if not isinstance(key, str):
            raise TrainerError(f"{path} has the key {key!r}, which is not a string, as JSON would make of it")
    if len(value) == 1 and set(value) <= {"$array", "$float"}:
        (key,) = value
        raise TrainerError(f"{path} is {{{key!r}: …}}, which stands for something else; use another key")
    return {key: _split(part, f"{path}/{key}" if path else key, arrays) for key, part in value.items()}


def _joined(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """What `_split` was given."""
    if isinstance(value, dict):
        if set(value) == {"$array"}:
            return arrays[value["$array"]]
        if set(value) == {"$float"}:
            return float(value["$float"])
        return {key: _joined(part, arrays) for key, part in value.items()}
    if isinstance(value, list):
        return [_joined(part, arrays) for part in value]
    return value
