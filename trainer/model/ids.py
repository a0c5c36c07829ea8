"""What the ids among a model's inputs are, for programs that make them without this one."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.hashing import FACTOR, FIRST, SECOND
from trainer.data.tables.kinds import Embedded
from trainer.data.tables.schema import Schema
from trainer.data.tables.values import MISSING as MISSING_TEXTS
from trainer.model import id_reference


@dataclass(frozen=True)
class Ids:
    """The input of the net that holds ids: its number among the inputs, and the rows that each column may name."""

    place: int
    names: tuple[str, ...]
    firsts: tuple[int, ...]
    counts: tuple[int, ...]
    rules: dict[str, Any]
    """How a value becomes an id, as a JSON value for `id_reference.reader`."""

    @property
    def source(self) -> str:
        """The reference function as Python source, which needs no package."""
        return inspect.getsource(id_reference)

    def sample(self, generator: np.random.Generator, rows: int) -> NDArray[np.int32]:
        """Random ids (rows, columns) that there are."""
        firsts, counts = np.array(self.firsts), np.array(self.counts)
        found: NDArray[np.int32] = (firsts + generator.integers(0, counts, (rows, len(counts)))).astype(np.int32)
        return found


def ids_of(schema: Schema) -> Ids | None:
    """The ids of a schema; None if no column is one. Costs a Python object for each category."""
    columns: list[dict[str, Any]] = []
    for table in schema.id_tables:
        for column, first in zip(table.columns, table.offsets, strict=True):
            rule: dict[str, Any] = {"column": column.name, "kind": column.kind, "first": first, "form": column.form}
            if isinstance(column, Embedded):
                common = first + column.count
                rule |= {
                    "categories": column.categories.to_pylist(),
                    "other": common,
                    "missing": common + column.missing_category,
                }
            else:
                rule |= {"bits": column.bits, "salt": column.salt, "missing_salt": column.missing_salt}
            columns.append(rule | {"rows": column.rows})
    if not columns:
        return None
    return Ids(
        1 if schema.feature_names else 0,
        tuple(schema.id_names),
        tuple(rule["first"] for rule in columns),
        tuple(rule["rows"] for rule in columns),
        {
            "columns": columns,
            "missing_texts": list(MISSING_TEXTS),
            "hash": {"factor": FACTOR, "mix": [FIRST, SECOND]},
        },
    )
