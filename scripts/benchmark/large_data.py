"""Tables of any size, written straight into Parquet parts: 28 numbers, and a label drawn from a linear model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEATURES, BATCH, RATE = 28, 1024, 0.1
SEED = 12345
PART_ROWS = 1_000_000
HELD_OUT = 100_000
NAMES = [f"x{number}" for number in range(FEATURES)]
LABEL = "y"
BYTES = 4 * (FEATURES + 1)
"""An encoded row."""


@dataclass(frozen=True)
class Part:
    """Some consecutive rows."""

    features: NDArray[np.float32]
    """(rows, 28)"""
    labels: NDArray[np.uint8]
    """(rows,), 0 or 1"""


def part(number: int, rows: int) -> Part:
    """Draws a part; its rows do not depend on the other parts."""
    model = np.random.default_rng(SEED).standard_normal(FEATURES).astype(np.float32) * np.float32(2 / FEATURES**0.5)
    generator = np.random.default_rng((SEED, number))
    features = generator.standard_normal((rows, FEATURES), dtype=np.float32)
    chances = 1 / (1 + np.exp(-(features @ model)))
    return Part(features, (generator.random(rows, dtype=np.float32) < chances).astype(np.uint8))


def parts(rows: int) -> Iterator[Part]:
    """All parts of a table."""
    for number, start in enumerate(range(0, rows, PART_ROWS)):
        yield part(number, min(PART_ROWS, rows - start))


def held_out() -> Part:
    """Rows to judge on, which are in no table."""
    return part(2**31 - 1, HELD_OUT)


def table_of(found: Part) -> Any:
    """The part as an Arrow table."""
    import pyarrow as pa

    columns = {name: np.ascontiguousarray(found.features[:, place]) for place, name in enumerate(NAMES)}
    return pa.table({**columns, LABEL: found.labels})


def save_parquet(rows: int, folder: Path) -> Path:
    """The folder with the parts of a table; those that are there already are not written again."""
    import pyarrow.parquet as pq

    place = folder / f"parquet-{rows}"
    done = place / "_complete"
    if not done.exists():
        place.mkdir(parents=True, exist_ok=True)
        for number, each in enumerate(parts(rows)):
            pq.write_table(
                table_of(each), place / f"part-{number:05}.parquet", compression="none", use_dictionary=False
            )
        done.write_text(json.dumps({"rows": rows}), encoding="utf-8")
    return place


def save_csv(rows: int, folder: Path) -> Path:
    """The same rows as one CSV file."""
    import pyarrow as pa
    from pyarrow import csv

    path = folder / f"rows-{rows}.csv"
    if not path.exists():
        temporary = path.with_suffix(".tmp")
        schema = pa.schema([*((name, pa.float32()) for name in NAMES), (LABEL, pa.uint8())])
        with csv.CSVWriter(temporary, schema) as writer:
            for each in parts(rows):
                writer.write_table(table_of(each))
        temporary.rename(path)
    return path


def save_text(rows: int, folder: Path) -> Path:
    """The same rows as Vowpal Wabbit reads them."""
    path = folder / f"rows-{rows}.vw"
    if not path.exists():
        temporary = path.with_suffix(".tmp")
        form = "%d |n " + " ".join(f"{place}:%.6g" for place in range(FEATURES)) + "\n"
        with temporary.open("w", encoding="ascii") as file:
            for each in parts(rows):
                for start in range(0, len(each.labels), 10_000):
                    chosen = slice(start, start + 10_000)
                    labels = (2 * each.labels[chosen].astype(int) - 1).tolist()
                    given = zip(labels, each.features[chosen].tolist(), strict=True)
                    file.write("".join([form % (label, *row) for label, row in given]))
        temporary.rename(path)
    return path
