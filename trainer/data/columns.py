"""One column of a table: its Arrow values, its statistics over the training rows, and the net inputs it becomes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

Indices = NDArray[np.int64]
"""Row numbers, from 0."""
Kind = Literal["numeric", "boolean", "text"]
MOSTLY_NUMBERS = 0.9
"""If at least this share of a text column parses as numbers, it counts as a numeric column with an error."""
MOST_CATEGORIES = 1000
MISSING_NAME = "(missing)"


@dataclass(frozen=True)
class Column:
    """A column's statistics over the training rows. `mean` fills missing values; `mean` and `deviation` standardise."""

    name: str
    kind: Kind
    mean: float = 0.0
    deviation: float = 1.0
    categories: tuple[str, ...] = ()
    missing_category: bool = False

    @property
    def width(self) -> int:
        """The number of net inputs it becomes."""
        return len(self.categories) + self.missing_category if self.kind == "text" else 1

    @property
    def feature_names(self) -> list[str]:
        """The names of those inputs."""
        if self.kind != "text":
            return [self.name]
        values = [*self.categories, MISSING_NAME] if self.missing_category else self.categories
        return [f"{self.name}={value}" for value in values]


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


def values_of(table: pa.Table, name: str, rows: Indices | None) -> pa.ChunkedArray:
    """A column, or `rows` (n,) of it, with dictionaries, large strings, half floats and decimals as plain types."""
    import pyarrow as pa
    from pyarrow import compute

    values = table.column(name)
    if rows is not None:
        values = values.take(pa.array(rows))
    if pa.types.is_dictionary(values.type):
        values = compute.cast(values, values.type.value_type)
    if pa.types.is_large_string(values.type) or str(values.type) == "string_view":
        return compute.cast(values, pa.string())
    if pa.types.is_float16(values.type):
        # Through numpy, because older pyarrow cannot cast half floats; NaN is missing, as everywhere.
        return pa.chunked_array([pa.array(values.to_numpy().astype(np.float32), from_pandas=True)])
    return compute.cast(values, pa.float64()) if pa.types.is_decimal(values.type) else values


