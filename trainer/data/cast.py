"""The texts of a table as the types that a schema has learned of its columns, row by row, without a guess."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from trainer.data import columns
from trainer.data.read import MISSING, stripped, with_truth_values

if TYPE_CHECKING:
    import pyarrow as pa

    from trainer.data.schema import Schema


def as_learned(table: pa.Table, schema: Schema) -> pa.Table:
    """The columns that a schema knows, their texts as the types that were learned, ready for `Schema.encode`.

    Numbers in a column of text become numbers, `true` and `false` truth values, words for missing null; what cannot be
    read stays, and `encode` complains of it. A category or a label that was learned from numbers is written as those
    are, row by row: `1.0` is the category `1`.
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
    """Text as numbers, where every one can be read; one pass, and the usual case."""
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
    """Texts that read as numbers or truth values, written as `columns.as_text` writes those."""
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
        # Python reads 1_000 as a number, a table does not.
        return text if "_" in text else columns.plain(float(text)) or text
    except (ValueError, OverflowError):
        return text
