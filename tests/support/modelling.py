"""A table with every kind of column, and a run on it: what the tests of models share."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv as pa_csv

from trainer import Run, fit

NAMES = ["id", "age", "size", "job", "member", "weight", "rich"]


def write_table(path: Path, rows: int, *, seed: int = 0, labels: tuple[str, str] = ("no", "yes")) -> Path:
    """Numbers, categories and truth values, some missing; the label follows the numbers with a little noise."""
    generator = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(NAMES)
        for number in range(rows):
            age, size = generator.normal(40, 10), generator.normal(1e6, 1e5)
            label = labels[int((age - 40) / 10 + (size - 1e6) / 1e5 + generator.normal(0, 0.5) > 0)]
            job = ["cook", "smith, senior", "nurse", ""][number % 4]
            shown = "" if number % 13 == 0 else f"{age:.3f}"
            member = "true" if number % 3 else "false"
            writer.writerow([f"{number:05d}", shown, f"{size:.2f}", job, member, f"{0.5 + number % 5:.1f}", label])
    return path


def train(folder: Path, **values: Any) -> Run:
    """A run on 400 such rows, with a test split from a file of its own: `folder/train.csv`, `folder/test.csv`."""
    write_table(folder / "train.csv", 400)
    write_table(folder / "test.csv", 200, seed=1)
    options = {
        "data": folder / "train.csv",
        "test_data": folder / "test.csv",
        "label": "rich",
        "ignore": ("id",),
        "sample_weight": "weight",
        "epochs": 2,
        "hidden": (8,),
        "without": ("progress", "tensorboard", "checkpoint"),
        "runs_dir": folder / "runs",
        "name": "one",
    }
    return fit("logreg", **{**options, **values})


def table_of(path: Path) -> pa.Table:
    """A CSV file with the types that pyarrow sees in it, as data frames have them."""
    missing = pa_csv.ConvertOptions(strings_can_be_null=True, null_values=["", "NA", "?"])
    delimiter = pa_csv.ParseOptions(delimiter="\t" if ".tsv" in path.name else ",")
    return pa_csv.read_csv(path, parse_options=delimiter, convert_options=missing)
