"""Rules that give a set of classes, or an interval of numbers, beside each prediction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.decisions.coverage import ClassMethod, class_scores, conformal_quantile, interval, rows_needed
from trainer.decisions.groups import codes_of
from trainer.decisions.rule import Rule


@dataclass(frozen=True)
class Bounds:
    """The largest score that a row may have: one for all rows, or one for each group."""

    rows: int
    """How many rows it was chosen on."""
    bound: float | None
    """For all rows; with groups, for those of no group of their own. None: there were too few, so nothing is left out.
    """
    group: str | None = None
    """The column that names the group."""
    by_group: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def chosen(
        cls,
        scores: NDArray[Any],
        coverage: float,
        weights: NDArray[Any] | None = None,
        *,
        group: str | None = None,
        groups: Sequence[str] = (),
        codes: NDArray[Any] | None = None,
    ) -> Bounds:
        """From the scores (rows,) of rows that nothing was fitted on.

        With groups, each is a problem of its own (Mondrian: Vovk et al. 2003). `codes` (rows,) number `groups`. Groups
        with too few rows form one group together, to which values that are not known belong as well.
        """
        if codes is None:
            return cls(len(scores), _finite(conformal_quantile(scores, coverage, weights)))
        counts = np.bincount(codes, minlength=len(groups))
        large = np.flatnonzero(counts >= rows_needed(coverage))

        def bound(chosen: NDArray[np.bool_]) -> float:
            return conformal_quantile(scores[chosen], coverage, None if weights is None else weights[chosen])

        found = {groups[number]: bound(codes == number) for number in large}
        rest = bound(~np.isin(codes, large))
        own = {name: value for name, value in found.items() if math.isfinite(value)}
        return cls(len(scores), _finite(rest), group, own)

    def of_rows(self, rows: int, table: Mapping[str, Any]) -> NDArray[np.float64]:
        """The bound of each row, (rows,)."""
        rest = math.inf if self.bound is None else self.bound
        if self.group is None:
            return np.full(rows, rest)
        return self.of_codes(codes_of(table[self.group], list(self.by_group)))

    def of_codes(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """The bound of each row by the number of its group in `by_group`, -1 for others."""
        rest = math.inf if self.bound is None else self.bound
        values: NDArray[np.float64] = np.array([*self.by_group.values(), rest])[codes]
        return values

    @property
    def reads(self) -> Sequence[str]:
        return () if self.group is None else (self.group,)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


class _Bounded(Rule):
    """A rule with bounds, which may be those of groups."""

    bounds: Bounds

    @property
    def reads(self) -> Sequence[str]:
        return self.bounds.reads


@dataclass(frozen=True)
class ClassSets(_Bounded):
    """A column `set`: the classes that a row may have, the likeliest first; a list of texts.

    The set holds the true class with the probability `coverage`. It is empty if none of the classes fits as well as the
    true one usually does.
    """

    kind: ClassVar[str] = "class-sets"
    coverage: float
    method: ClassMethod
    classes: tuple[str, ...]
    bounds: Bounds
    suffix: str = ""
    """What the column's name ends with."""

    @property
    def names(self) -> Sequence[str]:
        return (f"set{self.suffix}",)

    def members(self, predictions: NDArray[Any], bounds: NDArray[Any]) -> NDArray[np.bool_]:
        """Which classes are in the sets, (rows, classes); all of them if a probability is not a number."""
        members: NDArray[np.bool_] = ~(class_scores(predictions, self.method) > bounds[:, None])
        return members

    def columns(self, predictions: NDArray[Any], table: Mapping[str, Any]) -> dict[str, Any]:
        import pyarrow as pa

        if not len(predictions):
            return {self.names[0]: pa.array([], pa.list_(pa.string()))}
        scores = class_scores(predictions, "lac")
        members = self.members(predictions, self.bounds.of_rows(len(predictions), table))
        order = np.argsort(scores, axis=1, kind="stable")
        kept = np.take_along_axis(members, order, axis=1)
        ends = np.concatenate(([0], np.cumsum(kept.sum(axis=1)))).astype(np.int32)
        names = pa.array(self.classes, pa.string()).take(pa.array(order[kept]))
        return {self.names[0]: pa.ListArray.from_arrays(pa.array(ends), names)}

    def card(self) -> Mapping[str, Any]:
        return {**_card(self), "sets": f"hold the true class with probability {self.coverage:g} ({self.method})"}


@dataclass(frozen=True)
class Intervals(_Bounded):
    """Columns `lower` and `upper`: between them is the true number, with the probability `coverage`."""

    kind: ClassVar[str] = "intervals"
    coverage: float
    method: Literal["absolute", "cqr"]
    bounds: Bounds
    least: float | None = None
    """The smallest number that is possible."""
    suffix: str = ""
    """What the columns' names end with."""

    @property
    def names(self) -> Sequence[str]:
        return (f"lower{self.suffix}", f"upper{self.suffix}")

    def ends(self, predictions: NDArray[Any], bounds: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper ends, (rows,), for each row's bound."""
        return interval(predictions, bounds, self.least)

    def columns(self, predictions: NDArray[Any], table: Mapping[str, Any]) -> dict[str, Any]:
        import pyarrow as pa

        ends = self.ends(predictions, self.bounds.of_rows(len(predictions), table))
        return dict(zip(self.names, map(pa.array, ends), strict=True))

    def card(self) -> Mapping[str, Any]:
        return {**_card(self), "intervals": f"hold the true number with probability {self.coverage:g} ({self.method})"}


def _card(rule: ClassSets | Intervals) -> dict[str, Any]:
    bounds = rule.bounds
    of = {} if bounds.group is None else {"group": bounds.group, "groups": list(bounds.by_group)}
    return {"columns": list(rule.names), "coverage": rule.coverage, "calibration rows": bounds.rows, **of}
