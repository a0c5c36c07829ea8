"""The rows of each split as the bytes of a Parquet file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trainer.data.fingerprint import Fingerprint, SplitRows

VERSION = b"1"
_KEY = b"gluon-trainer.splits"
ROWS = 1 << 20
"""Rows that are written at a time."""


def to_parquet(fingerprint: Fingerprint) -> bytes | None:
    """Which rows of its table each split has; None if all splits have all rows of theirs."""
    held = {name: split for name, split in fingerprint.splits.items() if split.numbers is not None}
    if not held:
        return None
    import pyarrow as pa
    from pyarrow import parquet

    words = pa.dictionary(pa.int32(), pa.string())
    schema = pa.schema([("split", words), ("table", words), ("row", pa.int64())], metadata={_KEY: VERSION})
    sink = pa.BufferOutputStream()
    # The numbers of a split ascend, so that their differences take little room.
    how = {"use_dictionary": ["split", "table"], "column_encoding": {"row": "DELTA_BINARY_PACKED"}}
    with parquet.ParquetWriter(sink, schema, **how) as writer:
        for name, split in held.items():
            for start in range(0, split.rows, ROWS):
                # Some at a time: a column of all rows would take as much memory as they do once more.
                numbers = split.numbers[start : start + ROWS]  # type: ignore[index]
                none = np.zeros(len(numbers), np.int32)
                columns = [pa.DictionaryArray.from_arrays(none, [word]) for word in (name, split.table)]
                writer.write_table(pa.table([*columns, pa.array(numbers, pa.int64())], schema=schema))
    return bytes(sink.getvalue())


def from_parquet(source: Any) -> Mapping[str, SplitRows] | None:
    """The splits in a file or its bytes; None if another version has written it. Raises pyarrow's errors, OSError."""
    import pyarrow as pa
    from pyarrow import compute, parquet

    table = parquet.read_table(pa.BufferReader(source) if isinstance(source, bytes) else source)
    if (table.schema.metadata or {}).get(_KEY) != VERSION:
        return None
    found = {}
    for name in compute.unique(table["split"]).to_pylist():
        part = table.filter(compute.equal(table["split"].cast(pa.string()), name))
        found[name] = SplitRows.of(part["table"][0].as_py(), part["row"].to_numpy())
    return found
