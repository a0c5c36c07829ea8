"""Files as bytes: decompressed on the fly, with a count of what was read from the disk."""

from __future__ import annotations

import bz2
import gzip
import io
from pathlib import Path
from typing import Any

COMPRESSIONS = (".gz", ".bz2", ".zst")
BAD = (OSError, EOFError)
"""What reading raises for a damaged file, apart from zlib.error."""
BUFFER_BYTES = 1 << 20


class OpenedFile:
    """A file whose `read1` gives its decompressed bytes."""

    def __init__(self, path: Path) -> None:
        self._counted = _Counted(path)
        raw = io.BufferedReader(self._counted, BUFFER_BYTES)
        makers: dict[str, Any] = {".gz": _gzip, ".bz2": bz2.BZ2File, ".zst": _Zstandard}
        self._file: Any = makers.get(path.suffix.lower(), lambda file: file)(raw)

    @property
    def bytes_read(self) -> int:
        """The bytes read so far, before decompression."""
        return self._counted.bytes

    def read1(self, size: int) -> bytes:
        """At most `size` bytes, as many as are there; none at the end."""
        data: bytes = self._file.read1(size)
        return data

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        self._counted.close()


def opened(path: Path) -> OpenedFile:
    """Opens a file to read; what the suffix names as compressed is decompressed."""
    return OpenedFile(path)


def _gzip(raw: Any) -> Any:
    return gzip.GzipFile(fileobj=raw)


class _Counted(io.RawIOBase):
    """A file that counts the bytes read."""

    def __init__(self, path: Path) -> None:
        self._raw = path.open("rb", buffering=0)
        self.bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count: int = self._raw.readinto(buffer) or 0
        self.bytes += count
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Zstandard:
    """Zstandard, which Python's own library lacks. pyarrow reads in the thread that asks."""

    def __init__(self, raw: Any) -> None:
        import pyarrow as pa

        self._file = pa.CompressedInputStream(raw, "zstd")

    def read1(self, size: int) -> bytes:
        import pyarrow as pa

        try:
            data: bytes = self._file.read(size)
        except pa.ArrowException as error:
            raise OSError(str(error).splitlines()[0]) from error
        return data

    def close(self) -> None:
        self._file.close()
