"""Parquet files, read page by page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.data.tables.csv_header import check_unique
from trainer.data.tables.stream import OneFile
from trainer.data.tables.values import plain_table, plain_type
from trainer.errors import UsageError, first_line, listed

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 1 << 15
"""Rows per part, at least."""
MOST_ROWS = 1 << 17
BATCH_BYTES = 32 << 20
"""A part of few columns has more rows, up to as many as need this memory for a number per column."""
PAGE_BYTES = 1 << 20
"""Read buffer for each column: a whole row group may be larger than memory."""
PANDAS_INDEX = re.compile(r"__index_level_\d+__")


def without_index(written: Sequence[str]) -> tuple[list[str], list[str], list[str], list[str]]:
    """Of a typed file's columns: those to read, their names, those left out, and a note on these."""
    kept = [name for name in written if not PANDAS_INDEX.fullmatch(name)]
    names = [name.strip() or f"column_{number}" for number, name in enumerate(kept, 1)]
    left_out = sorted(set(written) - set(kept))
    return kept, names, left_out, [f"left out: {listed(left_out)}, the index that pandas writes"] if left_out else []


class ParquetStream(OneFile):
    """A Parquet file. Its columns keep their types."""

    untyped = False

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self.where = str(path)
        try:
            self._file = parquet.ParquetFile(path, pre_buffer=False, buffer_size=PAGE_BYTES)
            fields = list(self._file.schema_arrow)
            self.total: int | None = int(self._file.metadata.num_rows)
        except (pa.ArrowException, OSError) as error:
            raise self._error(error) from error
        self._written, self.names, self.left_out, self.notes = without_index([field.name for field in fields])
        kinds = {field.name: field.type for field in fields}
        self.types = {name: plain_type(kinds[written]) for name, written in zip(self.names, self._written, strict=True)}

    @property
    def done(self) -> int:
        """The rows read so far."""
        return self.rows_read

    def parts(self, wanted: Sequence[str]) -> Iterator[pa.Table]:
        import pyarrow as pa

        check_unique(wanted, self.names, self.where)
        columns = [self._written[self.names.index(name)] for name in wanted]
        rows = max(min(BATCH_BYTES // (8 * len(columns)), MOST_ROWS), BATCH_ROWS) if columns else BATCH_ROWS
        try:
            for batch in self._file.iter_batches(rows, columns=columns):
                self.rows_read += batch.num_rows
                # iter_batches returns the columns in the file's order.
                yield plain_table(pa.Table.from_batches([batch]).select(columns).rename_columns(list(wanted)))
        except (pa.ArrowException, OSError) as error:
            raise self._error(error) from error

    def close(self) -> None:
        self._file.close()

    def _error(self, error: Exception) -> UsageError:
        return UsageError(f"it cannot be read as Parquet: {first_line(error)}", where=self.where)
