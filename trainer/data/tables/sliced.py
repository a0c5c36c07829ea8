"""The columns of `--slice`: which slice each evaluated row is in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.slices import Slices, SlicesBySplit
from trainer.data.split_names import JUDGED
from trainer.data.tables.coded import Coded, Codes
from trainer.data.tables.schema import check_column
from trainer.data.tables.values import Indices, check_flat
from trainer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from trainer.data.tables.options import TableOptions
    from trainer.data.tables.parts import Part

MISSING = "missing"
MOST_NUMBERS, MOST_CATEGORIES = 100, 1000
"""The most different values of a column of numbers or times, and of one of categories."""
MOST_COUNTED = 1 << 20
"""So many different values of a column that is refused anyway are counted."""
FILE = "slices.{split}.arrow"


def slice_columns(options: TableOptions) -> list[str]:
    """The columns of `--slice`, each once."""
    return list(dict.fromkeys(options.slice))


def check_slice_columns(options: TableOptions, known: Sequence[str], *, where: str) -> None:
    """Raises UsageError for a column that does not exist."""
    for name in slice_columns(options):
        check_column(name, known, option="--slice", where=where, in_list=True)


class SliceSurvey:
    """The columns of `--slice` of one table, read in pieces."""

    def __init__(self, options: TableOptions, kinds: Mapping[str, Any], *, untyped: bool, where: str) -> None:
        self._options, self._kinds, self._untyped, self._where = options, kinds, untyped, where
        self._codes = {name: Codes() for name in slice_columns(options)}

    def add(self, part: Part) -> None:
        """Adds the next rows. Raises UsageError for a column with far too many values, and for one of lists."""
        for name, codes in self._codes.items():
            values = part.values(name)
            check_flat(name, values, where=self._where, fix="Leave it out of --slice.")
            codes.add(values)
            if len(codes) > MOST_COUNTED:
                raise _too_many(name, f"more than {MOST_COUNTED:,}", MOST_CATEGORIES, where=self._where)

    def columns(self) -> dict[str, Coded]:
        """The columns. Raises UsageError for one with too many different values."""
        found = {name: codes.done(self._kinds[name]) for name, codes in self._codes.items()}
        for name, coded in found.items():
            check_count(name, coded, self._options, untyped=self._untyped, where=self._where)
        return found


@dataclass(frozen=True)
class SlicedRows:
    """The rows of a split among those of a table whose columns are known; all if None."""

    columns: Mapping[str, Coded]
    rows: Indices | None


def check_count(name: str, coded: Coded, options: TableOptions, *, untyped: bool, where: str) -> None:
    """Raises UsageError if a column has too many different values to be slices."""
    texts = [text for text in coded.texts if text is not None]
    if len(texts) <= MOST_NUMBERS:
        return
    is_categories = name in options.categorical or not (coded.typed or coded.are_numbers(text=untyped))
    most = MOST_CATEGORIES if is_categories else MOST_NUMBERS
    if len(texts) > most:
        raise _too_many(name, f"{len(texts):,}", most, where=where)


def _too_many(name: str, count: str, most: int, *, where: str) -> UsageError:
    numbers = most == MOST_NUMBERS
    return UsageError(
        f"column {name!r} has {count} different values, and --slice takes {most:,} {'numbers' if numbers else 'values'}"
        " at most",
        where=where,
        fix="Add a column with the bins of these numbers, and name that"
        + (f"; if they are codes, name the column in --categorical ({MOST_CATEGORIES:,} values at most)." if numbers
           else ", or group the values in a column of their own."),
    )  # fmt: skip


def slices_of(splits: Mapping[str, SlicedRows]) -> SlicesBySplit:
    """The slices of each split. A column has the same names in all of them: the values that any of their rows has."""
    judged = {split: found for split, found in splits.items() if split in JUDGED and found.columns}
    found: dict[str, dict[str, Slices]] = {split: {} for split in judged}
    for name in next(iter(judged.values())).columns if judged else ():
        of = {split: each.columns[name].taken(each.rows) for split, each in judged.items()}
        used = {text for coded in of.values() for text in _used(coded)}
        names = _ordered(used - {MISSING}) + ([MISSING] if MISSING in used else [])
        numbers = {text: number for number, text in enumerate(names)}
        for split, coded in of.items():
            table = np.array([numbers.get(_text(text), 0) for text in coded.texts], np.int32)
            codes: NDArray[np.int32] = table[coded.codes] if len(coded.codes) else np.zeros(0, np.int32)
            found[split][name] = Slices(codes, names)
    return found


def _used(coded: Coded) -> Iterator[str]:
    return (_text(text) for text, count in zip(coded.texts, coded.counts, strict=False) if count)


def _text(text: str | None) -> str:
    return MISSING if text is None else text


def _ordered(texts: Iterable[str]) -> list[str]:
    """By number if all are numbers, or else as text."""
    words = sorted(texts)
    try:
        return sorted(words, key=float)
    except ValueError:
        return words


# ---- in a cache ------------------------------------------------------------------------------------------------------


def to_tables(slices: SlicesBySplit) -> dict[str, pa.Table]:
    """The files of a cache with the slices, by name."""
    import pyarrow as pa

    return {
        FILE.format(split=split): pa.table(
            {
                name: pa.DictionaryArray.from_arrays(pa.array(found.codes), pa.array(list(found.names), pa.string()))
                for name, found in columns.items()
            }
        )
        for split, columns in slices.items()
    }


def from_tables(files: Sequence[str], read: Any) -> SlicesBySplit:
    """The slices in a cache that has `files`; `read(name)` gives the table of one."""
    found = {}
    for split in JUDGED:
        if (name := FILE.format(split=split)) in files:
            table = read(name).combine_chunks()
            columns = {column: table[column].chunk(0) for column in table.column_names}
            found[split] = {
                column: Slices(array.indices.to_numpy(), array.dictionary.to_pylist())
                for column, array in columns.items()
            }
    return found
