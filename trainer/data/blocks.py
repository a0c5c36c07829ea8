"""The blocks of a user's own source of rows, checked as they are read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.checksum import checksum_of
from trainer.data.held import taken_as
from trainer.errors import SourceError, UsageError, first_line, type_of

_reading = threading.Lock()
"""Sources may share a connection or a file, so one block is read at a time."""


class CheckedBlocks:
    """Rows that `read(start, stop)` gives, in blocks of `block_rows`; the last block may be shorter.

    A block is a list of arrays: the inputs, the labels and, if there are some, the weights, each (rows, …), of a type
    that MXNet takes. They may be the source's own memory, which the next call overwrites.
    """

    def __init__(self, read: Callable[[int, int], Any], rows: int, block_rows: int, name: str) -> None:
        self._read = read
        self.rows = rows
        self.block_rows = block_rows
        self.name = name
        self._form: tuple[int, bool, list[tuple[tuple[int, ...], np.dtype[Any]]]] | None = None
        first = self.copy(0)
        self.first: list[NDArray[Any]] = first
        """The first block."""

    @property
    def count(self) -> int:
        """The number of blocks."""
        return -(-self.rows // self.block_rows)

    @property
    def inputs(self) -> int:
        """The number of the net's inputs."""
        assert self._form is not None  # noqa: S101  the first block was read
        return self._form[0]

    @property
    def weighted(self) -> bool:
        """Whether the rows have weights."""
        assert self._form is not None  # noqa: S101
        return self._form[1]

    def bounds(self, block: int) -> tuple[int, int]:
        """The first and the last row (exclusive) of a block."""
        return block * self.block_rows, min((block + 1) * self.block_rows, self.rows)

    def copy(self, block: int) -> list[NDArray[Any]]:
        """The arrays of a block, in memory of their own. Raises as `into` does."""
        copies: list[NDArray[Any]] = []
        self.into(block, lambda arrays: copies.extend(np.array(array, order="C") for array in arrays))
        return copies

    def into(self, block: int, use: Callable[[Sequence[NDArray[Any]]], object]) -> None:
        """Calls `use` with the arrays of a block, before another one is read.

        Raises UsageError, naming the block, for rows that are wrong, and SourceError if the source fails.
        """
        start, stop = self.bounds(block)
        where = f"{self.name}, block {block} (rows {start} to {stop - 1})"
        with _reading:
            try:
                given = self._read(start, stop)
            except UsageError:
                raise
            except Exception as error:
                reason = f"{type(error).__name__}: {first_line(error)}"
                raise SourceError(f"{where}: reading it failed: {reason}") from error
            use(self._checked(given, stop - start, where))

    def checksums(self) -> dict[str, str]:
        """The checksums of each column of the first, the middle and the last block, by their names."""
        found: dict[str, str] = {}
        for block in dict.fromkeys((0, self.count // 2, self.count - 1)):
            arrays = self.first if block == 0 else self.copy(block)
            names = self._names(self.inputs)
            found |= {f"{name} in block {block}": checksum_of(each) for name, each in zip(names, arrays, strict=False)}
        return found

    def _checked(self, given: Any, rows: int, where: str) -> list[NDArray[Any]]:
        """What `read` gave as arrays of the types that batches have."""
        if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
            size = f" of {len(given)}" if isinstance(given, (tuple, list, dict)) else ""
            raise UsageError(
                f"read gives {type_of(given)}{size}",
                where=where,
                fix="It has to return (features, labels) or (features, labels, weights); several inputs as a tuple.",
            )
        inputs = given[0] if isinstance(given[0], tuple) else (given[0],)
        names = self._names(len(inputs))
        arrays = [
            _numbers(part, rows, name, where, is_input=number < len(inputs))
            for number, (part, name) in enumerate(zip((*inputs, *given[1:]), names, strict=False))
        ]
        if len(given) == 3:
            arrays[-1] = _weights(arrays[-1], rows, where)
        form = len(inputs), len(given) == 3, [(array.shape[1:], array.dtype) for array in arrays]
        if self._form is None:
            self._form = form
        elif form != self._form:
            raise UsageError(
                f"its rows are {_described(form)}, and those of block 0 {_described(self._form)}",
                where=where,
                fix="Give every block the same columns and types.",
            )
        return arrays

    @staticmethod
    def _names(inputs: int) -> list[str]:
        several = [f"input {number}" for number in range(1, inputs + 1)]
        return [*(several if inputs > 1 else ["X"]), "y", "weights"]


def _numbers(part: Any, rows: int, name: str, where: str, *, is_input: bool) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.asarray(part.asnumpy() if hasattr(part, "asnumpy") else part)
    except ValueError as error:
        raise UsageError(f"{name} is not an array of numbers: {first_line(error)}", where=where) from error
    if array.dtype.kind not in "fiub":
        raise UsageError(
            f"{name} holds {array.dtype.name}, not numbers",
            where=where,
            fix="Convert it, and fill what is missing: np.asarray(values, dtype=np.float32).",
        )
    if not array.ndim or len(array) != rows:
        raise UsageError(
            f"{name} has {len(array) if array.ndim else 'no'} rows, not {rows}",
            where=where,
            fix="read(start, stop) has to return stop - start rows, in the same order every time.",
        )
    with np.errstate(over="ignore"):
        taken = array.astype(taken_as(array.dtype) if is_input else np.float32, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        # One quick pass; the search runs only if the sum is not finite.
        is_finite = taken.dtype.kind != "f" or np.isfinite(taken.sum())
    if not is_finite:
        bad = np.flatnonzero(~np.isfinite(taken.reshape(rows, -1)).all(axis=1))
        if len(bad):
            several = f" and in {len(bad) - 1} more" if len(bad) > 1 else ""
            value = taken[bad[0]].ravel()[~np.isfinite(taken[bad[0]].ravel())][0]
            raise UsageError(
                f"{name} holds {value:g} in row {bad[0]} of the block{several}",
                where=where,
                fix="Fill or drop such rows.",
            )
    return taken


def _weights(weights: NDArray[Any], rows: int, where: str) -> NDArray[Any]:
    if weights.size != rows or (weights < 0).any():
        what = "negative" if weights.size == rows else f"of shape {weights.shape}, not one per row"
        raise UsageError(f"its weights are {what}", where=where, fix="Give a weight of 0 or more per row.")
    return weights.reshape(rows)


def _described(form: tuple[int, bool, list[tuple[tuple[int, ...], np.dtype[Any]]]]) -> str:
    inputs, weighted, columns = form
    shown = [f"{dtype.name}{list(shape) if shape else ''}" for shape, dtype in columns]
    return f"{' and '.join(shown[:inputs])} with labels {shown[inputs]}{' and weights' if weighted else ''}"
