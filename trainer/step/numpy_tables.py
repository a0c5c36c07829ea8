"""Lookups in tables of weights, for nets that numpy computes: sums of rows, and rows side by side.

scipy multiplies sparse matrices of ones, one for each row number, with the tables. Its own classes would allocate an
array as large as the table for each gradient, so its functions on plain arrays are called. These are not documented,
but have had the same form since 2012.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.step.numpy_operators import Value

if TYPE_CHECKING:
    from trainer.step.numpy_operators import Code, Floats


@dataclass(frozen=True, slots=True)
class Ids:
    """Columns of an input that hold row numbers."""

    name: str
    columns: int
    given: Any
    """The type of the input."""
    dtype: Any
    """Of the row numbers, as they are looked up."""
    is_whole: bool = True
    """Whether they are all columns of the input."""


@dataclass(frozen=True, slots=True)
class Looked:
    """The rows of a table that row numbers select, (rows, columns of the numbers, units)."""

    ids: Ids
    table: str
    units: int


@dataclass(frozen=True, slots=True)
class Joined:
    """A sparse matrix of ones, with a row for each sum of the table's rows, and a function that calls scipy with it."""

    starts: NDArray[Any]
    ones: NDArray[np.float32]
    sums: int
    units: int

    @classmethod
    def of(cls, sums: int, per_sum: int, units: int, dtype: Any) -> Joined:
        """The matrix of `sums` rows with `per_sum` ones each."""
        starts = np.arange(0, sums * per_sum + 1, per_sum, dtype=dtype)
        return cls(starts, np.ones(sums * per_sum, np.float32), sums, units)

    def add_rows(self, table: Floats, ids: NDArray[Any], to: Floats) -> None:
        """Adds the sums of the table's rows to `to`, (sums, units)."""
        from scipy.sparse import _sparsetools

        if self.units == 1:
            _sparsetools.csr_matvec(
                self.sums, len(table), self.starts, ids, self.ones, table.reshape(-1), to.reshape(-1)
            )
        else:
            _sparsetools.csr_matvecs(
                self.sums, len(table), self.units, self.starts, ids, self.ones, table.reshape(-1), to.reshape(-1)
            )

    def add_to_rows(self, given: Floats, ids: NDArray[Any], table: Floats) -> None:
        """Adds each row of `given`, (sums, units), to all rows of the table that its sum has."""
        from scipy.sparse import _sparsetools

        if self.units == 1:
            _sparsetools.csc_matvec(
                len(table), self.sums, self.starts, ids, self.ones, given.reshape(-1), table.reshape(-1)
            )
        else:
            _sparsetools.csc_matvecs(
                len(table), self.sums, self.units, self.starts, ids, self.ones, given.reshape(-1), table.reshape(-1)
            )


Pend = Callable[[Joined, NDArray[Any], "Floats"], None]
"""Takes the gradient of sums of a table's rows: the matrix, the row numbers, and the gradient (sums, units)."""


def _flat_ids(code: Code, ids: Ids) -> str:
    """The name of the row numbers, (rows · columns,), at this place in the function."""
    if ids.is_whole and ids.given == ids.dtype:
        name = f"ids{len(code.names)}"
        code.names[name] = None
        code.forward.append(f"{name} = {ids.name}.reshape(-1)")
        return name
    held = np.empty((code.rows, ids.columns), ids.dtype)
    code.forward.append(f"{code.named(held)}[...] = {ids.name}")
    return code.named(held.reshape(-1))


def summed(code: Code, looked: Looked) -> Value:
    """The sum of the rows that each row's numbers select: the operator `sum` over the columns of the numbers."""
    matrix = Joined.of(code.rows, looked.ids.columns, looked.units, looked.ids.dtype)
    ids, table = _flat_ids(code, looked.ids), code.named(code.parameters[looked.table])
    name = code.output or code.room(looked.units)
    output = Value(name, looked.units, needs_gradient=True, users=0)
    code.forward += [f"{name}.fill(0)", f"{code.named(matrix.add_rows)}({table}, {ids}, {name})"]
    pend, held = code.named(code.tables[looked.table]), code.named(matrix)
    code.backward.append(lambda: [f"{pend}({held}, {ids}, {output.gradient})"] if output.gradient else [])
    return output


