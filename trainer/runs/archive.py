"""A state as JSON and arrays, and the arrays as an .npz archive; neither needs pickle."""

from __future__ import annotations

import hashlib
import math
import os
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import TrainerError


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


def joined(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """The value that `split` was given."""
    if isinstance(value, dict):
        if set(value) == {"$array"}:
            return arrays[value["$array"]]
        if set(value) == {"$float"}:
            return float(value["$float"])
        return {key: joined(part, arrays) for key, part in value.items()}
    if isinstance(value, list):
        return [joined(part, arrays) for part in value]
    return value


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
