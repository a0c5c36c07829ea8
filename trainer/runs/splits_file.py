"""`splits.parquet` in a run's folder: which rows of the tables each split has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trainer.atomic import replacing
from trainer.data.fingerprint import Fingerprint, SplitRows
from trainer.errors import UsageError, first_line

SPLITS = "splits.parquet"
VERSION = b"1"
_KEY = b"gluon-trainer.splits"


def write_split_rows(folder: Path, fingerprint: Fingerprint | None) -> None:
    """Writes the file, atomically; without a split that has part of a table, there is none."""
    splits = {} if fingerprint is None else fingerprint.splits
    held = {name: split for name, split in splits.items() if split.numbers is not None}
    path = folder / SPLITS
    if not held:
        path.unlink(missing_ok=True)
        return
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
    with replacing(path) as file:
        # The numbers of a split ascend, so that their differences take little room.
        encoding = {"row": "DELTA_BINARY_PACKED"}
        parquet.write_table(table, file, use_dictionary=["split", "table"], column_encoding=encoding)


def split_rows(folder: str | Path) -> Mapping[str, SplitRows]:
    """The rows of each split of the run in a folder: `numbers` in the table of the option `table`, from 0.

    Splits that have all rows of a file, or no table, are left out. Raises UsageError if the run has recorded none.
    """
    import pyarrow as pa
    from pyarrow import compute, parquet

    path = Path(folder) / SPLITS
    try:
        table = parquet.read_table(path)
        version = (table.schema.metadata or {}).get(_KEY)
        if version != VERSION:
            raise UsageError("it was not written by this version of the program", where=str(path))
        found = {}
        for name in compute.unique(table["split"]).to_pylist():
            part = table.filter(compute.equal(table["split"].cast(pa.string()), name))
            found[name] = SplitRows.of(part["table"][0].as_py(), part["row"].to_numpy())
    except FileNotFoundError:
        raise UsageError(
            "the run has not recorded the rows of its splits",
            where=str(folder),
            fix=f"Only runs on part of a table have a file {SPLITS}.",
        ) from None
    except (pa.ArrowException, KeyError, OSError) as error:
        raise UsageError(f"it cannot be read: {first_line(error)}", where=str(path)) from error
    return found
