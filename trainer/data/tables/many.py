"""Many files as one table: the same columns in all of them, and rows numbered through."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import reduce
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.data.tables.csv_header import check_unique
from trainer.data.tables.json_lines import JsonLinesStream, merged
from trainer.data.tables.sources import Source
from trainer.data.tables.stream import FileRows, TableStream
from trainer.errors import UsageError, first_line, listed

if TYPE_CHECKING:
    import pyarrow as pa

Open = Callable[[Path, "TableStream | None"], "TableStream"]
"""Opens a file; the second argument is the table's first file, None for that one itself."""


class ManyFiles:
    """A table of several files, each of which is open only while it is read."""

    def __init__(self, source: Source, open_file: Open) -> None:
        self.where = source.where
        self._open = open_file
        self._paths = [file.path for file in source.files]
        self._first: TableStream | None = None
        self._rows: list[int] = []
        self._done = 0
        self._current: TableStream | None = None
        totals: list[int | None] = []
        self._notes: Counter[str] = Counter()
        self._noted: dict[str, str] = {}
        left_out: dict[str, None] = {}
        unite: list[tuple[Path, TableStream]] = []
        for path in self._paths:
            with closing(open_file(path, self._first)) as stream:
                self._first = self._first or stream
                self._notes.update(stream.notes)
                self._noted |= {note: path.name for note in stream.notes if note not in self._noted}
                left_out |= dict.fromkeys(stream.left_out)
                totals.append(stream.total)
                unite.append((path, stream))
        assert self._first is not None  # noqa: S101  a source has files
        self.untyped, self.left_out = self._first.untyped, list(left_out)
        self.advice = next((stream.advice for _, stream in unite if stream.advice), "")
        self.total = None if None in totals else sum(total for total in totals if total is not None)
        columns = _columns_of(unite)
        partition = [name for name, _ in source.files[0].partition]
        self._partitions = {name: [dict(file.partition)[name] for file in source.files] for name in partition}
        both = [name for name in partition if name in columns]
        self._partitions = {name: texts for name, texts in self._partitions.items() if name not in both}
        self.names = [*columns, *self._partitions]
        self._constants = {name: _typed(texts, self.untyped) for name, texts in self._partitions.items()}
        self._types = {**_common(unite), **{name: values.type for name, values in self._constants.items()}}
        self._source_notes = [
            *source.notes,
            *([f"columns from the names of the folders: {listed(self._partitions)}"] if self._partitions else []),
            *([f"read from the files, not from the names of the folders: {listed(both)}"] if both else []),
        ]

    @property
    def types(self) -> Mapping[str, Any]:
        """The types that the columns have in all files together."""
        return {} if self.untyped else self._types

    @property
    def notes(self) -> Sequence[str]:
        """Notes on all files once; on some with the name of the first one."""
        everywhere = [
            note if count == len(self._paths) else f"{self._noted[note]}: {note}" for note, count in self._notes.items()
        ]
        return [*self._source_notes, *everywhere]

    @property
    def done(self) -> int:
        """How much was read, in the files' own unit."""
        return self._done + (0 if self._current is None else self._current.done)

    @property
    def files(self) -> Sequence[FileRows]:
        """The files, with the rows read so far."""
        rows = [*self._rows, *[0] * (len(self._paths) - len(self._rows))]
        return [FileRows(str(path), count) for path, count in zip(self._paths, rows, strict=True)]

    def place_of(self, row: int) -> tuple[str, int]:
        """The file of a row, and the row's number in it."""
        ends = list(accumulate(self._rows))
        number = bisect_left(ends, row)
        return str(self._paths[number]), row - (ends[number - 1] if number else 0)

    def parts(self, wanted: Sequence[str]) -> Iterator[pa.Table]:
        """The wanted columns, a file after the other."""
        check_unique(wanted, self.names, self.where)
        for number, path in enumerate(self._paths):
            self._rows.append(0)
            with closing(self._open(path, self._first if number else None)) as stream:
                self._current = stream
                for part in stream.parts(self._of_file(wanted, stream)):
                    self._rows[number] += part.num_rows
                    yield self._completed(part, wanted, number)
                self._done += stream.done
                self._current = None

    def close(self) -> None:
        """Closes the file that is being read."""
        if self._current is not None:
            self._current.close()

    def _of_file(self, wanted: Sequence[str], stream: TableStream) -> list[str]:
        """The columns to read from a file; at least one, which tells how many rows there are."""
        own = [name for name in wanted if name not in self._constants]
        names = [name for name in own if name in stream.names]
        if len(names) < len(own) and not _may_lack_columns(stream):
            raise UsageError("its columns have changed since it was opened", where=stream.where, fix="Try again.")
        return names or [name for name in stream.names if list(stream.names).count(name) == 1][:1]

    def _completed(self, part: pa.Table, wanted: Sequence[str], number: int) -> pa.Table:
        """The part with the columns that the file lacks, in the types of the whole table."""
        import pyarrow as pa
        from pyarrow import compute

        columns: dict[str, Any] = {}
        for name in wanted:
            if name in self._constants:
                columns[name] = pa.chunked_array([pa.repeat(self._constants[name][number], part.num_rows)])
            elif name not in part.column_names:
                columns[name] = pa.chunked_array([pa.nulls(part.num_rows, pa.string())])
            elif self.untyped or part[name].type == self._types[name]:
                columns[name] = part[name]
            else:
                try:
                    columns[name] = compute.cast(part[name], self._types[name], safe=False)
                except pa.ArrowException as error:
                    raise UsageError(
                        f"column {name!r} cannot be made {self._types[name]}, as in other files: {first_line(error)}",
                        where=str(self._paths[number]),
                    ) from error
        return pa.table(columns)


