"""Which rows of a table are in which split: at random by class, by group, by time, or as a column says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.chronological import chronological_split
from trainer.data.grouped import grouped_split
from trainer.data.split_names import JUDGED, NAMES
from trainer.data.stratified import TooFewRows, stratified_split
from trainer.data.tables.blocks import BLOCK_ROWS
from trainer.data.tables.coded import Coded, Codes, smallest
from trainer.data.tables.schema import check_column
from trainer.data.tables.split_times import SplitTimes
from trainer.data.tables.targets import Target
from trainer.data.tables.times import are_durations, date_text, durations_of
from trainer.data.tables.values import Indices
from trainer.errors import UsageError, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from trainer.data.tables.options import TableOptions

WORDS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "calibration": "calibration", "calib": "calibration", "cal": "calibration",
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
    if options.split is not None and options.calibration_split:
        raise UsageError(
            f"column {options.split!r} says which split a row is in, so the fraction has no effect",
            where="--calibration-split",
            fix="Leave it out, and write calibration in the rows to keep.",
        )
    if options.time_gap is not None and options.time is None:
        raise UsageError("it needs a split by time", where="--time-gap", fix="Add --time COLUMN, or leave it out.")
    if options.split is not None and options.split in options.features:
        raise UsageError(
            f"{options.split!r} says which split a row is in", where="--features", fix="Remove it: it is no feature."
        )


class Deciding:
    """The column that decides on the splits, read in pieces; only of rows that are kept."""

    def __init__(self, option: str, name: str, kind: Any, *, untyped: bool, where: str) -> None:
        self.option, self.name, self._kind, self._where = option, name, kind, where
        self._codes = Codes()
        self.times = SplitTimes(name, untyped=untyped, where=where)

    def add(self, values: pa.ChunkedArray) -> None:
        """Adds the values of the next rows, in plain types."""
        if self.option == "time":
            self.times.add(values)
        else:
            self._codes.add(values)

    @cached_property
    def coded(self) -> Coded:
        """The values, if the column names groups or splits."""
        return self._codes.done(self._kind)


def divided(  # noqa: PLR0917
    options: TableOptions,
    seed: int,
    target: Target,
    labels: NDArray[Any],
    deciding: Deciding | None,
    again: Callable[[], Iterable[pa.ChunkedArray]],
    *,
    where: str,
    notes: list[str],
) -> dict[str, Indices]:
    """The rows of each split, in the file's order, counted among those that are kept because they have a label.

    `labels` (n,) are theirs. `again` reads the deciding column once more, for a message. `notes` are added to. Raises
    UsageError if the rows cannot be split as the options say.
    """
    shares = {} if deciding is not None and deciding.option == "split" else _shares(options)
    if deciding is not None:
        if deciding.option == "split":
            return _as_told(options, deciding.name, deciding.coded, where=where)
        if len(shares) > 1:
            if deciding.option == "group":
                return _by_group(deciding.name, deciding.coded, shares, seed, target, labels, where=where)
            return _by_time(options, deciding, shares, again, where=where, notes=notes)
    left: NDArray[Any] | None = None
    parts: dict[str, Indices] = {}
    # Rows for calibration are taken last: validation and test have the same rows without them.
    for split in sorted(shares, key=("validation", "test", "calibration", "train").index):
        if split != "train":
            size = round(shares[split] * len(labels))
            left, parts[split] = _split_off(left, size, target, labels, seed, split, where=where)
    parts["train"] = np.arange(len(labels)) if left is None else np.flatnonzero(left)
    return {split: parts[split] for split in shares}


def _shares(options: TableOptions) -> dict[str, float]:
    """The share of each split in all rows; those of a file of their own, and empty ones, are left out."""
    files = options.own_tables()
    wanted = {split: 0.0 if files[split] else getattr(options, f"{split}_split") for split in JUDGED}
    for split, fraction in wanted.items():
        if not 0 <= fraction < 1:
            raise UsageError(
                f"{fraction:g} is not a fraction", where=f"--{split}-split", fix="Use a number ≥ 0 and < 1."
            )
    held_out = {split: fraction for split, fraction in wanted.items() if fraction}
    if sum(wanted.values()) >= 1:
        raise UsageError(
            f"{listed([f'{split} ({fraction:g})' for split, fraction in held_out.items()])} leave no rows to train on",
            where=", ".join(f"--{split}-split" for split in held_out),
            fix="Their sum has to be < 1.",
        )
    return {"train": 1 - sum(held_out.values()), **held_out}


def _split_off(  # noqa: PLR0917
    left: NDArray[np.bool_] | None,
    size: int,
    target: Target,
    labels: NDArray[Any],
    seed: int,
    split: str,
    *,
    where: str,
) -> tuple[NDArray[np.bool_], Indices]:
    """Splits off `size` of the rows that are left (n,), by the seed and in equal shares of the target's strata.

    Returns which are left then, and those.
    """
    among = labels if left is None else labels[left]
    try:
        chosen = stratified_split(target.strata(among), size, seed, f"{split} split")
    except TooFewRows as error:
        raise target.too_few(labels, among, split, size, where=where) from error
    if left is None:
        left = np.ones(len(labels), bool)
    else:
        chosen = np.flatnonzero(left)[chosen]
    left[chosen] = False
    return left, chosen


# ---- as a column says ------------------------------------------------------------------------------------------------


def _as_told(options: TableOptions, name: str, values: Coded, *, where: str) -> dict[str, Indices]:
    codes, texts = values.codes, values.texts
    splits = [WORDS.get(text.strip().lower()) if text is not None else None for text in texts]
    numbers = np.array([-1 if split is None else list(NAMES).index(split) for split in splits], np.int8)[codes]
    wrong = np.flatnonzero(numbers < 0)
    if len(wrong):
        text = texts[codes[wrong[0]]]
        what = f"{len(wrong)} of {len(codes)} values in column {name!r} {'is' if len(wrong) == 1 else 'are'} not"
        raise UsageError(
            f"{what} train, validation, calibration or test, the first {'missing' if text is None else repr(text)}",
            where=where,
            row=int(wrong[0]) + 1,
            fix="Write one of them in every row; valid, val and dev stand for validation, calib and cal for "
            "calibration.",
        )
    parts = {split: np.flatnonzero(numbers == number) for number, split in enumerate(NAMES)}
    if not len(parts["train"]):
        raise UsageError(f"column {name!r} has no row of train", where=where, fix="Some rows have to be trained on.")
    for split, file in options.own_tables().items():
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
    values: Coded,
    shares: Mapping[str, float],
    seed: int,
    target: Target,
    labels: NDArray[Any],
    *,
    where: str,
) -> dict[str, Indices]:
    missing = values.missing
    if missing.any():
        found = int(missing.sum()), int(missing.argmax())
        raise _missing(name, *found, len(missing), "group", where=where, fix="Give each of these rows a group")
    groups = _numbered(values)
    strata = target.strata(labels)
    _check_groups(name, groups, strata, shares, target, where=where)
    return grouped_split(groups, strata, shares, seed)


def _numbered(values: Coded) -> NDArray[Any]:
    """The number of each row's group (rows,), in the order in which they first occur."""
    codes, count = values.codes, len(values.texts)
    first = np.full(count, len(codes))
    for start in reversed(range(0, len(codes), BLOCK_ROWS)):
        part = codes[start : start + BLOCK_ROWS]
        # Of several assignments to one place the last one stays: that of the first row.
        first[part[::-1]] = np.arange(start + len(part) - 1, start - 1, -1)
    rank = np.empty(count, smallest(count))
    rank[np.argsort(first, kind="stable")] = np.arange(count)
    numbered: NDArray[Any] = rank[codes]
    return numbered


