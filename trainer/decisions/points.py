"""Operating points: cut-offs with names, each for a demand of its own, and what is decided by them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trainer.decisions.rule import Rule
from trainer.decisions.thresholds import TIE, Counts, Objective, Partitions
from trainer.errors import UsageError, choose_from
from trainer.metrics.ranked import Ranking

ABOVE_ALL = 1.0
"""The cut-off of a point that never applies: no probability is above it."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def _most_recall(counts: Counts, given: Mapping[str, float]) -> NDArray[np.float64]:
    return np.where(1 - counts.specificity <= given["value"] + TIE, counts.recall, -np.inf)


def _largest_share(counts: Counts, given: Mapping[str, float]) -> NDArray[np.float64]:
    share = (counts.tp + counts.fp) / (counts.tp + counts.fp + counts.fn + counts.tn)
    return np.where(share <= given["value"] + TIE, share, -np.inf)


@dataclass(frozen=True)
class _Kind:
    """A kind of demand: what is maximised, and what its number means."""

    objective: str | Objective | None
    """None: the number itself is the cut-off."""
    parameter: str = ""
    """The name of the number in the objective; empty if there is none."""
    rises: bool = True
    """Whether a larger number leads to a higher cut-off."""
    most: float = 1.0


KINDS: Mapping[str, _Kind] = {
    "recall-at-precision": _Kind("recall-at-precision", "min_precision"),
    "precision-at-recall": _Kind("precision-at-recall", "min_recall", rises=False),
    "fpr": _Kind(_most_recall, "value", rises=False),
    "share": _Kind(_largest_share, "value", rises=False),
    "threshold": _Kind(None, "value"),
    "cost": _Kind("cost", "false_positive_cost", most=np.inf),
    "fbeta": _Kind("fbeta", "beta", rises=False, most=np.inf),
    "f1": _Kind("f1"),
    "accuracy": _Kind("accuracy"),
    "balanced-accuracy": _Kind("balanced-accuracy"),
    "youden": _Kind("youden"),
    "mcc": _Kind("mcc"),
}
"""What an operating point may demand.

`recall-at-precision:P` is the highest recall with a precision of at least P, `precision-at-recall:R` the other way
round; `fpr:A` the highest recall with at most that share of the negatives, `share:S` at most that share of all rows;
`threshold:T` is a cut-off as it is; `cost:C` the least cost if a false positive costs C times a false negative.
"""


@dataclass(frozen=True)
class PointDemand:
    """An operating point before its cut-off is known."""

    name: str
    kind: str
    value: float | None = None

    def __str__(self) -> str:
        return f"{self.name}={self.kind}" + ("" if self.value is None else f":{self.value:g}")

    def cut_off(self, ranking: Ranking) -> float | None:
        """The cut-off for ranked rows; None if no cut-off meets the demand."""
        kind = KINDS[self.kind]
        if kind.objective is None:
            return self.value
        given = {"false_negative_cost": 1.0}
        if self.value is not None:
            given[kind.parameter] = self.value
        choice = Partitions(ranking).best(kind.objective, given)
        # A cut-off above all rows meets a limit without any use.
        if choice is None or (kind.parameter in ("value", "min_precision") and choice.value <= 0):
            return None
        return choice.threshold


def demands_of(texts: Sequence[str], otherwise: str) -> list[PointDemand]:
    """Points as they are written, `review=recall-at-precision:0.95`, the mildest first.

    Raises UsageError for what is not one, for names that are there twice, and for two points of the same kind whose
    numbers contradict their order.
    """
    found: list[PointDemand] = []
    for text in texts:
        demand = _demand_of(text)
        if demand.name in (otherwise, *(each.name for each in found)):
            raise UsageError(
                f"the name {demand.name!r} is there twice" if demand.name != otherwise
                else f"{demand.name!r} is the name of the other rows",
                fix="Give each point a name of its own.",
            )  # fmt: skip
        for before in found:
            kind = KINDS[demand.kind]
            if before.kind != demand.kind or before.value is None or demand.value is None:
                continue
            if before.value == demand.value or (before.value < demand.value) != kind.rises:
                raise UsageError(
                    f"{str(before)!r} never applies before {str(demand)!r}: its cut-off is not lower",
                    fix="List the points from the lowest cut-off to the highest.",
                )
        found.append(demand)
    return found


