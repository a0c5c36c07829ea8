"""The texts of many categories as an Arrow table, which a model folder holds as a file: JSON would take minutes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from trainer.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa


def to_table(categories: Mapping[str, pa.Array]) -> pa.Table | None:
    """A row for each column, with its name and the list of its categories; None for no column."""
    import pyarrow as pa

    if not categories:
        return None
    # A batch for each, since the offsets of Arrow's strings have 32 bits.
    batches = []
    for name, texts in categories.items():
        whole = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts)
        batches.append(pa.record_batch({"column": pa.array([name], pa.string()), "categories": whole}))
    return pa.Table.from_batches(batches)


def from_table(table: pa.Table | None) -> dict[str, pa.Array]:
    """The categories by column. Raises UsageError for a table that `to_table` did not make."""
    import pyarrow as pa

    if table is None:
        return {}
    kinds = {"column": pa.string(), "categories": pa.list_(pa.string())}
    if not isinstance(table, pa.Table) or {each.name: each.type for each in table.schema} != kinds:
        raise UsageError("it is not a list of the categories of columns", where="vocabulary")
    try:
        # The file may be a stranger's: offsets beyond the data would be read all the same.
        table.validate(full=True)
    except pa.ArrowInvalid as error:
        raise UsageError(f"it is damaged: {error}", where="vocabulary") from error
    found: dict[str, pa.Array] = {}
    for batch in table.to_batches():
        for number, name in enumerate(batch["column"].to_pylist()):
            if name is None or name in found or not batch["categories"][number].is_valid:
                raise UsageError("a column is missing or there twice", where="vocabulary")
            found[name] = batch["categories"][number].values
    return found
