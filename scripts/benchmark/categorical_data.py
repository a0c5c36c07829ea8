"""Rows of 13 numbers and 26 categorical columns, drawn from a known model; ids, and the files that are measured on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUMBERS, COLUMNS, VOCABULARY = 13, 26, 2_000_000
ROWS, SWEPT_ROWS, HELD_OUT = 1_000_000, 200_000, 100_000
QUICK_ROWS = 4_000
BATCH, BITS, MOST_BITS = 1024, 22, 24
SEED = 12345
PARTS = ("train", "validation", "test")
DIGITS = 8
"""A category is a text of eight hexadecimal digits."""


@dataclass(frozen=True)
class Table:
    """Rows, and the probabilities that their labels were drawn with."""

    numbers: NDArray[np.float32]
    """(rows, 13)"""
    ranks: NDArray[np.int32]
    """(rows, 26): a category is its place in its column's vocabulary, the most frequent one first."""
    labels: NDArray[np.float32]
    """(rows,), 0 or 1"""
    probabilities: NDArray[np.float64]
    """(rows,)"""

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, start: int, end: int) -> Table:
        """Some of the rows."""
        return Table(
            self.numbers[start:end], self.ranks[start:end], self.labels[start:end], self.probabilities[start:end]
        )

    def ids(self) -> NDArray[np.int32]:
        """(rows, 26): the buckets at 2^24, of which fewer buckets are the highest bits."""
        found = np.empty(self.ranks.shape, np.int32)
        for column in range(COLUMNS):
            used, places = np.unique(self.ranks[:, column], return_inverse=True)
            found[:, column] = hashed(column, texts_of(column, used))[places]
        return found


def sizes() -> NDArray[np.int64]:
    """How many categories each column has: from a few to hundreds of thousands, 2,000,000 in all."""
    shares = np.geomspace(1, 1e5, COLUMNS)
    found = np.maximum(3, np.rint(shares / shares.sum() * VOCABULARY)).astype(np.int64)
    found[-1] += VOCABULARY - found.sum()
    return found


def make(rows: int, seed: int = SEED) -> Table:
    """Draws rows. The frequency of a category is proportional to 1 / rank; the model is the same for every seed."""
    model, generator = np.random.default_rng(SEED), np.random.default_rng((seed, 1))
    weights = model.normal(0, 0.2, NUMBERS)
    numbers = generator.standard_normal((rows, NUMBERS), dtype=np.float32)
    logits = numbers @ weights - 1.5
    ranks = np.empty((rows, COLUMNS), np.int32)
    for column, size in enumerate(sizes()):
        ranks[:, column] = np.minimum((size + 1.0) ** generator.random(rows) - 1, size - 1)
        logits += model.normal(0, 0.35, size)[ranks[:, column]]
    probabilities = 1 / (1 + np.exp(-logits))
    labels = (generator.random(rows) < probabilities).astype(np.float32)
    return Table(numbers, ranks, labels, probabilities)


def texts_of(column: int, ranks: NDArray[Any]) -> Any:
    """The texts of some categories of a column, an Arrow array (n,); all different."""
    import pyarrow as pa

    codes = (ranks.astype(np.uint64) * 2654435761 + column * 97531) & 0xFFFFFFFF
    digits = (codes[:, None] >> np.arange(28, -1, -4, dtype=np.uint64)) & 15
    texts = np.frombuffer(b"0123456789abcdef", np.uint8)[digits.astype(np.intp)]
    offsets = np.arange(0, DIGITS * (len(ranks) + 1), DIGITS, dtype=np.int32)
    return pa.StringArray.from_buffers(len(ranks), pa.py_buffer(offsets), pa.py_buffer(texts))


def hashed(column: int, texts: Any) -> NDArray[np.int32]:
    """The buckets of texts at 2^24, by the project's own rule."""
    import pyarrow as pa

    from trainer.data import Hashed

    found = np.empty(len(texts), np.int32)
    Hashed(f"c{column}", bits=MOST_BITS).encode_ids(pa.chunked_array([texts]), found, first=0, where="the benchmark")
    return found


def buckets_of(ids: NDArray[np.int32], bits: int) -> NDArray[np.int32]:
    """The buckets at 2^bits: the highest bits of those at 2^24."""
    return ids >> (MOST_BITS - bits)


def save(rows: int, folder: Path, *, held_out: int = HELD_OUT, texts: Sequence[int] = ()) -> dict[str, Any]:
    """Writes training rows, rows to choose learning rates on, and rows to judge on; returns what a job needs of them.

    Encoded arrays for all competitors, the table as Parquet, and Vowpal Wabbit's text with the same ids for each number
    of buckets in `texts`, which are powers of two.
    """
    table = make(rows + 2 * held_out)
    ids = table.ids()
    start = 0
    for name, size in zip(PARTS, (rows, held_out, held_out), strict=True):
        part, own = table.part(start, start + size), ids[start : start + size]
        for array, values in (("numbers", part.numbers), ("ids", own), ("labels", part.labels)):
            np.save(folder / f"{name}-{array}.npy", values)
        for bits in texts:
            write_text(folder / f"{name}-{bits}.txt", part, buckets_of(own, bits))
        start += size
    write_parquet(folder / "train.parquet", table.part(0, rows))
    judged = table.part(start - held_out, start)
    p = judged.probabilities
    best = -np.mean(np.where(judged.labels == 1, np.log(p), np.log1p(-p)))
    mean = float(table.labels[:rows].mean())
    chance = -mean * np.log(mean) - (1 - mean) * np.log(1 - mean)
    return {"data": str(folder), "best": float(best), "chance": float(chance), "rows": rows}


def write_text(path: Path, table: Table, ids: NDArray[np.int32]) -> None:
    """Vowpal Wabbit's text: a namespace of numbers, and one of ids, which it adds to the namespace's hash."""
    numbers = " ".join(f"{place}:%.7g" for place in range(NUMBERS))
    form = f"%d |n {numbers} |c {' '.join(['%d'] * COLUMNS)}\n"
    labels = (2 * table.labels - 1).astype(int).tolist()
    with path.open("w", encoding="ascii") as file:
        for start in range(0, len(table), 10_000):
            chosen = slice(start, start + 10_000)
            given = zip(labels[chosen], table.numbers[chosen].tolist(), ids[chosen].tolist(), strict=True)
            file.write("".join([form % (label, *row, *own) for label, row, own in given]))


def write_parquet(path: Path, table: Table) -> None:
    """The table as it would be stored: numbers, and texts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {"label": table.labels}
    columns |= {f"n{place}": np.ascontiguousarray(table.numbers[:, place]) for place in range(NUMBERS)}
    for column in range(COLUMNS):
        used, places = np.unique(table.ranks[:, column], return_inverse=True)
        columns[f"c{column}"] = pa.DictionaryArray.from_arrays(places.astype(np.int32), texts_of(column, used))
    pq.write_table(pa.table(columns), path)


def rates(path: Path | None = None) -> dict[str, dict[str, Any]]:
    """The learning rates that `--search` has chosen, by competitor, with everything that was tried."""
    found: dict[str, dict[str, Any]] = json.loads((path or RATES).read_text(encoding="utf-8"))["chosen"]
    return found


RATES = Path(__file__).parent / "categorical_rates.json"
