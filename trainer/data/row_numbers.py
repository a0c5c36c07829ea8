"""The rows of each split as the bytes of a Parquet file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trainer.data.fingerprint import Fingerprint, SplitRows

VERSION = b"1"
_KEY = b"gluon-trainer.splits"


def to_parquet(fingerprint: Fingerprint) -> bytes | None:
    """Which rows of its table each split has; None if all splits have all rows of theirs."""
    held = {name: split for name, split in fingerprint.splits.items() if split.numbers is not None}
    if not held:
        return None
    import pyarrow as pa
    from pyarrow import parquet

    def repeated(words: list[str]) -> pa.DictionaryArray:
        counts = [split.rows for split in held.values()]
        return pa.DictionaryArray.from_arrays(np.repeat(np.arange(len(held), dtype=np.int32), counts), words)

    columns = {
        "split": repeated(list(held)),
        "table": repeated([split.table for split in held.values()]),
        "row": np.concatenate([split.numbers for split in held.values() if split.numbers is not None]),
    }
    table = pa.table(columns).replace_schema_metadata({_KEY: VERSION})
    sink = pa.BufferOutputStream()
    # The numbers of a split ascend, so that their differences take little room.
    encoding = {"row": "DELTA_BINARY_PACKED"}
    parquet.write_table(table, sink, use_dictionary=["split", "table"], column_encoding=encoding)
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