def as_float(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Integers as float64, rounded beyond 2⁵³, which pyarrow refuses by default; untyped nulls as float64 too."""
    import pyarrow as pa
    from pyarrow import compute

    # In a small file a column may have no value at all; its type is then null.
    wanted = pa.types.is_integer(values.type) or pa.types.is_null(values.type)
    return compute.cast(values, pa.float64(), safe=False) if wanted else values


def labels_of(table: pa.Table, name: str, rows: Indices | None, *, where: str) -> pa.ChunkedArray:
    """The label column. Raises UsageError for values that cannot name classes."""
    values = values_of(table, name, rows)
    check_flat(name, values, where=where)
    return values


def check_flat(name: str, values: pa.ChunkedArray, *, where: str) -> None:
    """Raises UsageError for lists, structs and bytes, which are neither classes nor categories."""
    import pyarrow as pa

    kind = values.type
    if pa.types.is_nested(kind) or not (pa.types.is_primitive(kind) or pa.types.is_string(kind)):
        if pa.types.is_null(kind):
            return
        raise UsageError(f"column {name!r} holds {kind}, which is neither numbers nor text", where=where)


def learn(name: str, values: pa.ChunkedArray, *, categorical: bool, where: str) -> Column:
    """The column's statistics over the training rows. Raises UsageError for a column without information."""
    import pyarrow as pa

    if values.null_count == len(values):
        raise UsageError(f"column {name!r} is all missing", where=where, fix=f"Add --ignore {name}.")
    kind = "text" if categorical else kind_of(name, values, where=where)
    if kind == "text":
        return _learn_text(name, as_text(values), where=where)
    if pa.types.is_boolean(values.type):
        numbers = numbers_of(name, values, where=where)
        return Column(name, "boolean", mean=float(np.nanmean(numbers)))
    numbers = numbers_of(name, values, where=where)
    present = numbers[~np.isnan(numbers)]
    if not len(present):
        raise UsageError(f"column {name!r} is all missing", where=where, fix=f"Add --ignore {name}.")
    mean, deviation = float(present.mean()), float(present.std())
    if deviation <= abs(mean) * 1e-12:
        # Constant up to rounding; dividing by such a deviation would amplify the rounding to noise.
        mean, deviation = float(present[0]), 1.0
    return Column(name, "numeric", mean=mean, deviation=deviation)


def _learn_text(name: str, values: pa.ChunkedArray, *, where: str) -> Column:
    categories = sorted(value for value in values.unique().to_pylist() if value is not None)
    if len(categories) > MOST_CATEGORIES:
        raise UsageError(
            f"column {name!r} has {len(categories)} different values, too many for categories",
            where=where,
            fix=f"Add --ignore {name}.",
        )
    return Column(name, "text", categories=tuple(categories), missing_category=values.null_count > 0)


def kind_of(name: str, values: pa.ChunkedArray, *, where: str) -> Kind:
    """Numeric, boolean or text. Raises UsageError for numbers with stray text, and for other types."""
    import pyarrow as pa

    kind = values.type
    if pa.types.is_boolean(kind):
        return "boolean"
    if _is_number(kind):
        return "numeric"
    if pa.types.is_string(kind):
        present = len(values) - values.null_count
        reads = readable(values)
        count = int(reads.sum())
        if count == present:
            return "numeric"
        if count >= MOSTLY_NUMBERS * present:
            raise stray_text(name, values, where=where)
        return "text"
    raise UsageError(
        f"column {name!r} holds {kind}, which is neither numbers nor text", where=where, fix=f"Add --ignore {name}."
    )


def stray_text(name: str, values: pa.ChunkedArray, *, where: str) -> UsageError:
    """The error that names the first text among numbers."""
    reads = readable(values)
    present = ~np.asarray(values.is_null().to_numpy(zero_copy_only=False))
    row = int(np.flatnonzero(present & ~reads)[0])
    return UsageError(
        f"text {values[row].as_py()!r} in the numeric column {name!r}",
        row=row + 1,
        where=where,
        fix=f"Correct it, or add --ignore {name}, or --categorical {name} if the column is meant as text.",
    )


def readable(values: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which values of a text column parse as numbers; False for missing ones."""
    from pyarrow import compute

    pattern = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?[iI]nf(inity)?$"
    matches = compute.fill_null(compute.match_substring_regex(values, pattern), False)
    result: NDArray[np.bool_] = matches.to_numpy(zero_copy_only=False).astype(bool)
    return result


def numbers_of(name: str, values: pa.ChunkedArray, *, where: str) -> NDArray[np.float64]:
    """The column as float64 (rows,), NaN where it is missing. Raises UsageError for text and for infinity."""
    import pyarrow as pa
    from pyarrow import compute

    if pa.types.is_boolean(values.type):
        values = compute.cast(values, pa.int8())
    if pa.types.is_string(values.type):
        reads = readable(values)
        if int(reads.sum()) < len(values) - values.null_count:
            raise stray_text(name, values, where=where)
    elif not _is_number(values.type):
        raise UsageError(f"column {name!r} holds {values.type}, not numbers", where=where)
    numbers: NDArray[np.float64] = compute.cast(values, pa.float64()).to_numpy(zero_copy_only=False)
    infinite = np.isinf(numbers)
    if infinite.any():
        row = int(np.flatnonzero(infinite)[0])
        raise UsageError(
            f"column {name!r} is infinite", row=row + 1, where=where, fix="Correct it, or leave the field empty."
        )
    return numbers


def as_text(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column as text: numbers without a needless `.0`, booleans as true and false."""
    import pyarrow as pa
    from pyarrow import compute

    if pa.types.is_string(values.type):
        return values
    if pa.types.is_floating(values.type):
        distinct = values.unique()
        texts = pa.array([plain(value) for value in distinct.to_pylist()], pa.string())
        return texts.take(compute.index_in(values, distinct).combine_chunks()) if len(distinct) else values
    return compute.cast(values, pa.string())


def plain(value: Any) -> str | None:
    """A value as text: 1 for 1.0, true for True; None for a missing value."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))
