"""JSON lines: an object per line. As in CSV, all columns are text, so what a column is depends on all its values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.data.tables.compressed import opened
from trainer.data.tables.csv_header import check_unique
from trainer.data.tables.csv_rows import LONGEST_ROW, read_some
from trainer.data.tables.stream import OneFile
from trainer.errors import UsageError, in_short

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_BYTES = 1 << 20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
FIX = "Write one object per line."
# Numbers keep the digits that they are written with; NaN and Infinity are read, as other programs write them.
_decoder = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)


class JsonLinesStream(OneFile):
    """A file of JSON lines. The columns are the keys of all its rows; a row without one of them has no value there."""

    left_out: Sequence[str] = ()
    notes: Sequence[str] = ()

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        status = path.stat()
        self.total: int | None = status.st_size
        self._keys = _keys_of(path, status.st_mtime_ns, status.st_size, status.st_ino)
        self.names = [key.strip() or f"column_{number}" for number, key in enumerate(self._keys, 1)]
        self._file = opened(path)

    @property
    def done(self) -> int:
        """The bytes read so far, before decompression."""
        return self._file.bytes_read

    def parts(self, wanted: Sequence[str]) -> Iterator[pa.Table]:
        import pyarrow as pa

        check_unique(wanted, self.names, self.where)
        keys = {name: self._keys[self.names.index(name)] for name in wanted}
        for lines in _lines_of(self._file, self.where):
            rows = _parsed(lines, self.rows_read, self.where)
            columns = {name: self._column([row.get(key) for row in rows], name) for name, key in keys.items()}
            self.rows_read += len(rows)
            yield pa.table(columns)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _column(self, values: list[Any], name: str) -> pa.Array:
        """The values as text. `rows_read` rows precede them."""
        import pyarrow as pa

        try:
            return pa.array(values, pa.string())
        except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):
            return pa.array([self._text(value, name, row) for row, value in enumerate(values, 1)], pa.string())

    def _text(self, value: Any, name: str, row: int) -> Any:
        if isinstance(value, (list, dict)):
            what = "a list" if isinstance(value, list) else "an object"
            raise UsageError(
                f"column {name!r} holds {what}, not a number, text or truth value",
                where=self.where,
                row=self.rows_read + row,
                fix=f"Write its parts as columns of their own, or add --ignore {name}.",
            )
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, str) and not _is_unicode(value):
            raise UsageError(
                f"column {name!r} holds half of a surrogate pair", where=self.where, row=self.rows_read + row
            )
        return value


@lru_cache(maxsize=4096)
def _keys_of(path: Path, _changed: int, _size: int, _number: int) -> tuple[str, ...]:
    """The keys of all rows, in the order of the rows. Takes a pass over the file."""
    keys: list[str] = []
    known: set[str] = set()
    before = 0
    file = opened(path)
    try:
        for lines in _lines_of(file, str(path)):
            rows = _parsed(lines, before, str(path))
            before += len(rows)
            for row in rows:
                if not known >= row.keys():
                    keys = merged(keys, row)
                    known = set(keys)
    finally:
        file.close()
    return tuple(keys)


def merged(names: Sequence[str], more: Iterable[str]) -> list[str]:
    """The names with those `more` that are new, each behind the one that it follows there, or at the beginning."""
    found, place = list(names), 0
    for name in more:
        if name in found:
            place = found.index(name) + 1
        else:
            found.insert(place, name)
            place += 1
    return found


def _lines_of(file: Any, where: str) -> Iterator[list[bytes]]:
    """The lines of the file that are not blank, some thousands at a time."""
    rest, first = b"", True
    while True:
        block = read_some(file, BLOCK_BYTES, where)
        if first:
            block, first = block.removeprefix(BYTE_ORDER_MARK), False
        end = block.rfind(b"\n") + 1
        if block and not end:
            rest += block
            if len(rest) > LONGEST_ROW:
                raise UsageError("a row does not end", where=where, fix=FIX)
            continue
        lines = [line for line in (rest + block[:end]).split(b"\n") if line and not line.isspace()]
        rest = block[end:]
        if lines:
            yield lines
        if not block:
            return


def _parsed(lines: Sequence[bytes], before: int, where: str) -> list[dict[str, Any]]:
    """The objects of the lines; `before` rows precede them. Raises UsageError naming the row that is not one."""
    rows: list[dict[str, Any]] = []
    for line in lines:
        number = before + len(rows) + 1
        try:
            row = _decoder.decode(line.decode())
        except UnicodeDecodeError as error:
            raise UsageError("it is not UTF-8 text", where=where, row=number, fix="Save it as UTF-8.") from error
        except (ValueError, RecursionError) as error:
            shown = in_short(line[:60].decode(errors="replace"), 40)
            raise UsageError(f"{shown!r} is not a JSON object", where=where, row=number, fix=FIX) from error
        if not isinstance(row, dict):
            what = "a list" if isinstance(row, list) else "a single value"
            raise UsageError(f"it is {what}, not an object", where=where, row=number, fix=FIX)
        rows.append(row)
    return rows


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
