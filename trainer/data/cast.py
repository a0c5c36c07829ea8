"""Converts a table of text to the column types of a schema, without guessing types."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from trainer.data import columns
from trainer.data.read import MISSING, stripped, with_truth_values

if TYPE_CHECKING:
    import pyarrow as pa

    from trainer.data.schema import Schema


def as_learned(table: pa.Table, schema: Schema) -> pa.Table:
    """The table with its text converted to the schema's types, ready for `Schema.encode`.

    Text becomes numbers, booleans (`true` and `false`) or null (words for missing). What cannot be parsed stays as it
    is, and `encode` reports it. Categories and labels that were learned from numbers are normalised row by row: `1.0`
    is the category `1`.
    """
    import pyarrow as pa

    as_written = set(schema.text_names)
    kinds = {column.name: column.kind for column in schema.columns}
    if schema.weight is not None:
        kinds[schema.weight] = "numeric"
    kinds[schema.label] = "text"
    for number, field in enumerate(table.schema):
        name, kind = field.name, kinds.get(field.name)
        if kind is None or not (pa.types.is_string(field.type) or pa.types.is_large_string(field.type)):
            continue
        values = table.column(number)
        known = _numbers(values) if kind == "numeric" else None
        if known is None:
            clean = stripped(pa.table({name: values}))
            if kind == "text" and name not in as_written:
                clean = pa.table({name: _canonical(clean.column(0))})
            elif kind != "text":
                clean = with_truth_values(clean, ())
            known = (_numbers(clean.column(0)) if kind == "numeric" else None) or clean.column(0)
        table = table.set_column(number, name, known)
    return table


def _numbers(values: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Text as numbers if every value can be parsed; usually in one pass."""
    import pyarrow as pa
    from pyarrow import compute

    if not pa.types.is_string(values.type) and not pa.types.is_large_string(values.type):
        return None
    with suppress(pa.ArrowInvalid):
        return compute.cast(values, pa.float64())
    plain = compute.if_else(compute.is_in(values, pa.array(MISSING, values.type)), pa.scalar(None, values.type), values)
    with suppress(pa.ArrowInvalid):
        return compute.cast(plain, pa.float64())
    return None


def _canonical(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text that reads as a number or a boolean, in the form of `columns.as_text`."""
    import pyarrow as pa
    from pyarrow import compute

    distinct = compute.drop_null(values.unique())
    if not len(distinct):
        return values
    texts = pa.array([_written(text) for text in distinct.to_pylist()], pa.string())
    return texts.take(compute.index_in(values, distinct).combine_chunks())


def _written(text: str) -> str:
    if text.lower() in ("true", "false"):
        return text.lower()
    try:
        # Python parses 1_000 as a number; a table does not.
        return text if "_" in text else columns.plain(float(text)) or text
    except (ValueError, OverflowError):
        return text
