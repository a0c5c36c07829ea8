"""What stands before and after the columns in an Arrow IPC file with one record batch, for any number of rows.

pyarrow writes such a file only with all values in memory. Here it writes one of a single row, and the numbers that
depend on the rows (lengths and offsets, which are 64-bit integers at fixed places) are replaced in its metadata. The
format of these flatbuffers is frozen: https://arrow.apache.org/docs/format/Columnar.html.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any

from trainer.data.cache.layout import PAGE, Layout, body_bytes, spans, up_to

MARK = "gluon-trainer.cache"
_MAGIC = b"ARROW1"
_CONTINUED = b"\xff\xff\xff\xff"
_END = _CONTINUED + bytes(4)
"""Ends the messages of a file, before its footer."""


@dataclass(frozen=True)
class FileFrame:
    """The bytes before the columns and after them; the first column begins at `len(head)`, a multiple of PAGE."""

    head: bytes
    tail: bytes
    size: int
    """The bytes of the whole file."""


def frame_of(layout: Layout, rows: int, *, mark: str) -> FileFrame:
    """The frame of a file with that many rows; `mark` stands in its schema's metadata and says which cache it is of."""
    content = _file_of_one_row(layout, mark)
    footer_size = struct.unpack_from("<i", content, len(content) - len(_MAGIC) - 4)[0]
    end = len(content) - len(_MAGIC) - 4
    footer = bytearray(content[end - footer_size : end])
    block = _vector(footer, _field(footer, _root(footer), 3))[0]
    start, metadata = struct.unpack_from("<qi", footer, block)
    message = bytearray(content[start + 8 : start + metadata])
    body = body_bytes(layout, rows)
    _set_lengths(message, layout, rows, body)
    # The metadata is padded up to the page at which the columns begin.
    begin = up_to(start + 8 + len(message), PAGE)
    message += bytes(begin - start - 8 - len(message))
    head = content[:start] + _CONTINUED + struct.pack("<i", len(message)) + bytes(message)
    struct.pack_into("<qi4xq", footer, block, start, len(message) + 8, body)
    tail = _END + bytes(footer) + struct.pack("<i", footer_size) + _MAGIC
    return FileFrame(head, tail, begin + body + len(tail))


def _file_of_one_row(layout: Layout, mark: str) -> bytes:
    import pyarrow as pa

    columns: dict[str, Any] = {}
    for name, kind, values in layout.columns:
        count = max(values, 1)
        # Not pa.array, which imports pandas to find out whether it is given something of its.
        content = pa.py_buffer(bytes(count * kind.itemsize))
        flat = pa.Array.from_buffers(pa.from_numpy_dtype(kind), count, [None, content])
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, values) if values else flat
    batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    batch = batch.replace_schema_metadata({MARK: mark})
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression=None)) as file:
        file.write_batch(batch)
    return sink.getvalue()


def _set_lengths(message: bytearray, layout: Layout, rows: int, body: int) -> None:
    """Writes the lengths and offsets of a record batch with `rows` rows into the message of one."""
    root = _root(message)
    struct.pack_into("<q", message, _field(message, root, 3), body)
    batch = _follow(message, _field(message, root, 2))
    struct.pack_into("<q", message, _field(message, batch, 0), rows)
    nodes, buffers = [], []
    for span in spans(layout, rows, 0):
        if span.values:
            nodes.append((rows, 0))
            buffers.append((span.offset, 0))
        nodes.append((rows * max(span.values, 1), 0))
        # A buffer of no bytes says that no value is missing.
        buffers += [(span.offset, 0), (span.offset, rows * span.row_bytes)]
    for field, values in ((1, nodes), (2, buffers)):
        first, count = _vector(message, _field(message, batch, field))
        assert count == len(values)  # noqa: S101  pyarrow has written the same columns
        for number, pair in enumerate(values):
            struct.pack_into("<qq", message, first + 16 * number, *pair)


def _root(table: bytearray) -> int:
    return _follow(table, 0)


def _follow(table: bytearray, at: int) -> int:
    """Where the offset that stands at `at` leads."""
    return at + int(struct.unpack_from("<I", table, at)[0])


def _field(table: bytearray, at: int, number: int) -> int:
    """Where a field of the table at `at` stands."""
    fields = at - int(struct.unpack_from("<i", table, at)[0])
    size = int(struct.unpack_from("<H", table, fields)[0])
    place = int(struct.unpack_from("<H", table, fields + 4 + 2 * number)[0]) if 4 + 2 * number < size else 0
    assert place  # noqa: S101  numbers other than 0 are always written
    return at + place


def _vector(table: bytearray, at: int) -> tuple[int, int]:
    """Where the elements of a vector begin, and how many there are."""
    start = _follow(table, at)
    return start + 4, int(struct.unpack_from("<I", table, start)[0])
