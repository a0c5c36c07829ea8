"""Which rows of a table are in which split: at random by class, by group, by time, or as a column says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainer.data.chronological import chronological_split
from trainer.data.grouped import grouped_split
from trainer.data.stratified import TooFewRows, stratified_split
from trainer.data.tables.schema import check_column
from trainer.data.tables.targets import Target
from trainer.data.tables.targets.base import is_missing
from trainer.data.tables.times import are_dates, are_durations, date_text, dates_of, durations_of, mostly_zoned
from trainer.data.tables.values import (
    Indices,
    are_numbers,
    cleaned,
    column_of,
    distinct,
    is_number,
    is_text,
    numbers_of,
    rows_of_the_table,
)
from trainer.errors import UsageError, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from trainer.data.tables.options import TableOptions

NAMES = {"train": "training", "validation": "validation", "test": "test"}
WORDS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
"""What a column that names the splits may hold, in any case."""


def split_columns(options: TableOptions) -> dict[str, str]:
    """The columns that decide on the splits, by the options that name them."""
    named = {"group": options.group, "time": options.time, "split": options.split}
    return {option: name for option, name in named.items() if name is not None}


def check_split_options(options: TableOptions, known: Sequence[str], *, where: str) -> None:
    """Raises UsageError for columns that do not exist, and for options that contradict each other."""
    found = split_columns(options)
    for option, name in found.items():
        check_column(name, known, option=f"--{option}", where=where)
        for taken, what in ((options.label, "label"), (options.sample_weight, "weight")):
            if name == taken:
                raise UsageError(f"{name!r} is the {what} column", where=f"--{option}", fix="Name another column.")
    if len(found) > 1:
        raise UsageError(
            "rows can be split in one way only",
            where=", ".join(f"--{option}" for option in found),
            fix="Keep one of them.",
        )
    if options.time_gap is not None and options.time is None:
        raise UsageError("it needs a split by time", where="--time-gap", fix="Add --time COLUMN, or leave it out.")
    if options.split is not None and options.split in options.features:
        raise UsageError(
            f"{options.split!r} says which split a row is in", where="--features", fix="Remove it: it is no feature."
        )


def divided(  # noqa: PLR0917
    options: TableOptions,
    seed: int,
    target: Target,
    labels: NDArray[np.float32],
    table: pa.Table,
    kept: Indices | None,
    *,
    untyped: bool,
    where: str,
    notes: list[str],
) -> dict[str, Indices]:
    """The rows of each split, in the file's order, counted among the `kept` rows (n,) that have a label.

    `labels` (n,) are theirs. `notes` are added to. Raises UsageError if the rows cannot be split as the options say.
    """
    for option, name in split_columns(options).items():
        with rows_of_the_table(kept):
            values = column_of(table, name, kept)
            if option == "split":
                return _as_told(options, name, values, where=where)
            shares = _shares(options)
            if len(shares) == 1:
                break
            if option == "group":
                return _by_group(name, values, shares, seed, target, labels, where=where)
            return _by_time(options, name, values, shares, untyped=untyped, where=where, notes=notes)
    left: Indices = np.arange(len(labels))
    parts: dict[str, Indices] = {}
    for split, share in _shares(options).items():
        if split != "train":
            size = round(share * len(labels))
            left, parts[split] = _split_off(left, size, target, labels, seed, split, where=where)
    return {"train": left, **parts}


def _shares(options: TableOptions) -> dict[str, float]:
    """The share of each split in all rows; those of a file of their own, and empty ones, are left out."""
    wanted = {
        "validation": 0.0 if options.validation_data else options.validation_split,
        "test": 0.0 if options.test_data else options.test_split,
    }
    for split, fraction in wanted.items():
        if not 0 <= fraction < 1:
            raise UsageError(
                f"{fraction:g} is not a fraction", where=f"--{split}-split", fix="Use a number ≥ 0 and < 1."
            )
    if sum(wanted.values()) >= 1:
        raise UsageError(
            f"validation ({wanted['validation']:g}) and test ({wanted['test']:g}) leave no rows to train on",
            where="--validation-split, --test-split",
            fix="Their sum has to be < 1.",
        )
    held_out = {split: fraction for split, fraction in wanted.items() if fraction}
    return {"train": 1 - sum(held_out.values()), **held_out}


def _split_off(  # noqa: PLR0917
    rows: Indices, size: int, target: Target, labels: NDArray[np.float32], seed: int, split: str, *, where: str
) -> tuple[Indices, Indices]:
    """Splits off `size` rows by the seed, in equal shares of the target's strata; returns the others and those."""
    try:
        chosen = stratified_split(target.strata(labels[rows]), size, seed, f"{split} split")
    except TooFewRows as error:
        raise target.too_few(labels, labels[rows], split, size, where=where) from error
    return np.delete(rows, chosen), rows[chosen]


