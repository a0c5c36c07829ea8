"""What a column of categories becomes: an input for each, a row of weights for each, or a hash."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.data.tables.canonical import Counted
from trainer.data.tables.embedding import CategoryOptions
from trainer.data.tables.kinds import Category, Embedded, Hashed
from trainer.data.tables.kinds.base import all_missing
from trainer.data.tables.vocabulary import Form

if TYPE_CHECKING:
    from trainer.data.tables.texts import Texts
    from trainer.data.tables.values import Precision

MOSTLY_DISTINCT = 0.5
"""If the distinct values of a column are at least this share of its rows, the user is told."""
FEW_VALUES = 20


def learn_categories(
    name: str,
    texts: Texts,
    precision: Precision | None,
    options: CategoryOptions,
    *,
    where: str,
    notes: list[str],
    chosen: bool = False,
) -> Category | Embedded | Hashed:
    """Learns from the texts of the training rows, which may be half or single floats.

    `notes` are added to unless the user has `chosen` categories for the column. Raises UsageError if all values are
    missing.
    """
    if not texts.present:
        raise all_missing(name, where)
    counted = None if texts.is_forgotten else Counted.of(texts, precision)
    form: Form = "written" if counted is None else counted.form
    rows, about = texts.rows, ""
    count = 0 if counted is None else len(counted.texts)
    if options.hash_bits is not None and form == "written":
        # Nothing depends on the number, so an estimate will do.
        count, exact = texts.count(exact=False)
        about = "" if exact else "about "
    one_hot = options.hash_bits is None and count <= options.one_hot_limit and name not in options.units.named
    if not chosen and count > FEW_VALUES and count >= MOSTLY_DISTINCT * rows:
        what = "input" if one_hot else "weight" if options.is_linear else "embedding"
        own = "" if options.hash_bits is not None else f", each an {what} of its own".replace("an weight", "a weight")
        notes.append(
            f"column {name} has {about}{count} different values in {rows} training rows{own}; "
            f"--ignore {name} leaves it out"
        )
    if options.hash_bits is not None:
        return Hashed(name, options.hash_bits, form)
    assert counted is not None  # noqa: S101  texts are forgotten only if they are hashed
    if one_hot:
        return Category(name, tuple(sorted(counted.texts.to_pylist())), counted.form, texts.missing > 0)
    categories = counted.by_frequency(options.min_count)
    if not len(categories):
        notes.append(
            f"column {name} has no value in {options.min_count} training rows or more, so all its values are the same "
            f"to the net; lower --min-count, or add --ignore {name}"
        )
    return Embedded(name, len(categories), counted.form, texts.missing > 0, options.min_count, categories=categories)
