"""Reads the headers of a file of MXNet arrays, so that its size is known to be right before memory is taken.

The file is a list of arrays and a list of their names. MXNet's reader allocates whatever a header says, and finds out
at the end of the file that it was wrong.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from trainer.errors import UsageError, last_line, listed
from trainer.reading import Unreadable, check_memory

LIST = 0x112
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
"""The first word of an array. Before version 1 an array began with its number of axes."""
MOST_AXES = 32
LONGEST_NAME = 10_000
DENSE = 0
TYPES = {
    0: ("float32", 4), 1: ("float64", 8), 2: ("float16", 2), 3: ("uint8", 1), 4: ("int32", 4), 5: ("int8", 1),
    6: ("int64", 8), 7: ("bool", 1), 12: ("bfloat16", 2),
}  # fmt: skip
"""MXNet's numbers of types, with their names and bytes."""


Found = TypeVar("Found")


@dataclass(frozen=True)
class Header:
    """An array's shape and type."""

    shape: tuple[int, ...]
    dtype: str


def read_headers(path: Path) -> dict[str, Header]:
    """The shape and type of each array in a file of named arrays, which is as long as they say.

    Raises UsageError for a file that is not one, that is cut or has something at its end, or that does not fit into
    memory.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            found = _Reader(file, size).headers()
        check_memory(size, "its arrays")
    except Unreadable as error:
        raise UsageError(f"it is not a usable file of MXNet parameters: {error}", where=str(path)) from error
    except OSError as error:
        raise UsageError(f"it cannot be read: {error.strerror or error}", where=str(path)) from error
    return found


def read_parameters(path: str | Path) -> dict[str, Any]:
    """MXNet's arrays in a file of named arrays, such as `save_parameters` writes, without `arg:` and `aux:`.

    Their sizes are checked before any memory is taken. Raises UsageError for a file that is not one, that is cut or
    has something at its end, or that does not fit into memory.
    """
    from trainer.mxnet import mx

    path = Path(path)
    headers = read_headers(path)
    try:
        found = mx.nd.load(str(path)) if headers else {}
    except mx.MXNetError as error:
        raise UsageError(f"it is not a usable file of MXNet parameters: {last_line(error)}", where=str(path)) from error
    plain = without_kinds(found)
    if len(plain) != len(found):
        raise UsageError("it has a parameter twice, as arg: and as aux:", where=str(path))
    return plain


def without_kinds(found: Mapping[str, Found]) -> dict[str, Found]:
    """The arrays under the names of the parameters: without `arg:` and `aux:`."""
    return {name.removeprefix("arg:").removeprefix("aux:"): header for name, header in found.items()}


def check_parameters(path: Path, found: Mapping[str, Header], wanted: Mapping[str, tuple[int, ...] | None]) -> None:
    """Raises UsageError unless the arrays of a file are the wanted ones; a length of 0 or None stands for any."""
    differing = differences(found, wanted)
    if differing:
        raise UsageError(f"the net has other parameters: {listed(sorted(differing), 5)}", where=str(path))


def differences(found: Mapping[str, Header], wanted: Mapping[str, tuple[int, ...] | None]) -> list[str]:
    """How the saved arrays differ from the parameters of a net, a phrase each; a length of 0 or None stands for any."""
    differing = [f"{name} is missing" for name in found if name not in wanted]
    differing += [f"{name} was not saved" for name in wanted if name not in found]
    for name in found.keys() & wanted.keys():
        shape, own = wanted[name], found[name].shape
        fits = shape is None or (
            len(shape) == len(own) and all(a in (0, -1, b) for a, b in zip(shape, own, strict=True))
        )
        if not fits:
            differing.append(f"{name} has the shape {shape} in place of {own}")
    return differing


class _Reader:
    """Goes from header to header, past the values."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._size = size

    def headers(self) -> dict[str, Header]:
        kind, _, count = self._numbers("QQQ")
        if kind != LIST:
            raise Unreadable("it does not begin as one")
        arrays = [self._array() for _ in range(self._counted(count, 8))]
        (named,) = self._numbers("Q")
        names = [self._name() for _ in range(self._counted(named, 8))]
        if self._file.tell() != self._size:
            raise Unreadable(f"it has {self._size} bytes, and its arrays end at {self._file.tell()}")
        if arrays and not names:
            raise Unreadable("its arrays have no names")
        if len(names) != len(arrays) or len(set(names)) != len(names):
            raise Unreadable(f"it has {len(arrays)} arrays and {len(set(names))} names")
        return dict(zip(names, arrays, strict=True))

    def _array(self) -> Header:
        (word,) = self._numbers("I")
        if word in (V2, V3):
            (kind,) = self._numbers("i")
            if kind != DENSE:
                raise Unreadable("it has a sparse array")
            (axes,) = self._numbers("i")
        elif word == V1:
            (axes,) = self._numbers("I")
        else:
            axes = word
        if not 0 <= axes <= MOST_AXES:
            raise Unreadable(f"an array has {axes} axes")
        shape = self._numbers(("I" if word <= MOST_AXES else "q") * axes)
        if not axes and word != V3:
            return Header((), "float32")  # an array without values, of which nothing else is stored
        _, _, number = self._numbers("iii")
        if number not in TYPES:
            raise Unreadable(f"an array has the type {number}, which MXNet does not have")
        dtype, each = TYPES[number]
        if any(length < 0 for length in shape):
            raise Unreadable(f"an array has the shape {shape}")
        self._skip(math.prod(shape) * each, f"an array {shape} of {dtype}")
        return Header(shape, dtype)

    def _name(self) -> str:
        (length,) = self._numbers("Q")
        if length > LONGEST_NAME:
            raise Unreadable(f"a name has {length} bytes")
        try:
            return self._bytes(length).decode()
        except UnicodeDecodeError as error:
            raise Unreadable("a name is not UTF-8") from error

    def _counted(self, count: int, least: int) -> int:
        """A number of entries with at least so many bytes each, if the file is long enough for them."""
        if count * least > self._size - self._file.tell():
            raise Unreadable(f"it says that it has {count} entries, and has {self._size} bytes")
        return count

    def _numbers(self, form: str) -> tuple[int, ...]:
        return struct.unpack(f"<{form}", self._bytes(struct.calcsize(f"<{form}")))

    def _bytes(self, length: int) -> bytes:
        content = self._file.read(length)
        if len(content) != length:
            raise Unreadable("it is cut")
        return content

    def _skip(self, length: int, what: str) -> None:
        if length > (left := self._size - self._file.tell()):
            raise Unreadable(f"it is cut: {what} has {length} bytes, and {left} follow")
        self._file.seek(length, os.SEEK_CUR)