# ---- as a column says ------------------------------------------------------------------------------------------------


def _as_told(options: TableOptions, name: str, values: pa.ChunkedArray, *, where: str) -> dict[str, Indices]:
    places, texts = distinct(values)
    splits = [WORDS.get(text.strip().lower()) if text is not None else None for text in texts]
    numbers = np.array([-1 if split is None else list(NAMES).index(split) for split in splits])[places]
    wrong = np.flatnonzero(numbers < 0)
    if len(wrong):
        text = texts[places[wrong[0]]]
        what = f"{len(wrong)} of {len(values)} values in column {name!r} {'is' if len(wrong) == 1 else 'are'} not"
        raise UsageError(
            f"{what} train, validation or test, the first {'missing' if text is None else repr(text)}",
            where=where,
            row=int(wrong[0]) + 1,
            fix="Write one of them in every row; valid, val and dev stand for validation.",
        )
    parts = {split: np.flatnonzero(numbers == number) for number, split in enumerate(NAMES)}
    if not len(parts["train"]):
        raise UsageError(f"column {name!r} has no row of train", where=where, fix="Some rows have to be trained on.")
    for split, file in (("validation", options.validation_data), ("test", options.test_data)):
        if file and len(parts[split]):
            raise UsageError(
                f"column {name!r} has {len(parts[split])} {split} rows, and a table of its own is given too",
                where=f"--{split}-data",
                fix=f"Leave out --{split}-data, or those rows.",
            )
    return {split: rows for split, rows in parts.items() if len(rows)}


# ---- by group --------------------------------------------------------------------------------------------------------


def _by_group(  # noqa: PLR0917
    name: str,
    values: pa.ChunkedArray,
    shares: Mapping[str, float],
    seed: int,
    target: Target,
    labels: NDArray[np.float32],
    *,
    where: str,
) -> dict[str, Indices]:
    missing = is_missing(values)
    if missing.any():
        raise _missing(name, missing, "group", where=where, fix="Give each of these rows a group")
    groups = _numbered(values)
    strata = target.strata(labels)
    _check_groups(name, groups, strata, shares, target, where=where)
    return grouped_split(groups, strata, shares, seed)


