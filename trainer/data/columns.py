"""One column of a table: what it is learned to be on the training rows, and how it becomes inputs of a net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["numeric", "boolean", "text"]
MOSTLY_NUMBERS = 0.9
"""A text column of which at least so much reads as numbers is taken for numbers with a mistake in them."""
MOST_CATEGORIES = 1000
MISSING_NAME = "(missing)"


@dataclass(frozen=True)
class Column:
    """A column as the training rows have it. `mean` fills what is missing and, with `deviation`, standardises."""

    name: str
    kind: Kind
    mean: float = 0.0
    deviation: float = 1.0
    categories: tuple[str, ...] = ()
    missing_category: bool = False

    @property
    def width(self) -> int:
        """How many inputs of the net it becomes."""
        return len(self.categories) + self.missing_category if self.kind == "text" else 1

    @property
    def feature_names(self) -> list[str]:
        """The names of those inputs."""
        if self.kind != "text":
            return [self.name]
        values = [*self.categories, MISSING_NAME] if self.missing_category else self.categories
        return [f"{self.name}={value}" for value in values]


def learn(name: str, values: pa.ChunkedArray, *, categorical: bool, where: str) -> Column:
    """What the column is, from the training rows. Raises UsageError for one that nothing can be learned from."""
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
        # Constant, perhaps but for rounding, which dividing by such a deviation would blow up to noise.
        mean, deviation = float(present[0]), 1.0
    return Column(name, "numeric", mean=mean, deviation=deviation)


def _learn_text(name: str, values: pa.ChunkedArray, *, where: str) -> Column:
    categories = sorted(value for value in values.unique().to_pylist() if value is not None)
    if len(categories) > MOST_CATEGORIES:
        raise UsageError(
            f"column {name!r} has {len(categories)} different texts, too many to be categories",
            where=where,
            fix=f"Add --ignore {name}.",
        )
    return Column(name, "text", categories=tuple(categories), missing_category=values.null_count > 0)


def kind_of(name: str, values: pa.ChunkedArray, *, where: str) -> Kind:
    """Numeric, boolean or text. Raises UsageError for numbers with stray text, and for types that are neither."""
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
        f"text {values[row].as_py()!r} in the numeric column {name!r} at row {row + 1}",
        where=where,
        fix=f"Correct it, or add --ignore {name}, or --categorical {name} if the column is meant as text.",
    )


def readable(values: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which values of a text column read as numbers; False for missing ones."""
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
        raise UsageError(f"column {name!r} holds {values.type} in place of numbers", where=where)
    numbers: NDArray[np.float64] = compute.cast(values, pa.float64()).to_numpy(zero_copy_only=False)
    infinite = np.isinf(numbers)
    if infinite.any():
        row = int(np.flatnonzero(infinite)[0])
        raise UsageError(
            f"column {name!r} is infinite at row {row + 1}", where=where, fix="Correct it, or leave the field empty."
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
    """A value as people write it: 1 for 1.0, true for True; None for a missing one."""
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
