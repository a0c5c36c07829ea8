"""A state as JSON and arrays, and the arrays as an .npz archive; neither needs pickle."""

from __future__ import annotations

import hashlib
import math
import os
import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from trainer.errors import TrainerError, first_line
from trainer.reading import Unreadable, check_memory

_SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
Read = TypeVar("Read")


def split(value: Any, path: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """`value` as JSON: an array is put into `arrays` and replaced by {"$array": name}, NaN by {"$float": "nan"}.

    `path` names the value in errors. Raises TrainerError for a value that is neither JSON nor an array of numbers.
    """
    if hasattr(value, "asnumpy"):
        value = value.asnumpy()
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TrainerError(f"{path} is an array of Python objects, which only pickle could store")
        name = _name(path, arrays)
        arrays[name] = value
        return {"$array": name}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return _split_mapping(value, path, arrays)
    if isinstance(value, (list, tuple)):
        return [split(part, f"{path}/{number}", arrays) for number, part in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TrainerError(f"{path} is a {type(value).__name__}; a state consists of JSON values and arrays")


def _name(path: str, taken: Collection[str]) -> str:
    """The name of the array at `path` in the archive: the path, unless an archive cannot hold it as a name.

    A NUL or thousands of characters would not fit; and numpy strips `.npy` from a name when it reads it back.
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
            raise TrainerError(f"{path} has the key {key!r}, which is not a string; JSON would turn it into one")
    if len(value) == 1 and set(value) <= {"$array", "$float"}:
        (key,) = value
        raise TrainerError(f"{path} is {{{key!r}: …}}, which is reserved; use another key")
    return {key: split(part, f"{path}/{key}" if path else key, arrays) for key, part in value.items()}


def names_in(value: Any) -> set[str]:
    """The names of the arrays that a split value refers to. Raises Unreadable for a reference that is not a name."""
    if isinstance(value, dict):
        if set(value) == {"$array"}:
            if not isinstance(value["$array"], str):
                raise Unreadable("an array's name is not a string")
            return {value["$array"]}
        return set().union(*map(names_in, value.values()))
    return set().union(*map(names_in, value)) if isinstance(value, list) else set()


def joined(value: Any, arrays: Mapping[str, Any]) -> Any:
    """The value that `split` was given."""
    if isinstance(value, dict):
        if set(value) == {"$array"}:
            return arrays[value["$array"]]
        if set(value) == {"$float"}:
            return _SPECIAL[value["$float"]]
        return {key: joined(part, arrays) for key, part in value.items()}
    if isinstance(value, list):
        return [joined(part, arrays) for part in value]
    return value


# ---- reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stored:
    """An array that was not read yet."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class StoredArrays:
    """The arrays of an archive, whose sizes are known before any of them is read.

    Archives come from other machines, and zipfile and numpy raise whatever they come across: each failure becomes
    Unreadable, with a reason.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.described = self._reading(self._headers)

    def load(self) -> dict[str, NDArray[Any]]:
        """All arrays by name. Raises Unreadable, also if memory is short."""
        check_memory(sum(each.nbytes for each in self.described.values()), "its arrays")
        return self._reading(self._arrays)

    def _reading(self, read: Callable[[zipfile.ZipFile], Read]) -> Read:
        try:
            with zipfile.ZipFile(self._path) as archive:
                return read(archive)
        except Unreadable:
            raise
        except Exception as error:
            raise Unreadable(f"{self._path.name} cannot be read: {first_line(error)}") from error

    def _headers(self, archive: zipfile.ZipFile) -> dict[str, Stored]:
        members = archive.infolist()
        if sum(member.file_size for member in members) > self._path.stat().st_size:
            raise Unreadable(f"{self._path.name} has members that are larger than itself")
        found: dict[str, Stored] = {}
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name in found or name == member.filename or member.compress_type != zipfile.ZIP_STORED:
                raise Unreadable(
                    f"{self._path.name} has the member {member.filename[:200]!r}, which is not an array of its own"
                )
            with archive.open(member) as file:
                found[name] = stored = _header(file)
                if file.tell() + stored.nbytes != member.file_size:
                    raise Unreadable(f"the array {name[:200]!r} does not have the size that it says")
        return found

    def _arrays(self, archive: zipfile.ZipFile) -> dict[str, NDArray[Any]]:
        found = {}
        for name in self.described:
            with archive.open(f"{name}.npy") as file:
                # allow_pickle=False: an array of objects is refused, not loaded.
                found[name] = np.lib.format.read_array(file, allow_pickle=False)  # type: ignore[no-untyped-call]
        return found


def _header(file: IO[bytes]) -> Stored:
    """An array's shape and type, as numpy writes them before the values."""
    version = np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
    if version not in ((1, 0), (2, 0)):
        raise Unreadable(f"an array is of version {version} of numpy's format")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)  # type: ignore[no-untyped-call]
    if dtype.hasobject:
        raise Unreadable("an array holds Python objects, which only pickle could load")
    if any(isinstance(length, bool) or not 0 <= length < 2**63 for length in shape):
        raise Unreadable(f"an array has the shape {shape}")
    return Stored(tuple(shape), dtype)


# ---- writing ---------------------------------------------------------------------------------------------------------


class _Hashing:
    """A file whose checksum is computed by another thread while it is written.

    Hashing takes about as long as writing. Both release Python's global lock, so they overlap.
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
        """The SHA-256 of everything written."""
        self._waiting.put(None)
        self._thread.join()
        return self._hash.hexdigest()

    def _work(self) -> None:
        while (data := self._waiting.get()) is not None:
            self._hash.update(data)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Writes an .npz archive and flushes it to the disk; returns its size and SHA-256.

    numpy.savez would copy every array and needs a file that can seek.
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
    """Writes one array in numpy's own format, without a copy if it is contiguous."""
    array = np.asarray(array, order="C")
    header = np.lib.format.header_data_from_array_1_0(array)  # type: ignore[no-untyped-call]
    np.lib.format.write_array_header_2_0(member, header)  # type: ignore[no-untyped-call]
    if array.size:
        member.write(array.reshape(-1).view(np.uint8).data)
