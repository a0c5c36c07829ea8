"""Predicts for a file of rows, in parts, so memory does not grow with the file."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from trainer.atomic import replacing
from trainer.data.tables.formats import CSV, PARQUET, delimiter_of
from trainer.data.tables.sources import Given, find_source, named
from trainer.data.tables.values import is_bytes, shortest
from trainer.errors import UsageError, listed
from trainer.model.capacity import Highest
from trainer.model.model import check_threshold
from trainer.terminal import RowOutput

if TYPE_CHECKING:
    import pyarrow as pa

    from trainer.model.interface import Encoded, RowSource
    from trainer.model.model import Model

STANDARD_OUTPUT = "-"


@dataclass
class Report:
    """Counts of the rows read so far."""

    rows: int = 0
    ignored: Sequence[str] = ()
    """Columns or files that the model does not use."""
    read: Sequence[str] = ()
    """How the source was understood, a line each."""
    missing: dict[str, int] = field(default_factory=dict)
    """How many values of each column were missing."""
    unseen: dict[str, int] = field(default_factory=dict)
    """How many values of each column the model does not know."""
    unseen_means: str = "that do not occur in the training rows"
    """Which values those are."""
    skipped: Sequence[str] = ()
    """Corrupt rows that were left out, with the reasons."""
    not_finite: int = 0
    """Rows whose prediction is NaN or infinite."""

    def add(self, encoded: Encoded) -> None:
        self.rows += encoded.rows
        for total, part in ((self.missing, encoded.missing), (self.unseen, encoded.unseen)):
            for name, count in part.items():
                total[name] = total.get(name, 0) + count

    def notes(self) -> list[str]:
        """What the user should know, one line each."""
        counted = {
            "missing values, treated as in training": self.missing,
            f"values {self.unseen_means}": self.unseen,
        }
        lines = [*self.read, *([f"not used by the model: {listed(self.ignored, 10)}"] if self.ignored else [])]
        lines += [
            f"{what}: {listed((f'{name} {count}' for name, count in counts.items()), 10)}"
            for what, counts in counted.items()
            if counts
        ]
        if self.skipped:
            lines.append(f"corrupt, left out: {len(self.skipped)} ({listed(self.skipped, 3)})")
        return [*lines, *([f"{self.not_finite} predictions are not finite numbers"] if self.not_finite else [])]


def one_or_more(source: Given) -> str | Sequence[str]:
    """The source as `ModelInterface.open` takes it: a text if it is one path."""
    found = named(source)
    return found[0] if len(found) == 1 else found


def _is_csv(path: Path) -> bool:
    """Whether the name is that of CSV output, which may be compressed by gzip."""
    return path.name.lower().removesuffix(".gz").endswith(CSV.endings)


def _is_read(path: Path, source: Given) -> bool:
    """Whether the file is one of the source's."""
    # What is wrong with the source is said when it is opened.
    with suppress(UsageError, OSError):
        return any(path.samefile(file.path) for file in find_source(source).files)
    return any(Path(each).exists() and path.samefile(each) for each in named(source))


def check_output(output: str, *, source: Given, force: bool) -> None:
    """Raises UsageError if the predictions could not be written later; writes nothing."""
    if output == STANDARD_OUTPUT:
        return
    path, where = Path(output), "--output"
    if not _is_csv(path) and path.suffix.lower() not in PARQUET.endings:
        raise UsageError(
            f"the suffix of {output!r} is neither CSV's nor Parquet's",
            where=where,
            fix=f"Use {listed([*CSV.endings, *PARQUET.endings])}, or - for CSV on standard output.",
        )
    if path.is_dir():
        raise UsageError(f"{path} is a folder", where=where, fix="Name a file in it.")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {path.absolute().parent}", where=where, fix="Create it first.")
    if path.exists():
        if _is_read(path, source):
            raise UsageError(f"{path} is the input file", where=where, fix="Choose another name.")
        if not force:
            raise UsageError(f"{path} exists", where=where, fix="Choose another name, or pass --force to replace it.")


def predict_file(
    model: Model,
    source: Given,
    output: str,
    *,
    keep: Sequence[str] | None = (),
    threshold: float | None = None,
    force: bool = False,
    skip_corrupt: bool = False,
    capacity: int | None = None,
    watch: Callable[[RowSource, int], None] | None = None,
) -> Report:
    """Writes predictions for every row of a source, in the same order; returns the counts.

    `source` is a file, a folder or a pattern, several of them, or `-` for standard input.
    `output` is a CSV or Parquet file, or `-` for CSV on standard output. The file appears once it is complete; after a
    full disk or an error in the last row an older one is unchanged. `keep` names the columns of the source to write
    before the predictions; None means all. `skip_corrupt` leaves out corrupt images and names them. With a `capacity`
    only so many rows are written, those with the highest probability of class 1, or the highest number, and the highest
    first; of equal ones the earlier, and NaN last.
    `watch` is called after each part with the source and the rows so far.

    Raises UsageError if the source does not fit the model, or `output` exists and `force` is not set.
    """
    check_output(output, source=source, force=force)
    threshold = check_threshold(threshold, model.threshold)
    highest = None if capacity is None else Highest(capacity)
    further = [] if keep is None else [name for name in model.reads if name not in keep]
    wanted = keep if keep is None else [*keep, *further]
    rows = model.interface.open(one_or_more(source), keep=wanted, judged=False)
    own = {name for rule in model.rules for name in rule.names}
    report = opened_report(rows, skip_corrupt=skip_corrupt)
    try:
        with _writing(output) as write:
            for encoded in rows:
                scores = model.scores(encoded)
                report.add(encoded)
                report.not_finite += int((~np.isfinite(scores.reshape(len(scores), -1))).any(axis=1).sum())
                kept = {name: column for name, column in encoded.kept.items() if name not in further}
                for name in own & kept.keys():
                    raise UsageError(
                        f"the column {name!r} cannot be kept: the output has a column of that name",
                        where=rows.where,
                        fix="Rename it, or list the columns to keep with --keep.",
                    )
                columns = {**kept, **model.columns(scores, threshold, encoded.kept)}
                if highest is None:
                    write(columns)
                else:
                    highest.add(scores, columns)
                if watch is not None:
                    watch(rows, report.rows)
            if not report.rows:
                raise UsageError("it has a header and no rows", where=rows.where)
            if highest is not None:
                write(highest.columns())
    finally:
        rows.close()
    return report