def side_by_side(code: Code, looked: Looked) -> Value:
    """The rows that each row's numbers select, one after the other."""
    count, columns = code.rows * looked.ids.columns, looked.ids.columns * looked.units
    matrix = Joined.of(count, 1, looked.units, looked.ids.dtype)
    ids, table = _flat_ids(code, looked.ids), code.named(code.parameters[looked.table])
    name = code.output or code.room(columns)
    output = Value(name, columns, needs_gradient=True, users=0)
    rows = code.named(code.names[name].reshape(count, looked.units))
    code.forward.append(f"take({table}, {ids}, 0, {rows}, 'clip')")
    pend, held = code.named(code.tables[looked.table]), code.named(matrix)
    code.backward.append(lambda: [f"{pend}({held}, {ids}, {output.gradient})"] if output.gradient else [])
    return output


def joined(code: Code, parts: Sequence[Value]) -> Value:
    """The operator `Concat` of the columns of several values."""
    columns = sum(part.columns for part in parts)
    name = code.output or code.room(columns)
    output = Value(name, columns, any(part.needs_gradient for part in parts), users=0)
    starts = np.cumsum([0, *(part.columns for part in parts)]).tolist()
    slices = [f"[:, {start}:{start + part.columns}]" for start, part in zip(starts, parts, strict=False)]
    code.forward += [f"{name}{own}[...] = {part.name}" for own, part in zip(slices, parts, strict=True)]

    def backward() -> list[str]:
        if not output.gradient:
            return []
        return [
            line
            for own, part in zip(slices, parts, strict=True)
            for line in code.pass_back(part, f"{{to}}[...] = {output.gradient}{own}")
        ]

    code.backward.append(backward)
    return output


Shape = int | Ids | Looked
"""What an operator gives: the columns of a value, or one of the two above."""


def shape_of(operator: str, attributes: Mapping[str, str], given: Sequence[Shape], table: str, units: int) -> Any:
    """What an operator on row numbers and rows gives; None if numpy does not compute it.

    `table` is the parameter that an Embedding looks rows up in, with `units` columns.
    """
    first = given[0]
    if operator == "slice_axis" and isinstance(first, Ids) and first.is_whole and attributes.get("axis") == "1":
        begin, end = attributes["begin"], attributes.get("end", "None")
        if end == "None" or not 0 <= int(begin) < int(end) <= first.columns:
            return None
        return Ids(f"{first.name}[:, {begin}:{end}]", int(end) - int(begin), first.given, first.dtype, is_whole=False)
    if operator == "Embedding" and isinstance(first, Ids) and table:
        return Looked(first, table, units)
    if isinstance(first, Looked) and len(given) == 1:
        axis, shape = attributes.get("axis", "").strip("() ,"), attributes.get("shape", "").replace(" ", "")
        if operator == "sum" and axis == "1" and attributes.get("keepdims", "False") == "False":
            return first.units if attributes.get("exclude", "False") == "False" else None
        if operator == "Flatten" or (operator == "Reshape" and shape == "(0,-1)"):
            return first.ids.columns * first.units
    if operator == "Concat" and attributes.get("dim") == "1" and all(isinstance(each, int) for each in given):
        return sum(each for each in given if isinstance(each, int))
    return None


ON_TABLES = ("slice_axis", "Embedding", "sum", "Flatten", "Reshape", "Concat")


def build(code: Code, operator: str, shape: Shape, given: Sequence[Any]) -> Value | Ids | Looked:
    """Adds an operator of `ON_TABLES` to the function; `shape` is what `shape_of` has found."""
    if not isinstance(shape, int):
        return shape
    if operator == "Concat":
        return joined(code, given)
    return summed(code, given[0]) if operator == "sum" else side_by_side(code, given[0])
