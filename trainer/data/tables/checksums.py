"""The fingerprint of a table: a checksum of each column, whatever parts the table was read in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.data.checksum import Checksum
from trainer.data.fingerprint import TableFingerprint
from trainer.data.tables.values import plain, plain_type

if TYPE_CHECKING:
    import pyarrow as pa


MANY = 1 << 20
"""Rows without a missing value, which count as soon as there is one."""


def fingerprint_of(table: pa.Table) -> TableFingerprint:
    """The rows, and the checksum of each column. What is stored for a missing value does not matter."""
    names = table.column_names
    return TableFingerprint(table.num_rows, {name: _of_column(table.column(name)) for name in names})


def _of_column(values: pa.ChunkedArray) -> str:
    found = ColumnChecksum(plain_type(values.type))
    found.add(values)
    return found.text()


class ColumnChecksum:
    """The checksum of a column that comes in pieces; it does not depend on how it is cut."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        # Apart from each other, so that the parts in which a table is read do not matter.
        self._content, self._missing, self._lengths = Checksum(), Checksum(), Checksum()
        self._rows = 0
        self._has_missing = False

    def add(self, values: pa.ChunkedArray) -> None:
        """Adds the values of the next rows."""
        import pyarrow as pa
        from pyarrow import compute

        kind, values = self._kind, plain(values)
        if values.null_count and not self._has_missing and not pa.types.is_null(kind):
            self._has_missing = True
            for start in range(0, self._rows, MANY):
                self._missing.add(np.zeros(min(MANY, self._rows - start), np.uint8))
        self._rows += len(values)
        for chunk in values.chunks:
            if pa.types.is_null(kind) or not len(chunk):
                continue
            if self._has_missing:
                self._missing.add(compute.is_null(chunk).cast(pa.uint8()).to_numpy(zero_copy_only=False))
            if pa.types.is_boolean(kind):
                self._content.add(chunk.fill_null(False).cast(pa.uint8()).to_numpy(zero_copy_only=False))
            elif pa.types.is_string(kind) or pa.types.is_binary(kind):
                _add_texts(self._content, self._lengths, chunk)
            elif pa.types.is_primitive(kind) or pa.types.is_decimal(kind):
                _add_numbers(self._content, chunk)
            else:
                _add_others(self._content, chunk)

    def text(self) -> str:
        """The checksum of all that was added."""
        found = Checksum()
        for part in (str(self._kind), self._content.hex(), self._missing.hex(), self._lengths.hex()):
            found.add(np.frombuffer(part.encode(), np.uint8))
        return found.hex()


def _add_numbers(content: Checksum, chunk: pa.Array) -> None:
    """Values of a fixed width."""
    import pyarrow as pa

    width = chunk.type.bit_width // 8
    data = np.frombuffer(chunk.buffers()[1], np.uint8)[chunk.offset * width : (chunk.offset + len(chunk)) * width]
    if chunk.null_count:
        present = chunk.is_valid().cast(pa.uint8()).to_numpy(zero_copy_only=False).astype(bool)
        data = np.where(present[:, None], data.reshape(-1, width), np.uint8(0))
    content.add(data)


def _add_texts(content: Checksum, lengths: Checksum, chunk: pa.Array) -> None:
    import pyarrow as pa

    if chunk.null_count:
        chunk = chunk.fill_null("" if pa.types.is_string(chunk.type) else b"")
    _, offsets, data = chunk.buffers()
    ends = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
    lengths.add(np.diff(ends))
    if data is not None:
        content.add(np.frombuffer(data, np.uint8)[ends[0] : ends[-1]])


def _add_others(content: Checksum, chunk: pa.Array) -> None:
    """Values of types that nothing is learned from, such as lists, as Arrow writes them."""
    import pyarrow as pa

    batch = pa.record_batch([pa.concat_arrays([chunk])], names=["values"])
    content.add(np.frombuffer(batch.serialize(), np.uint8))
