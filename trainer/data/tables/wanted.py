"""What the user says about the columns of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from trainer.data.tables.embedding import CategoryOptions
from trainer.data.tables.options import TargetKind
from trainer.data.tables.schema import check_column
from trainer.errors import UsageError, listed


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
