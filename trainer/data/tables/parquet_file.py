"""Parquet files, read page by page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.data.tables.csv_header import check_unique
from trainer.errors import UsageError, first_line, listed

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 1 << 15
"""Rows per part."""
PAGE_BYTES = 1 << 20
"""Read buffer for each column: a whole row group may be larger than memory."""
PANDAS_INDEX = re.compile(r"__index_level_\d+__")


class ParquetStream:
    """A Parquet file. Its columns keep their types."""

    untyped = False
    advice = ""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self.where = str(path)
        try:
            self._file = parquet.ParquetFile(path, pre_buffer=False, buffer_size=PAGE_BYTES)
            written = list(self._file.schema_arrow.names)
            self.total: int | None = int(self._file.metadata.num_rows)
        except (pa.ArrowException, OSError) as error:
            raise self._error(error) from error
        self._written = [name for name in written if not PANDAS_INDEX.fullmatch(name)]
        self.names = [name.strip() or f"column_{number}" for number, name in enumerate(self._written, 1)]
        self.left_out = sorted(set(written) - set(self._written))
        self.notes = [f"left out: {listed(self.left_out)}, the index that pandas writes"] if self.left_out else []
        self.done = 0
        """The rows read so far."""

    def parts(self, wanted: Sequence[str]) -> Iterator[pa.Table]:
        import pyarrow as pa

        check_unique(wanted, self.names, self.where)
        columns = [self._written[self.names.index(name)] for name in wanted]
        try:
            for batch in self._file.iter_batches(BATCH_ROWS, columns=columns):
                self.done += batch.num_rows
                # iter_batches returns the columns in the file's order.
                yield pa.Table.from_batches([batch]).select(columns).rename_columns(list(wanted))
        except (pa.ArrowException, OSError) as error:
            raise self._error(error) from error

    def close(self) -> None:
        self._file.close()

    def _error(self, error: Exception) -> UsageError:
        return UsageError(f"it cannot be read as Parquet: {first_line(error)}", where=self.where)