def _demand_of(text: str) -> PointDemand:
    name, sign, demand = (part.strip() for part in text.partition("="))
    kind, colon, number = (part.strip() for part in demand.partition(":"))
    if not sign or not NAME.fullmatch(name):
        raise UsageError(
            f"{text!r} is not an operating point", fix="Write NAME=KIND:NUMBER, such as review=recall-at-precision:0.9."
        )
    if kind not in KINDS:
        raise UsageError(f"{text!r}: unknown kind {kind!r}", fix=choose_from(kind, list(KINDS), limit=99))
    known = KINDS[kind]
    if not known.parameter:
        if colon:
            raise UsageError(f"{text!r}: {kind} takes no number", fix=f"Write {name}={kind}.")
        return PointDemand(name, kind)
    try:
        value = float(number)
    except ValueError:
        value = np.nan
    if not 0 < value <= known.most or value == np.inf:
        limits = "> 0" if known.most == np.inf else "> 0 and ≤ 1"
        raise UsageError(f"{text!r}: {number!r} is not a number {limits}", fix=f"Write {name}={kind}:0.9, for example.")
    return PointDemand(name, kind, value)


def point_metrics(ranking: Ranking, threshold: float) -> dict[str, float]:
    """`precision`, `recall`, `fpr` and `share` of the rows above a cut-off; 0 for a share of nothing."""
    tn, fp, fn, tp = ranking.cells(threshold).ravel().tolist()

    def ratio(above: float, below: float) -> float:
        return above / below if below else 0.0

    return {
        "precision": ratio(tp, tp + fp),
        "recall": ratio(tp, tp + fn),
        "fpr": ratio(fp, fp + tn),
        "share": ratio(tp + fp, tn + fp + fn + tp),
    }


@dataclass(frozen=True)
class Points(Rule):
    """A column `decision`: the name of the highest cut-off below the row's probability of class 1."""

    kind: ClassVar[str] = "points"
    points: tuple[tuple[str, float], ...]
    """Names and cut-offs."""
    otherwise: str
    """The decision for rows that no cut-off is below."""
    suffix: str = ""
    """What the column's name ends with."""

    @property
    def names(self) -> Sequence[str]:
        return (f"decision{self.suffix}",)

    @property
    def decisions(self) -> Sequence[str]:
        """Every decision, by rising cut-off."""
        return (self.otherwise, *(name for name, _ in self._ordered()))

    def _ordered(self) -> list[tuple[str, float]]:
        return sorted(self.points, key=lambda point: point[1])

    def decide(self, predictions: NDArray[Any]) -> NDArray[np.int64]:
        """The place of each row's decision in `decisions`, -1 if its probability is not a number."""
        probabilities = np.asarray(predictions, np.float64).reshape(-1)
        cut_offs = np.array([cut_off for _, cut_off in self._ordered()])
        places: NDArray[np.int64] = np.searchsorted(cut_offs, probabilities, side="left")
        return np.where(np.isnan(probabilities), -1, places)

    def columns(self, predictions: NDArray[Any], table: Mapping[str, Any]) -> dict[str, Any]:
        return {self.names[0]: named(self.decide(predictions), self.decisions)}

    def card(self) -> Mapping[str, Any]:
        return {"columns": list(self.names), "otherwise": self.otherwise, "above": dict(self._ordered())}


def named(places: NDArray[np.int64], names: Sequence[str]) -> Any:
    """The names with these places, as an Arrow array of texts; null for -1."""
    import pyarrow as pa

    return pa.array(list(names), pa.string()).take(pa.array(places, mask=places < 0))