def _check_groups(
    name: str, groups: NDArray[Any], strata: NDArray[Any], shares: Mapping[str, float], target: Target, *,
    where: str,
) -> None:  # fmt: skip
    """Raises UsageError if there are too few groups, of all rows or of one of two classes, for every split."""
    splits = f"{listed([NAMES[split] for split in shares])} rows"
    zeros = " or ".join(f"--{split}-split 0" for split in reversed(list(shares)) if split != "train")
    fix = f"Name another column, or make fewer splits with {zeros}."
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


def _missing(name: str, count: int, first: int, rows: int, what: str, *, where: str, fix: str) -> UsageError:
    return UsageError(
        f"the {what} in column {name!r} is missing in {count} of {rows} rows, first",
        where=where,
        row=first + 1,
        fix=f"{fix}, or leave them out of the table.",
    )


# ---- by time ---------------------------------------------------------------------------------------------------------


def _by_time(
    options: TableOptions,
    deciding: Deciding,
    shares: Mapping[str, float],
    again: Callable[[], Iterable[pa.ChunkedArray]],
    *,
    where: str,
    notes: list[str],
) -> dict[str, Indices]:
    name, found = deciding.name, deciding.times
    if found.missing:
        raise _missing(name, found.missing, found.first_missing, found.rows, "time", where=where, fix="Fill it in")
    if found.is_broken:
        raise found.error(again)
    times, is_date, zoned = found.times, found.is_date, found.zoned
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
