"""`splits.parquet` in a run's folder: which rows of the tables each split has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trainer.atomic import write_atomic
from trainer.data.fingerprint import Fingerprint, SplitRows
from trainer.data.row_numbers import from_parquet, to_parquet
from trainer.errors import UsageError, first_line

SPLITS = "splits.parquet"


def write_split_rows(folder: Path, fingerprint: Fingerprint | None) -> None:
    """Writes the file, atomically; without a split that has part of a table, there is none."""
    content = None
    if fingerprint is not None:
        content = to_parquet(fingerprint) if fingerprint.stored is None else fingerprint.stored()
    path = folder / SPLITS
    if content is None:
        path.unlink(missing_ok=True)
        return
    write_atomic(path, content)


def split_rows(folder: str | Path) -> Mapping[str, SplitRows]:
    """The rows of each split of the run in a folder: `numbers` in the table of the option `table`, from 0.

    Splits that have all rows of a file, or no table, are left out. Raises UsageError if the run has recorded none.
    """
    import pyarrow as pa

    path = Path(folder) / SPLITS
    try:
        found = from_parquet(path)
    except FileNotFoundError:
        raise UsageError(
            "the run has not recorded the rows of its splits",
            where=str(folder),
            fix=f"Only runs on part of a table have a file {SPLITS}.",
        ) from None
    except (pa.ArrowException, KeyError, OSError) as error:
        raise UsageError(f"it cannot be read: {first_line(error)}", where=str(path)) from error
    if found is None:
        raise UsageError("it was not written by this version of the program", where=str(path))
    return found
