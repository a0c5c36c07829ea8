"""What a column of categories becomes: an input for each, a row of weights for each, or a hash."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.data.tables.canonical import Counted
from trainer.data.tables.embedding import CategoryOptions
from trainer.data.tables.kinds import Category, Embedded, Hashed
from trainer.data.tables.kinds.base import all_missing
from trainer.data.tables.values import check_flat

if TYPE_CHECKING:
    import pyarrow as pa

    from trainer.data.tables.notations import DistinctTexts

MOSTLY_DISTINCT = 0.5
"""If the distinct values of a column are at least this share of its rows, the user is told."""
FEW_VALUES = 20


def learn_categories(
    name: str,
    values: pa.ChunkedArray,
    options: CategoryOptions,
    *,
    where: str,
    notes: list[str],
    chosen: bool = False,
    texts: DistinctTexts | None = None,
) -> Category | Embedded | Hashed:
    """Learns from the training rows; `notes` are added to unless the user has `chosen` categories for the column.

    `texts` are the distinct values, if they are known.

    Raises UsageError for lists, structs and bytes, and if all values are missing.
    """
    check_flat(name, values, where=where, fix=f"Add --ignore {name}.")
    counted = Counted.of(values, texts)
    count, rows = len(counted.texts), len(values)
    if not count:
        raise all_missing(name, where)
    one_hot = options.hash_bits is None and count <= options.one_hot_limit and name not in options.units.named
    if not chosen and count > FEW_VALUES and count >= MOSTLY_DISTINCT * rows:
        what = "input" if one_hot else "weight" if options.is_linear else "embedding"
        own = "" if options.hash_bits is not None else f", each an {what} of its own".replace("an weight", "a weight")
        notes.append(
            f"column {name} has {count} different values in {rows} training rows{own}; --ignore {name} leaves it out"
        )
    if options.hash_bits is not None:
        return Hashed(name, options.hash_bits, counted.form)
    if one_hot:
        return Category(name, tuple(sorted(counted.texts.to_pylist())), counted.form, counted.missing > 0)
    categories = counted.by_frequency(options.min_count)
    if not len(categories):
        notes.append(
            f"column {name} has no value in {options.min_count} training rows or more, so all its values are the same "
            f"to the net; lower --min-count, or add --ignore {name}"
        )
    return Embedded(name, len(categories), counted.form, counted.missing > 0, options.min_count, categories=categories)
