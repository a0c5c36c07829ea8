"""What a stored value means: plain Arrow types, words for missing, numbers, truth values, dates and times."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.chosen import taken
from trainer.data.tables.moments import duration_text, moment_key
from trainer.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

Indices = NDArray[np.int64]
"""Row numbers, from 0."""
Precision = Literal["half", "single"]
"""Floats of fewer digits than float64's, which is what a number in a text is read as."""
_ROUNDED: dict[Precision, Any] = {"half": np.float16, "single": np.float32}
MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?")
"""Text that means a missing value, without surrounding white space."""
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?[iI]nf(inity)?$"
"""Text that is a number, for RE2 and for Python with re.ASCII."""
FIRST_ROWS = 1000
UNITS_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_NUMBER = re.compile(NUMBER, re.ASCII)
_WHOLE = re.compile(r"([+-]?)0*(\d+)(?:\.0*)?", re.ASCII)


@contextmanager
def rows_of_the_table(rows: Indices | None) -> Iterator[None]:
    """Makes errors in the selected `rows` (n,) name the row of the whole table, which is the one to look up."""
    try:
        yield
    except UsageError as error:
        if rows is None or error.row is None:
            raise
        row = int(rows[error.row - 1]) + 1
        raise UsageError(error.what, where=error.where, fix=error.fix, row=row) from error


# ---- Arrow's types --------------------------------------------------------------------------------------------------


def plain(values: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray:
    """The values without an encoding: dictionaries, large and view strings as strings; NaN in half floats is null."""
    import pyarrow as pa
    from pyarrow import compute

    values = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])
    if pa.types.is_primitive(values.type) and not pa.types.is_float16(values.type):
        return values
    if pa.types.is_dictionary(values.type):
        # Decoded first to its own type: Arrow has no cast from a dictionary of large strings to strings.
        values = compute.cast(values, values.type.value_type)
    if is_run_end_encoded(values.type):
        values = pa.chunked_array([compute.run_end_decode(chunk) for chunk in values.chunks], values.type.value_type)
    if pa.types.is_large_string(values.type) or str(values.type) == "string_view":
        return compute.cast(values, pa.string())
    if pa.types.is_float16(values.type):
        # Nulls become NaN on the way to numpy, and NaN is missing, as everywhere.
        return pa.chunked_array([pa.array(values.to_numpy(), pa.float16(), from_pandas=True)])
    return values


@cache
def plain_type(kind: Any) -> Any:
    """The type that `plain` makes of an Arrow type."""
    import pyarrow as pa

    return plain(pa.chunked_array([], kind)).type


def plain_table(table: pa.Table) -> pa.Table:
    """The table with its values in plain types."""
    import pyarrow as pa

    return pa.table([plain(column) for column in table.columns], names=table.column_names)


def column_of(table: pa.Table, name: str, rows: Indices | None = None) -> pa.ChunkedArray:
    """A column, or `rows` (n,) of it, in plain types."""
    # Before the rows are taken, which Arrow cannot do with every type.
    values = plain(table.column(name))
    return values if rows is None else taken(values, rows)


def is_run_end_encoded(kind: Any) -> bool:
    """Whether the type stores runs of equal values."""
    return str(kind).startswith("run_end_encoded")


def is_text(values: pa.ChunkedArray) -> bool:
    """Whether the values are plain strings."""
    import pyarrow as pa

    return bool(pa.types.is_string(values.type))


def is_number(kind: Any) -> bool:
    """Whether an Arrow type is integers, floats or decimals."""
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def is_bytes(kind: Any) -> bool:
    """Whether an Arrow type is bytes, which need not be text."""
    import pyarrow as pa

    checks = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(check(kind) for check in checks) or str(kind) == "binary_view"


def check_flat(name: str, values: pa.ChunkedArray, *, where: str, fix: str = "") -> None:
    """Raises UsageError for lists, structs, bytes and intervals, which are neither classes nor categories."""
    import pyarrow as pa

    kind = values.type
    flat = pa.types.is_primitive(kind) or pa.types.is_string(kind) or pa.types.is_null(kind) or is_number(kind)
    if not flat or pa.types.is_interval(kind):
        raise UsageError(f"column {name!r} holds {kind}, which is neither numbers nor text", where=where, fix=fix)


# ---- text -----------------------------------------------------------------------------------------------------------


