"""A table in memory as the value of an option: a data frame, a dict of columns, an Arrow table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic_core import core_schema

from trainer.config.given import PythonOnly
from trainer.data.tables.csv_header import check_unique
from trainer.data.tables.stream import FileRows
from trainer.data.tables.values import plain_table, plain_type
from trainer.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

WRITTEN = re.compile(r"in memory: [\d,]+ rows?, [\d,]+ columns?")
"""How a table in memory is named in the files of a run."""


class Frame(PythonOnly):
    """A table in memory, or the text that names it in a run's files, where it is not stored."""

    def __init__(self, table: pa.Table | None, text: str = "") -> None:
        self.table = table
        self._text = text

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<{self.text}>"

    @property
    def text(self) -> str:
        """`in memory: 150 rows, 5 columns`."""
        if self.table is None:
            return self._text
        rows, columns = self.table.num_rows, self.table.num_columns
        return f"in memory: {rows:,} row{'s' * (rows != 1)}, {columns:,} column{'s' * (columns != 1)}"

    @classmethod
    def of_text(cls, text: str) -> Frame | None:
        """The table that is named in a run's files, without its rows."""
        return cls(None, text) if WRITTEN.fullmatch(text) else None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.is_instance_schema(cls, serialization=core_schema.plain_serializer_function_ser_schema(str))


class FrameStream:
    """A table in memory as a stream. Its columns keep their types."""

    untyped = False
    advice = ""
    left_out: Sequence[str] = ()
    notes: Sequence[str] = ()
    files: Sequence[FileRows] = ()

    def __init__(self, frame: Frame, where: str = "the data") -> None:
        self.where = where
        if frame.table is None:
            raise UsageError(
                f"the table was given in Python, and a run's folder does not hold it ({frame.text})",
                where="the run's data",
                fix="Give it again: trainer.resume(run, data=table), with validation_data, calibration_data and "
                "test_data if they were tables too.",
            )
        self._table = frame.table
        names = frame.table.column_names
        self.names = [name.strip() or f"column_{number}" for number, name in enumerate(names, 1)]
        self.types = dict(zip(self.names, map(plain_type, frame.table.schema.types), strict=True))
        self.total: int | None = frame.table.num_rows
        self.done = 0

    def parts(self, wanted: Sequence[str]) -> Iterator[pa.Table]:
        check_unique(wanted, self.names, self.where)
        self.done = self._table.num_rows
        table = self._table.select([self.names.index(name) for name in wanted])
        yield plain_table(table.rename_columns(list(wanted)))

    def place_of(self, row: int) -> tuple[str, int]:
        return self.where, row

    def close(self) -> None:
        """Nothing is open."""
