"""What identifies the data of a run: rows, columns and checksums, and which rows each split has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.checksum import checksum_of
from trainer.errors import listed

VERSION = 1
"""The version of the checksums; those of other versions cannot be compared."""
COLUMNS_NAMED = 5


@dataclass(frozen=True)
class TableFingerprint:
    """The number of rows, and the checksum of each column by its name."""

    rows: int
    columns: Mapping[str, str]

    @classmethod
    def of_arrays(cls, columns: Mapping[str, NDArray[Any]]) -> TableFingerprint:
        """The fingerprint of arrays with the rows along the first axis; there has to be one."""
        rows = {name: len(array) for name, array in columns.items()}
        return cls(next(iter(rows.values())), {name: checksum_of(array) for name, array in columns.items()})

    def changes(self, now: TableFingerprint) -> Iterator[str]:
        """What differs in `now`, a phrase each. If the number of rows does, the values are not compared."""
        if now.rows != self.rows:
            yield f"it has {now.rows} rows, and had {self.rows}"
        for what, names in (
            ("it lacks", [name for name in self.columns if name not in now.columns]),
            ("new are", [name for name in now.columns if name not in self.columns]),
        ):
            if names:
                yield f"{what} {_columns(names)}"
        both = [name for name in self.columns if name in now.columns]
        differing = [name for name in both if self.columns[name] != now.columns[name]]
        if differing and now.rows == self.rows:
            every = len(differing) == len(both) > 1
            what = "all columns, or the rows are in another order" if every else _columns(differing)
            yield f"the values differ in {what}"

    def agrees(self, other: TableFingerprint) -> bool:
        """Whether both can be the same rows: as many, with the same values in the columns that both have."""
        both = self.columns.keys() & other.columns.keys()
        return self.rows == other.rows and bool(both) and all(self.columns[key] == other.columns[key] for key in both)


def _columns(names: list[str]) -> str:
    return f"the column{'s' if len(names) > 1 else ''} {listed(names, COLUMNS_NAMED)}"


@dataclass(frozen=True)
class SplitRows:
    """The rows of a split: `numbers` (rows,) in the table of that name, from 0; None stands for all rows.

    Read from a file, only `rows` and `checksum` are known of the numbers.
    """

    table: str
    rows: int
    numbers: NDArray[np.int64] | None = field(default=None, compare=False, repr=False)
    checksum: str | None = None
    """The checksum of the numbers; None if the split has all rows."""

    @classmethod
    def of(cls, table: str, numbers: NDArray[np.int64]) -> SplitRows:
        """The rows of a split that has part of a table."""
        return cls(table, len(numbers), numbers, checksum_of(numbers.astype(np.int64)))


@dataclass(frozen=True)
class Fingerprint:
    """The data of a run: the tables by the names of their options, and which rows of them each split has."""

    tables: Mapping[str, TableFingerprint]
    splits: Mapping[str, SplitRows]
    stored: Callable[[], bytes | None] | None = field(default=None, compare=False, repr=False)
    """Gives the rows of the splits as a Parquet file, if their numbers are not in memory."""

    def to_json(self) -> dict[str, Any]:
        """A JSON value, without the numbers of the rows."""
        return {
            "version": VERSION,
            "tables": {
                name: {"rows": table.rows, "columns": dict(table.columns)} for name, table in self.tables.items()
            },
            "splits": {
                name: {"table": split.table, "rows": split.rows, "checksum": split.checksum}
                for name, split in self.splits.items()
            },
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> Fingerprint | None:
        """What `to_json` returned; None for None, and for another version."""
        if value is None or value["version"] != VERSION:
            return None
        splits = {
            name: SplitRows(each["table"], each["rows"], checksum=each["checksum"])
            for name, each in value["splits"].items()
        }
        tables = {name: TableFingerprint(each["rows"], each["columns"]) for name, each in value["tables"].items()}
        return cls(tables, {name: split for name, split in splits.items() if split.table in tables})

    def changes(self, now: Fingerprint) -> list[str]:
        """What differs in `now`, a sentence each; empty if nothing does."""
        found = []
        for name in dict.fromkeys([*self.tables, *now.tables]):
            before, after = self.tables.get(name), now.tables.get(name)
            if before is None or after is None:
                found.append(f"{name} is {'new' if before is None else 'gone'}")
            else:
                found += [f"{name}: {each}" for each in before.changes(after)]
        if not found:
            for name in dict.fromkeys([*self.splits, *now.splits]):
                if self.splits.get(name) != now.splits.get(name):
                    found.append(f"the {name} split has other rows")
        return found

    def has_same_rows(self, other: Fingerprint, split: str) -> bool | None:
        """Whether a split has the same rows in both; None if one of them does not have it."""
        mine, others = self.splits.get(split), other.splits.get(split)
        if mine is None or others is None:
            return None
        same = (mine.rows, mine.checksum) == (others.rows, others.checksum)
        return same and self.tables[mine.table].agrees(other.tables[others.table])
