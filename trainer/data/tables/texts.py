"""The distinct texts of a column and how often each occurs, counted in pieces, without a Python object per text."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.hashing import mixed, text_hashes
from trainer.data.tables.values import FIRST_ROWS

if TYPE_CHECKING:
    import pyarrow as pa

Are = Callable[["pa.ChunkedArray"], NDArray[np.bool_]]
"""Tells which texts are of a kind."""
MOSTLY = 0.9
"""If at least this share of the values of a text column is of one kind, other text in it counts as a mistake."""
LAZILY = 1 << 16
"""Counts of pieces are put together when so many texts are waiting, or as many as are known."""
EXACT = 1 << 20
"""Up to so many distinct texts of a hashed column are counted exactly."""


class Texts:
    """Cleaned texts with their counts; one may be null, for missing values.

    `forget` gives up the texts: their number is then estimated from a sample of their hashes, and of the notations that
    `asked` recognises only the number of rows is kept. What is told is the same whether it was called or not.
    """

    def __init__(self, asked: tuple[tuple[Are, ...], ...] = ()) -> None:
        self.rows = self.missing = 0
        self._asked = asked
        self._parts: list[tuple[pa.Array, NDArray[np.int64]]] = []
        self._waiting = 0
        self._taken: dict[tuple[Are, ...], int] | None = None
        self._sample = Sample()

    def add(self, text: pa.ChunkedArray) -> None:
        """Counts texts as `canonical` gives them."""
        found = text.value_counts()
        self.rows += len(text)
        self.missing += text.null_count
        self._put(found.field("values"), found.field("counts").to_numpy(zero_copy_only=False).astype(np.int64))

    def merge(self, other: Texts) -> None:
        """Adds what another one counted."""
        self.rows += other.rows
        self.missing += other.missing
        if other._taken is not None:
            self.forget()
            assert self._taken is not None  # noqa: S101  it is set by forget
            self._taken = {are: count + other._taken[are] for are, count in self._taken.items()}
            self._sample.merge(other._sample)
        for part in other._parts:
            self._put(*part)

    def _put(self, values: pa.Array, counts: NDArray[np.int64]) -> None:
        if self._taken is not None:
            self._forget(values, counts)
            return
        self._parts.append((values, counts))
        self._waiting += len(values)
        if len(self._parts) > 1 and self._waiting > max(LAZILY, 2 * len(self._parts[0][0])):
            self._put_together()

    def _put_together(self) -> None:
        import pyarrow as pa

        if len(self._parts) > 1:
            values = pa.chunked_array([values for values, _ in self._parts], pa.string())
            table = pa.table({"text": values, "count": np.concatenate([counts for _, counts in self._parts])})
            grouped = pa.TableGroupBy(table, "text", use_threads=False).aggregate([("count", "sum")])
            texts = pa.concat_arrays(grouped["text"].chunks)
            self._parts = [(texts, grouped["count_sum"].to_numpy().astype(np.int64))]
        self._waiting = sum(len(values) for values, _ in self._parts)

    @property
    def counted(self) -> tuple[pa.Array, NDArray[np.int64]]:
        """The distinct texts and how often each occurs; one may be null. None of them if they were forgotten."""
        import pyarrow as pa

        self._put_together()
        return self._parts[0] if self._parts else (pa.array([], pa.string()), np.zeros(0, np.int64))

    @property
    def is_forgotten(self) -> bool:
        """Whether the texts were given up."""
        return self._taken is not None

    @property
    def size(self) -> int:
        """The memory of the texts, in bytes."""
        return sum(int(values.nbytes) + counts.nbytes for values, counts in self._parts)

    @property
    def present(self) -> int:
        """The values that are not missing."""
        return self.rows - self.missing

    def count(self, *, exact: bool = True) -> tuple[int, bool]:
        """The number of distinct texts and whether it is exact; it may be estimated beyond `EXACT`."""
        values, _ = self.counted
        if self._taken is None:
            found = len(values) - bool(self.missing)
            if exact or found <= EXACT:
                return found, True
            sample = Sample()
            sample.add(values)
            return sample.count
        return self._sample.count

    # ---- notations ---------------------------------------------------------------------------------------------------

    def are_mostly(self, *are: Are) -> bool:
        """Whether one of `are` takes almost all texts of the column.

        Each distinct text is looked at once at most: the look ends when too many others are found for that.
        """
        if self._taken is not None:
            return self._taken[are] >= MOSTLY * self.present
        import pyarrow as pa

        values, all_counts = self.counted
        taken = looked = start = 0
        size = FIRST_ROWS
        while start < len(values):
            part, counts = pa.chunked_array([values.slice(start, size)]), all_counts[start : start + size]
            taken += _taken_by(are, part, counts)
            looked += int(counts[~part.is_null().to_numpy().astype(bool)].sum())
            if self.present - (looked - taken) < MOSTLY * self.present:
                return False
            start, size = start + size, 2 * size
        return taken >= MOSTLY * self.present

    def taken(self, *are: Are) -> int:
        """The rows of texts that one of `are` takes."""
        import pyarrow as pa

        if self._taken is not None:
            return self._taken[are]
        values, counts = self.counted
        return _taken_by(are, pa.chunked_array([values]), counts)

    def forget(self) -> None:
        """Gives up the texts, as for a hashed column whose spellings are known to be what they are."""
        if self._taken is None:
            self._taken = dict.fromkeys(self._asked, 0)
            parts, self._parts, self._waiting = self._parts, [], 0
            for values, counts in parts:
                self._forget(values, counts)

    def _forget(self, values: pa.Array, counts: NDArray[np.int64]) -> None:
        import pyarrow as pa

        assert self._taken is not None  # noqa: S101  called when they are forgotten
        chunked = pa.chunked_array([values])
        self._taken = {are: count + _taken_by(are, chunked, counts) for are, count in self._taken.items()}
        self._sample.add(values)


def _taken_by(are: tuple[Are, ...], texts: pa.ChunkedArray, counts: NDArray[np.int64]) -> int:
    """The rows of texts that one of `are` takes."""
    found = np.zeros(len(texts), bool)
    for each in are:
        found |= each(texts)
    return int(counts[found].sum())


class Sample:
    """Counts distinct texts by those of their hashes that begin with some zeros (M. Wegman's adaptive sampling).

    The sample is a function of the set of texts alone. The estimate is off by about 0.1 %.
    """

    def __init__(self) -> None:
        self._zeros = 0
        self._hashes = np.zeros(0, np.uint64)

    def add(self, texts: pa.Array) -> None:
        """Adds texts; nulls do not count."""
        hashes = mixed(text_hashes(texts), 0)
        if texts.null_count:
            hashes = hashes[~texts.is_null().to_numpy(zero_copy_only=False)]
        self._add(np.unique(hashes))

    def merge(self, other: Sample) -> None:
        """Adds the texts of another one."""
        self._zeros = max(self._zeros, other._zeros)
        self._add(other._hashes)

    def _add(self, hashes: NDArray[np.uint64]) -> None:
        self._hashes = self._kept(np.union1d(self._hashes, self._kept(hashes)))
        while len(self._hashes) > EXACT:
            self._zeros += 1
            self._hashes = self._kept(self._hashes)

    def _kept(self, hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
        return hashes[hashes >> np.uint64(64 - self._zeros) == 0] if self._zeros else hashes

    @property
    def count(self) -> tuple[int, bool]:
        """The number of distinct texts, and whether it is exact."""
        return len(self._hashes) << self._zeros, not self._zeros