def opened_report(rows: RowSource, *, skip_corrupt: bool) -> Report:
    """The report of a source before its first row, which leaves out corrupt rows if asked. Raises UsageError."""
    if skip_corrupt:
        if not hasattr(rows, "skip_corrupt"):
            raise UsageError("only images can be skipped", where="--skip-corrupt", fix="Leave it out.")
        rows.skip_corrupt()
    means = getattr(rows, "unseen_means", Report.unseen_means)
    return Report(ignored=rows.ignored, read=rows.notes, skipped=getattr(rows, "skipped", ()), unseen_means=means)


Write = Callable[[Mapping[str, Any]], None]


@contextmanager
def _writing(output: str) -> Iterator[Write]:
    """A function that writes the columns of one part; call it part by part."""
    if output == STANDARD_OUTPUT:
        try:
            rows = RowOutput()
            rows.flush()
            yield _CsvWriter(rows).write
            rows.flush()
        except BrokenPipeError:
            # The reader has closed the pipe, which is not a mistake.
            raise
        except OSError as error:
            raise UsageError(f"it cannot be written: {error.strerror or error}", where="standard output") from error
        return
    path = Path(output).absolute()
    try:
        with replacing(path) as file, ExitStack() as stack:
            if _is_csv(path):
                yield _CsvWriter(stack.enter_context(_packed(file, path)), delimiter=delimiter_of(path)).write
            else:
                yield stack.enter_context(_ParquetWriter(file)).write
    except OSError as error:
        raise UsageError(f"it cannot be written: {error.strerror or error}", where=str(path)) from error


@contextmanager
def _packed(file: IO[bytes], path: Path) -> Iterator[Any]:
    if path.suffix.lower() != ".gz":
        yield file
        return
    import gzip

    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6) as packed:
        yield packed


class _CsvWriter:
    """CSV, quoted only if a value needs it."""

    def __init__(self, file: Any, *, delimiter: str = ",") -> None:
        self._file = file
        self._delimiter = delimiter
        self._begun = False

    def write(self, columns: Mapping[str, Any]) -> None:
        import pyarrow as pa

        columns = {name: _joined(column) for name, column in columns.items()}
        table = pa.table(columns)
        for column in table.schema:
            if pa.types.is_nested(column.type) or is_bytes(column.type):
                raise UsageError(
                    f"column {column.name!r} holds {column.type}, which CSV cannot hold",
                    where="--output",
                    fix="Write a .parquet file, or keep other columns.",
                )
        halves = [name for name, column in zip(columns, table.columns, strict=True) if pa.types.is_float16(column.type)]
        if halves:
            # Arrow shortens only the others.
            table = pa.table(columns | {name: shortest(table[name]) for name in halves})
        if not self._begun:
            header = io.StringIO()
            csv.writer(header, delimiter=self._delimiter, lineterminator="\n").writerow(columns)
            self._file.write(header.getvalue().encode())
            self._begun = True
        self._file.write(self._lines(table))

    def _lines(self, table: pa.Table) -> bytes:
        import pyarrow as pa
        from pyarrow import csv as pa_csv

        for quoting in ("none", "needed"):
            sink = io.BytesIO()
            try:
                # "none" refuses a value that needs quotes, and "needed" puts them around every text.
                options = pa_csv.WriteOptions(include_header=False, delimiter=self._delimiter, quoting_style=quoting)
                pa_csv.write_csv(table, sink, options)
            except pa.ArrowInvalid:
                if quoting == "needed":
                    raise
                continue
            return sink.getvalue()
        raise AssertionError


def _joined(column: Any) -> Any:
    """Lists of texts as texts, such as a|b; a bar within a text has a backslash before it. Other columns as they are.

    A list with a missing text stays one, which CSV cannot hold.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not isinstance(column, pa.ListArray) or not pa.types.is_string(column.type.value_type):
        return column
    texts = column.flatten()
    if texts.null_count:
        return column
    marked = pc.replace_substring_regex(texts, r"([\\|])", r"\\\1")
    first, ends = column.offsets[0].as_py(), column.offsets
    offsets = pc.subtract(ends, pa.scalar(first, pa.int32()))
    return pc.binary_join(pa.ListArray.from_arrays(offsets, marked), "|")


class _ParquetWriter:
    """A Parquet file with one row group per part."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._writer: Any = None

    def __enter__(self) -> _ParquetWriter:
        return self

    def write(self, columns: Mapping[str, Any]) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        table = pa.table(dict(columns))
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)

    def __exit__(self, *error: object) -> None:
        if self._writer is None:
            return
        # After an error too: otherwise it closes itself later, when the file is gone.
        with nullcontext() if error[0] is None else suppress(Exception):
            self._writer.close()
