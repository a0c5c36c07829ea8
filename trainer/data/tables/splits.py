"""The splits of a table: reads it, splits it by the seed, and encodes it with the schema of the training rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer.data.tables.division import NAMES
from trainer.data.tables.held import Progress
from trainer.data.tables.options import TableOptions
from trainer.data.tables.plan import TableSplits, planned
from trainer.data.tables.schema import Rows, Schema
from trainer.data.tables.sinks import Sink
from trainer.errors import listed


def load_splits(
    options: TableOptions,
    *,
    seed: int,
    sink: Sink | None = None,
    memory: int | None = None,
    progress: Progress | None = None,
) -> TableSplits:
    """Reads the table, splits it (classes in equal shares), learns the schema from the training rows, and encodes.

    The encoded rows go to the `sink`, by default into memory. Files that would take more than `memory` bytes are not
    held but read once for each of three passes, with the same result. `progress` is called with what is read for, how
    much was read, and how much there is (None if unknown). Raises UsageError like `read_table` and `Schema`, and if
    there are too few rows to split or a split has only one class, on which a model cannot be evaluated.
    """
    return planned(options, seed=seed, memory=memory, progress=progress).encode(sink)


def describe(splits: TableSplits) -> list[str]:
    """What was read and how it was interpreted, in a few lines for the user, without the notes."""
    schema = splits.schema
    parts = {name: getattr(splits, split) for split, name in NAMES.items()}
    present: dict[str, Rows] = {name: rows for name, rows in parts.items() if rows is not None}
    kinds = [column.kind for column in schema.columns]
    columns = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    tallies = {name: splits.tallies[split] for split, name in NAMES.items() if split in splits.tallies}
    counted = ", ".join(f"{tally.rows} {name} ({schema.target.summary(tally)})" for name, tally in tallies.items())
    lines = [
        f"rows: {counted}",
        f"columns: {columns} → {_inputs(schema)}",
        schema.target.describe(schema.label),
    ]
    for what, counts in (
        ("missing values", _total(present, "missing")),
        (f"categories {schema.unseen_means}", _total(present, "unseen")),
    ):
        if counts:
            lines.append(f"{what}: " + listed((f"{name} {count}" for name, count in counts.items()), limit=8))
    return lines


def _inputs(schema: Schema) -> str:
    """The inputs of the net: `7 inputs, 3 ids (41,233 rows × 16 weights)`."""
    names = schema.feature_names
    parts = [f"{len(names)} input{'' if len(names) == 1 else 's'}"] if names or not schema.id_tables else []
    for table in schema.id_tables:
        count = len(table.columns)
        weights = f" × {table.units} weights" if table.units else " of weights"
        parts.append(f"{count} id{'' if count == 1 else 's'} ({table.rows:,} rows{weights})")
    return ", ".join(parts)


def _total(parts: Mapping[str, Rows], attribute: str) -> dict[str, int]:
    total: dict[str, int] = {}
    for rows in parts.values():
        counts: Mapping[str, Any] = getattr(rows, attribute)
        for name, count in counts.items():
            total[name] = total.get(name, 0) + count
    return total
