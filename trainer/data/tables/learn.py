"""Decides what each column is: one function over the values of the training rows, whatever file they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from trainer.data.tables.categories import FEW_VALUES, learn_categories
from trainer.data.tables.embedding import CategoryOptions
from trainer.data.tables.id_tables import sized
from trainer.data.tables.kinds import IN_TIME, Column, Flag, Number
from trainer.data.tables.kinds.base import all_missing
from trainer.data.tables.notations import DistinctTexts, are_plain_numbers, refuse_notations
from trainer.data.tables.options import TargetKind
from trainer.data.tables.schema import Schema, check_column
from trainer.data.tables.targets import Classes, Quantity, Target
from trainer.data.tables.targets.classes import holds_quantities
from trainer.data.tables.values import (
    Indices,
    are_numbers,
    check_flat,
    cleaned,
    column_of,
    is_number,
    is_text,
    rows_of_the_table,
    stray_text,
)
from trainer.data.tables.vocabulary import form_of
from trainer.errors import UsageError, listed

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Wanted:
    """What the user says about the columns; the names are those of the table."""

    label: str
    """Empty if there is none, which is enough to look at a table."""
    positive_class: str | None = None
    target: TargetKind = "classes"
    for_numbers: str = ""
    """What to use instead if the label column holds numbers, and for classes."""
    for_classes: str = ""
    features: Sequence[str] = ()
    ignore: Sequence[str] = ()
    categorical: Sequence[str] = ()
    numeric: Sequence[str] = ()
    sample_weight: str | None = None
    standardize: bool = True
    apart: Sequence[str] = ()
    """Columns that say which split a row is in, and are learned from only if `features` names them."""
    categories: CategoryOptions = field(default_factory=CategoryOptions)
    """What becomes of columns of categories."""

    def chosen(self, known: Sequence[str], *, where: str, left_out: Sequence[str] = ()) -> list[str]:
        """The columns to learn from. Raises UsageError for a name that is not one of the `known`.

        Those that are `left_out` already can be ignored too.
        """
        if self.label:
            check_column(self.label, known, option="--label", where=where)
        lists: dict[str, Sequence[str]] = {
            "features": self.features,
            "ignore": [name for name in self.ignore if name not in left_out],
        }
        lists |= {"categorical": self.categorical, "numeric": self.numeric, "embedding": [*self.categories.units.named]}
        for option, names in lists.items():
            for name in names:
                check_column(name, known, option=f"--{option}", where=where, in_list=True)
        both = [name for name in self.categorical if name in self.numeric]
        if both:
            raise UsageError(f"{both[0]!r} cannot be both", where="--categorical, --numeric", fix="Remove one.")
        if self.sample_weight is not None:
            check_column(self.sample_weight, known, option="--sample-weight", where=where)
        if self.sample_weight == self.label:
            raise UsageError("the label cannot also be the weight", where="--sample-weight")
        for taken, what in ((self.label, "label"), (self.sample_weight, "weight")):
            if taken in self.features:
                raise UsageError(f"{taken!r} is the {what} column", where="--features", fix="Remove it.")
        others = {*self.ignore, self.label, self.sample_weight}
        others |= set() if self.features else {*self.apart}
        chosen = [name for name in dict.fromkeys(self.features or known) if name not in others]
        if not chosen:
            raise UsageError("no column is left to learn from", where=where, fix=f"Columns: {listed(known)}.")
        return chosen


@dataclass
class Learned:
    """The schema, and what the user should know about it, a line each."""

    schema: Schema
    notes: list[str] = field(default_factory=list)


def learn_target(
    table: pa.Table, wanted: Wanted, *, untyped: bool, where: str = "the table", rows: Indices | None = None
) -> Target:
    """Learns what the label column is, from the whole table or from its `rows` (n,), counted from 0.

    Raises UsageError for labels that the task cannot learn. The other arguments are those of `learn_schema`.
    """
    numbers: Literal["classes", "text", "refused"] = "text" if untyped else "refused"
    if wanted.label in wanted.categorical:
        numbers = "classes"
    values, kind = column_of(table, wanted.label, rows), wanted.target
    if kind == "any":
        is_number = wanted.positive_class is None and holds_quantities(values, numbers)
        kind = "number" if is_number else "classes"
    with rows_of_the_table(rows):
        if kind == "classes":
            return Classes.learn(
                wanted.label,
                values,
                wanted.positive_class,
                where=where,
                numbers=numbers,
                for_numbers=wanted.for_numbers,
            )
        return Quantity.learn(
            wanted.label,
            values,
            non_negative=kind == "non-negative number",
            where=where,
            for_classes=wanted.for_classes,
        )


def learn_schema(
    table: pa.Table,
    wanted: Wanted,
    *,
    untyped: bool,
    where: str = "the table",
    rows: Indices | None = None,
    target: Target | None = None,
) -> Learned:
    """Learns from the training rows only: the whole table, or its `rows` (n,), counted from 0.

    `target` is what the label column is, if that is known; otherwise it is learned from the same rows. `untyped` says
    that the table was read as text, so that numbers among it are numbers. Raises UsageError for options and values that
    cannot be used; row numbers in messages are the table's, from 1.
    """
    chosen = wanted.chosen(table.column_names, where=where)
    notes: list[str] = []

    with rows_of_the_table(rows):
        columns = tuple(
            learn_column(name, column_of(table, name, rows), wanted, untyped=untyped, where=where, notes=notes)
            for name in chosen
        )
    categories = wanted.categories
    columns = sized(columns, categories.units, is_linear=categories.is_linear, where=where)
    if target is None:
        target = learn_target(table, wanted, untyped=untyped, where=where, rows=rows)
        values = column_of(table, wanted.label, rows)
        with rows_of_the_table(rows):
            target = target.fitted(wanted.label, target.encode(wanted.label, values, where=where), where=where)
    return Learned(Schema(columns, wanted.label, target, wanted.sample_weight), notes)


def learn_column(
    name: str, values: pa.ChunkedArray, wanted: Wanted, *, untyped: bool, where: str, notes: list[str]
) -> Column:
    """Learns what a column is from its values in the training rows. Raises UsageError for those that are refused.

    The other arguments are those of `learn_schema`; `notes` are added to.
    """
    import pyarrow as pa

    if name in wanted.categorical:
        return learn_categories(name, values, wanted.categories, where=where, notes=notes, chosen=True)
    _check_numeric(name, values, wanted.numeric, where=where)
    if is_number(values.type) or name in wanted.numeric:
        return Number.learn(name, values, standardize=wanted.standardize, where=where)
    if pa.types.is_boolean(values.type):
        return Flag.learn(name, values, where=where)
    if is_text(values):
        return _learn_text(name, values, wanted, untyped=untyped, where=where, notes=notes)
    for kind in IN_TIME:
        if kind.stores(values.type):
            return kind.learn(name, values, standardize=wanted.standardize, where=where)
    check_flat(name, values, where=where, fix=f"Add --ignore {name}.")
    return learn_categories(name, values, wanted.categories, where=where, notes=notes)


def _check_numeric(name: str, values: pa.ChunkedArray, numeric: Sequence[str], *, where: str) -> None:
    """Raises UsageError if a column of another type than numbers and text is to be taken as numbers."""
    import pyarrow as pa

    kind = values.type
    if name in numeric and not (is_number(kind) or is_text(values) or pa.types.is_null(kind)):
        raise UsageError(
            f"column {name!r} holds {kind}, which is not taken as numbers",
            where=where,
            fix=f"Leave {name} out of --numeric.",
        )


def _learn_text(
    name: str, values: pa.ChunkedArray, wanted: Wanted, *, untyped: bool, where: str, notes: list[str]
) -> Column:
    if untyped and len(values) and are_numbers(values):
        if cleaned(values).null_count == len(values):
            raise all_missing(name, where)
        return Number.learn(name, values, standardize=wanted.standardize, where=where)
    # Without a look at each distinct value in Python, of which a column of numbers has many.
    texts = DistinctTexts(cleaned(values))
    if not texts.present:
        raise all_missing(name, where)
    if untyped and _are_flags(texts):
        return Flag.learn(name, values, where=where)
    for kind in IN_TIME:
        if texts.are_mostly(kind.are_read):
            return kind.learn(name, values, standardize=wanted.standardize, where=where)
    if texts.are_mostly(are_plain_numbers):
        if untyped:
            raise stray_text(name, values, where=where)
        notes.append(
            f"column {name} is text, so it is a category although it holds numbers; "
            f"--numeric {name} takes it as numbers"
        )
    refuse_notations(name, texts, where=where)
    return learn_categories(name, values, wanted.categories, where=where, notes=notes, texts=texts)


def _are_flags(texts: DistinctTexts) -> bool:
    """Whether all are true or false, some of them perhaps written as 1 and 0."""
    return len(texts) <= FEW_VALUES and form_of(texts.values()) == "truth"