def _may_lack_columns(stream: TableStream) -> bool:
    """Whether a column of other files that this one lacks is missing in all of its rows."""
    return isinstance(stream, JsonLinesStream)


def _columns_of(files: Sequence[tuple[Path, TableStream]]) -> list[str]:
    """The columns of all files. Raises UsageError naming the file whose columns are not those of the first one.

    A file whose format lets a row lack a column may lack it in all of its rows.
    """
    path, first = files[0]
    if _may_lack_columns(first):
        return reduce(merged, (stream.names for _, stream in files), [])
    expected = Counter(first.names)
    for other, stream in files[1:]:
        found = Counter(stream.names)
        if found == expected:
            continue
        differences = [
            f"{what} {listed(dict.fromkeys((one - two).elements()), 5)}"
            for what, one, two in (("it lacks", expected, found), ("it also has", found, expected))
            if one - two
        ]
        raise UsageError(
            f"its columns are not those of {path}: {', and '.join(differences)}",
            where=str(other),
            fix=f"All files of a table need the same columns, and each CSV file its header. {stream.advice}".strip(),
        )
    return list(first.names)


def _common(files: Sequence[tuple[Path, TableStream]]) -> dict[str, Any]:
    """The type of each column in which the values of all files fit. Raises UsageError naming a file that does not."""
    import pyarrow as pa

    path, first = files[0]
    common = dict(first.types)
    decided = dict.fromkeys(common, path)
    for other, stream in files[1:]:
        for name, kind in stream.types.items():
            if name not in common or kind == common[name]:
                continue
            try:
                both = [pa.schema([("column", each)]) for each in (common[name], kind)]
                united = pa.unify_schemas(both, promote_options="permissive").field(0).type
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise UsageError(
                    f"column {name!r} holds {kind}, and in {decided[name]} {common[name]}",
                    where=str(other),
                    fix=f"Write both with one type, or add --ignore {name}.",
                ) from error
            if united != common[name]:
                common[name], decided[name] = united, other
    return common


_WHOLE, _NUMBER, _DATE = r"[+-]?\d+", r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", r"\d{4}-\d\d-\d\d"


def _typed(texts: Sequence[str | None], untyped: bool) -> pa.Array:
    """The values of a folder's column: text beside text; beside types whole numbers, numbers or dates if all are."""
    import pyarrow as pa

    values = pa.array(texts, pa.string())
    present = [text for text in texts if text is not None]
    if untyped or not present:
        return values
    for form, kind in ((_WHOLE, pa.int64()), (_NUMBER, pa.float64()), (_DATE, pa.date32())):
        if all(re.fullmatch(form, text, re.ASCII) for text in present):
            try:
                return values.cast(kind)
            except pa.ArrowInvalid:
                continue
    return values
