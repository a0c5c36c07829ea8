"""Arrow files (also called Feather) and Arrow streams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.data.tables.csv_header import check_unique
from trainer.data.tables.formats import ARROW_MAGIC
from trainer.data.tables.parquet_file import BATCH_ROWS, without_index
from trainer.data.tables.stream import OneFile
from trainer.data.tables.values import plain_table, plain_type
from trainer.errors import UsageError, first_line

if TYPE_CHECKING:
    import pyarrow as pa


class ArrowStream(OneFile):
    """An Arrow file or stream. Its columns keep their types."""

    untyped = False

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self.where = str(path)
        self._path = path
        try:
            with path.open("rb") as file:
                self._is_file = file.read(len(ARROW_MAGIC)) == ARROW_MAGIC
            # Not mapped: a file that shrinks while it is read would end the process.
            self._file = pa.OSFile(str(path))
            fields = list(self._reader().schema)
            self.total: int | None = self._file.size()
        except (pa.ArrowException, OSError) as error:
            raise self._error(error) from error
        self._written, self.names, self.left_out, self.notes = without_index([field.name for field in fields])
        kinds = {field.name: field.type for field in fields}
        self.types = {name: plain_type(kinds[written]) for name, written in zip(self.names, self._written, strict=True)}
        self._places = {field.name: place for place, field in enumerate(fields)}
        self.done = 0
        """The bytes read so far."""

    def parts(self, wanted: Sequence[str]) -> Iterator[pa.Table]:
        import pyarrow as pa

        check_unique(wanted, self.names, self.where)
        columns = [self._written[self.names.index(name)] for name in wanted]
        try:
            self._file.seek(0)
            for batch in self._batches(self._reader([self._places[name] for name in columns])):
                self.done = max(self.done, self._file.tell())
                table = plain_table(pa.Table.from_batches([batch]).select(columns).rename_columns(list(wanted)))
                for start in range(0, table.num_rows, BATCH_ROWS):
                    part = table.slice(start, BATCH_ROWS)
                    self.rows_read += part.num_rows
                    yield part
        except (pa.ArrowException, OSError) as error:
            raise self._error(error) from error

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _reader(self, places: Sequence[int] | None = None) -> Any:
        """The reader of the columns at these places; None for all."""
        from pyarrow import ipc

        options = ipc.IpcReadOptions(included_fields=None if places is None else list(places))
        return (ipc.open_file if self._is_file else ipc.open_stream)(self._file, options=options)

    def _batches(self, reader: Any) -> Iterator[Any]:
        if self._is_file:
            yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
        else:
            yield from reader

    def _error(self, error: Exception) -> UsageError:
        return UsageError(f"it cannot be read as Arrow: {first_line(error)}", where=self.where)