def _numbered(values: pa.ChunkedArray) -> NDArray[np.int64]:
    """The number of each row's group (rows,), in the order in which they first occur."""
    places, texts = distinct(values)
    # Several values may have one text, such as 1 and 1.0.
    numbers: dict[str | None, int] = {}
    by_text = np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.int64)
    _, first, found = np.unique(by_text[places], return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    numbered: NDArray[np.int64] = rank[found.reshape(-1)]
    return numbered


def _check_groups(
    name: str, groups: NDArray[np.int64], strata: NDArray[np.int64], shares: Mapping[str, float], target: Target, *,
    where: str,
) -> None:  # fmt: skip
    """Raises UsageError if there are too few groups, of all rows or of one of two classes, for every split."""
    splits = f"{listed([NAMES[split] for split in shares])} rows"
    fix = "Name another column, or make fewer splits with --test-split 0 or --validation-split 0."
    count = int(groups.max()) + 1
    if count < len(shares):
        raise UsageError(
            f"column {name!r} has {count} group{'' if count == 1 else 's'}, too few for {splits}", where=where, fix=fix
        )
    classes = np.unique(strata)
    if len(classes) != 2:
        return
    for class_ in classes.tolist():
        count = len(np.unique(groups[strata == class_]))
        if count < len(shares):
            raise UsageError(
                f"the rows of the class {target.names[class_]!r} are in {count} group{'' if count == 1 else 's'} of "
                f"column {name!r}, too few for {splits} with both classes",
                where=where,
                fix=fix,
            )


def _missing(name: str, missing: NDArray[np.bool_], what: str, *, where: str, fix: str) -> UsageError:
    count = int(missing.sum())
    return UsageError(
        f"the {what} in column {name!r} is missing in {count} of {len(missing)} rows, first",
        where=where,
        row=int(np.flatnonzero(missing)[0]) + 1,
        fix=f"{fix}, or leave them out of the table.",
    )


# ---- by time ---------------------------------------------------------------------------------------------------------


def _by_time(
    options: TableOptions,
    name: str,
    values: pa.ChunkedArray,
    shares: Mapping[str, float],
    *,
    untyped: bool,
    where: str,
    notes: list[str],
) -> dict[str, Indices]:
    missing = is_missing(values)
    if missing.any():
        raise _missing(name, missing, "time", where=where, fix="Fill it in")
    times, is_date, zoned = _times(name, values, untyped=untyped, where=where)
    gap = _gap(options.time_gap, name, is_date=is_date)
    try:
        parts, left_out = chronological_split(times, shares, gap)
    except TooFewRows as error:
        count = len(np.unique(times))
        within = f" with a gap of {options.time_gap}" if gap else ""
        raise UsageError(
            f"column {name!r} has {count} different time{'' if count == 1 else 's'}, too few for "
            f"{listed([NAMES[split] for split in shares])} rows{within}",
            where=where,
            fix="Use a smaller --time-gap, another column, or --test-split 0." if gap
            else "Use another column, or --test-split 0.",
        ) from error  # fmt: skip
    for split, later in zip(parts, list(parts)[1:], strict=False):
        first = times[parts[later]].min()
        text = date_text(int(first), zoned=zoned) if is_date else f"{first:g}"
        notes.append(f"the {NAMES[later]} rows begin at {name} = {text}, later than all {NAMES[split]} rows")
    if len(left_out):
        notes.append(f"{len(left_out)} rows are left out: they are less than {options.time_gap} older than a split")
    return parts


def _times(
    name: str, values: pa.ChunkedArray, *, untyped: bool, where: str
) -> tuple[NDArray[np.int64] | NDArray[np.float64], bool, bool]:
    """The times as numbers that can be compared, whether they are dates, and whether those have a zone."""
    import pyarrow as pa

    kind = values.type
    if is_number(kind) or (untyped and is_text(values) and are_numbers(values)):
        return numbers_of(name, values, where=where), False, False
    if is_text(values):
        wrong = np.flatnonzero(~are_dates(cleaned(values)))
        if len(wrong):
            raise UsageError(
                f"{values[int(wrong[0])].as_py()!r} in the column {name!r} of times is neither a date nor a number",
                where=where,
                row=int(wrong[0]) + 1,
                fix="Write 2024-01-31 or 2024-01-31T12:30:00, or use another --time column.",
            )
    elif not (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
        raise UsageError(
            f"column {name!r} holds {kind}, which does not say which row is newer",
            where=where,
            fix="Use a column of dates, timestamps or numbers.",
        )
    zoned = mostly_zoned(values)
    return dates_of(name, values, zoned=zoned, where=where).us, True, zoned


def _gap(text: str | None, name: str, *, is_date: bool) -> float:
    """The gap in the unit of the times. Raises UsageError for a text that is not one, and for a negative gap."""
    import pyarrow as pa

    if text is None:
        return 0
    gap = None
    if is_date:
        given = pa.chunked_array([[text.strip()]])
        if are_durations(given)[0]:
            gap = float(durations_of("gap", given, where="--time-gap").us[0])
    else:
        try:
            gap = float(text)
        except ValueError:
            gap = None
    if gap is None or not 0 <= gap < math.inf:
        kind = "dates" if is_date else "numbers"
        form = "a duration such as P7D, PT12H or '7 days'" if is_date else "a number ≥ 0 in their unit"
        raise UsageError(f"{text!r} is not a gap: {name} holds {kind}", where="--time-gap", fix=f"Use {form}.")
    return gap