def cleaned(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text without surrounding white space; words for missing are null."""
    import pyarrow as pa
    from pyarrow import compute

    text = compute.utf8_trim_whitespace(values)
    return compute.if_else(compute.is_in(text, pa.array(MISSING)), pa.scalar(None, pa.string()), text)


def distinct(values: pa.ChunkedArray) -> tuple[NDArray[np.int64], list[str | None]]:
    """The number of each value's text (n,), and the distinct texts; a missing value has the text None.

    Text is cleaned. Floats are written as the shortest decimal that reads back to them in their own type, and numbers
    without a needless `.0`; truth values as true and false, dates, times and durations in their shortest ISO form.
    Costs a look at each distinct value in Python.
    """
    import pyarrow as pa
    from pyarrow import compute

    if pa.types.is_null(values.type):
        return np.zeros(len(values), np.int64), [None]
    kind = values.type
    half = pa.types.is_float16(kind)
    if half:
        # By their bits: Arrow has no dictionary of half floats.
        values = pa.chunked_array([chunk.view(pa.uint16()) for chunk in values.chunks], pa.uint16())
    encoded = values.dictionary_encode().unify_dictionaries()
    if not encoded.num_chunks:
        return np.zeros(0, np.int64), []
    words = encoded.chunk(0).dictionary
    words = words.view(kind) if half else words
    if is_text(values):
        texts = cleaned(pa.chunked_array([words])).to_pylist()
    elif is_number(kind) and not pa.types.is_decimal(kind):
        texts = [of_number(value) for value in shortest(words).to_pylist()]
    elif pa.types.is_duration(kind):
        whole = words.cast(pa.int64()).to_numpy(zero_copy_only=False)
        texts = [duration_text(int(each) * 10**6 // UNITS_PER_SECOND[kind.unit]) for each in whole]
    else:
        texts = [key_of(text) for text in compute.cast(words, pa.string()).to_pylist()]
    # A missing value has no number among the words.
    numbers = [chunk.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False) for chunk in encoded.chunks]
    return np.concatenate(numbers, dtype=np.int64), [*texts, None]


def shortest(values: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """Half and single floats as the shortest decimals that read back to them, in float64; others as they are.

    0.1 in half precision is 0.0999755859375, and in single precision 0.10000000149011612.
    """
    import pyarrow as pa

    if precision_of(values.type) is None:
        return values
    found, places = np.unique(values.to_numpy(zero_copy_only=False), return_inverse=True)
    return pa.array(np.array([_shortest(value) for value in found], np.float64)[places], from_pandas=True)


def precision_of(kind: Any) -> Precision | None:
    """The precision of an Arrow type; None if it is neither half nor single floats."""
    import pyarrow as pa

    return "half" if pa.types.is_float16(kind) else "single" if pa.types.is_float32(kind) else None


def _shortest(value: np.floating[Any]) -> float:
    return float(np.format_float_scientific(value))


def of_number(value: float | None) -> str | None:
    """A number as text, 1 for 1.0; None for a missing one."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def reads_as_number(text: str) -> bool:
    """Whether the text is a number, in ASCII digits and without separators of thousands."""
    return _NUMBER.match(text) is not None


def number_key(text: str, precision: Precision | None = None) -> str | None:
    """The text that all spellings of a number share, `1` for `1.0`, `01` and `1e0`; None if it is not a number.

    Whole numbers of any length are exact; others go through float64. With a precision, all numbers share it that are
    the same when they are rounded to that.
    """
    if precision is not None and reads_as_number(text):
        with np.errstate(over="ignore", under="ignore"):
            return of_number(_shortest(_ROUNDED[precision](float(text))))
    whole = _WHOLE.fullmatch(text)
    if whole is not None:
        sign = "-" if whole[1] == "-" and whole[2] != "0" else ""
        return sign + whole[2]
    return of_number(float(text)) if reads_as_number(text) else None


def truth_key(text: str) -> str | None:
    """`true` or `false` for them in any case, and for 1 and 0; None for any other text."""
    lower = text.lower()
    return lower if lower in ("true", "false") else {"1": "true", "0": "false"}.get(number_key(text) or "")


def key_of(text: str | None) -> str | None:
    """The text that all spellings of a number, a truth value, a date, a time or a duration share, or the text."""
    if text is None:
        return None
    lower = text.lower()
    return lower if lower in ("true", "false") else number_key(text) or moment_key(text) or text


# ---- numbers --------------------------------------------------------------------------------------------------------


def numbers_of(name: str, values: pa.ChunkedArray, *, where: str, truth: bool = False) -> NDArray[np.float64]:
    """The column as float64 (rows,), NaN where it is missing. Integers beyond 2⁵³ are rounded.

    With `truth`, true and false are 1 and 0. Raises UsageError for text, and for infinity.
    """
    numbers = stored_numbers(name, values, where=where, truth=truth)
    refuse_infinite(name, numbers, where=where)
    return numbers


def stored_numbers(name: str, values: pa.ChunkedArray, *, where: str, truth: bool = False) -> NDArray[np.float64]:
    """What `numbers_of` returns, before infinity is refused."""
    import pyarrow as pa
    from pyarrow import compute

    if pa.types.is_boolean(values.type) and truth:
        values = compute.cast(values, pa.int8())
    if is_text(values):
        numbers = of_text(values, truth=truth)
        if numbers is None:
            raise stray_text(name, values, where=where, truth=truth)
    elif is_number(values.type) or pa.types.is_null(values.type):
        if pa.types.is_decimal(values.type):
            # As the text that a CSV file would have: Arrow's cast of decimals to floats is not correctly rounded.
            values = compute.cast(values, pa.string())
        # Half floats through numpy, because older pyarrow cannot cast them.
        half = pa.types.is_float16(values.type)
        if not half and not pa.types.is_float64(values.type):
            values = compute.cast(values, pa.float64(), safe=False)
        # A view, unless values are missing.
        whole = values.chunk(0) if values.num_chunks == 1 else values
        numbers = whole.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    else:
        raise UsageError(f"column {name!r} holds {values.type}, not numbers", where=where)
    return numbers


def refuse_infinite(name: str, numbers: NDArray[np.float64], *, where: str) -> None:
    """Raises UsageError for the first infinite one of a column's numbers."""
    found = np.isinf(numbers)
    if found.any():
        raise infinite(name, int(np.flatnonzero(found)[0]), where=where)


def infinite(name: str, row: int, *, where: str) -> UsageError:
    """The error for an infinite number in a row, from 0."""
    return UsageError(
        f"column {name!r} is infinite", row=row + 1, where=where, fix="Correct it, or leave the field empty."
    )


def are_numbers(values: pa.ChunkedArray) -> bool:
    """Whether all values of a text column are numbers or missing."""
    # The first rows tell of most text, which Arrow's cast takes long to refuse.
    return all(of_text(part, truth=False) is not None for part in (values.slice(0, FIRST_ROWS), values))


def of_text(values: pa.ChunkedArray, *, truth: bool) -> NDArray[np.float64] | None:
    """Text as float64 (rows,), NaN where it is missing; None if a value is not a number."""
    import pyarrow as pa
    from pyarrow import compute

    def cast(text: pa.ChunkedArray) -> NDArray[np.float64] | None:
        numbers: NDArray[np.float64] = compute.cast(text, pa.float64()).to_numpy(zero_copy_only=False)
        # Arrow reads "-nan" and more as NaN, which only the words for missing may be.
        return numbers if int(np.isnan(numbers).sum()) == text.null_count else None

    with suppress(pa.ArrowInvalid):
        # In one pass if no field is empty and none has white space around it.
        found = cast(values)
        if found is not None:
            return found
    text = cleaned(values)
    if truth:
        lower = compute.utf8_lower(text)
        for word, number in (("true", "1"), ("false", "0")):
            text = compute.if_else(compute.equal(lower, word), number, text)
    with suppress(pa.ArrowInvalid):
        return cast(text)
    return None


def reads_as_numbers(values: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which values of a text column are numbers; False for missing ones."""
    from pyarrow import compute

    matches = compute.fill_null(compute.match_substring_regex(cleaned(values), NUMBER), False)
    return np.asarray(matches.to_numpy(zero_copy_only=False), bool)


def stray_text(name: str, values: pa.ChunkedArray, *, where: str, truth: bool = False) -> UsageError:
    """The error that names the first text among numbers."""
    text = cleaned(values)
    good = reads_as_numbers(values) | np.asarray(text.is_null().to_numpy(zero_copy_only=False)).astype(bool)
    rows = (int(row) for row in np.flatnonzero(~good))
    row = next(row for row in rows if not (truth and text[row].as_py().lower() in ("true", "false")))
    return UsageError(
        f"text {text[row].as_py()!r} in the numeric column {name!r}",
        row=row + 1,
        where=where,
        fix=f"Correct it, or add --ignore {name}, or --categorical {name} if the column is meant as text.",
    )
