"""The ways to decide: each chooses a rule on validation rows, and has metrics of the rule's decisions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from trainer.decisions import (
    ABOVE_ALL,
    Cuts,
    GroupThresholds,
    LeastCost,
    Partitions,
    PointDemand,
    Points,
    Rule,
    band_by_accuracy,
    band_by_cost,
    codes_of,
    fair_thresholds,
    point_metrics,
)
from trainer.metrics import Ranked, Ranking
from trainer_plugins.decided_rows import DecidedRows, groups_of, ranking_of

if TYPE_CHECKING:
    from trainer import Run

Say = Callable[[str], None]
"""Says something once per run."""
Directions = Mapping[str, Any]
POINT_METRICS: Directions = {"precision": "max", "recall": "max", "fpr": "min", "share": None, "threshold": None}


class Way(ABC):
    """One way to decide."""

    logs: ClassVar[Directions]
    """The metrics, without the split, with the better direction."""

    @abstractmethod
    def choose(self, run: Run, say: Say) -> Rule | None:
        """The rule by the newest evaluation; None if its rows cannot tell."""

    @abstractmethod
    def metrics(self, run: Run, rule: Any) -> Mapping[str, float]:
        """The metrics of the rule on the rows of the newest evaluation."""


def usable(run: Run, min_rows: int, say: Say) -> Ranking | None:
    """The ranked rows of the newest evaluation; None, with the reason, if nothing can be chosen by them."""
    ranking = ranking_of(run)
    if ranking is None:
        say("the predictions are not probabilities of two classes")
    elif ranking.rows < min_rows:
        say(f"{ranking.rows} validation rows are fewer than min-rows ({min_rows})")
    elif ranking.not_numbers:
        say(f"{ranking.not_numbers} of the scores are not a number")
    elif not ranking.has_both_classes:
        say("the validation rows are all of one class")
    else:
        return ranking
    return None


@dataclass(frozen=True)
class ByPoints(Way):
    """Several cut-offs with names."""

    demands: Sequence[PointDemand]
    otherwise: str
    min_rows: int
    suffix: str

    @property
    def logs(self) -> Directions:  # type: ignore[override]
        return {f"{each.name}-{name}": better for each in self.demands for name, better in POINT_METRICS.items()}

    def choose(self, run: Run, say: Say) -> Rule | None:
        ranking = usable(run, self.min_rows, say)
        if ranking is None:
            return None
        points: list[tuple[str, float]] = []
        for demand in self.demands:
            cut_off = demand.cut_off(ranking)
            points.append((demand.name, ABOVE_ALL if cut_off is None else cut_off))
        return Points(tuple(points), self.otherwise, self.suffix)

    def remarks(self, rule: Points) -> list[str]:
        """What the user should know about cut-offs that no longer change."""
        cut_offs = dict(rule.points)
        found = [
            f"no cut-off meets {str(each)!r} on the validation rows, so it never applies"
            for each in self.demands
            if cut_offs[each.name] == ABOVE_ALL
        ]
        applied = [point for point in rule.points if point[1] != ABOVE_ALL]
        for (mild, lower), (strict, higher) in pairwise(applied):
            if lower > higher:
                found.append(
                    f"{strict!r}, listed after {mild!r}, has the lower cut-off ({higher:.4g}, not {lower:.4g}); a row "
                    "gets the name with the highest cut-off below its probability"
                )
            elif lower == higher:
                found.append(f"{mild!r} and {strict!r} have the same cut-off, so {strict!r} is always decided")
        return found

    def metrics(self, run: Run, rule: Points) -> Mapping[str, float]:
        ranking = ranking_of(run)
        found: dict[str, float] = {}
        for name, cut_off in rule.points if ranking is not None else ():
            values = {**point_metrics(ranking, cut_off), "threshold": cut_off}  # type: ignore[arg-type]
            found |= {f"{name}-{metric}": value for metric, value in values.items()}
        return found


@dataclass(frozen=True)
class ByBand(Way):
    """Two cut-offs, between which rows go to a person."""

    accuracy: float | None
    """The share of the other rows that has to be right; None to choose by cost."""
    person_cost: float
    false_positive_cost: float
    false_negative_cost: float
    names: tuple[str, str, str]
    """The decisions: class 0, a person, class 1."""
    min_rows: int
    suffix: str
    logs: ClassVar[Directions] = {
        "band-low": None,
        "band-high": None,
        "band-share": "min",
        "band-accuracy": "max",
        "band-cost": "min",
    }

    def choose(self, run: Run, say: Say) -> Rule | None:
        ranking = usable(run, self.min_rows, say)
        if ranking is None:
            return None
        cuts = Cuts.of(ranking)
        if self.accuracy is not None:
            low, high = band_by_accuracy(cuts, self.accuracy)
        else:
            low, high = band_by_cost(cuts, self.person_cost, self.false_positive_cost, self.false_negative_cost)
        negative, person, positive = self.names
        return Points(((person, low), (positive, high)), negative, self.suffix)

    def metrics(self, run: Run, rule: Points) -> Mapping[str, float]:
        ranking = ranking_of(run)
        if ranking is None:
            return {}
        (_, low), (_, high) = rule.points
        (tn, _), (fn, _) = ranking.cells(low).tolist()
        (_, fp), (_, tp) = ranking.cells(high).tolist()
        total = ranking.positives + ranking.negatives
        decided = tn + fn + fp + tp
        person = max(total - decided, 0.0)
        cost = self.person_cost * person + self.false_positive_cost * fp + self.false_negative_cost * fn
        return {
            "band-low": low,
            "band-high": high,
            "band-share": person / total if total else float("nan"),
            "band-accuracy": (tn + tp) / decided if decided else float("nan"),
            "band-cost": cost / total if total else float("nan"),
        }


@dataclass(frozen=True)
class ByCosts(Way):
    """The decision of least expected cost, of two or more classes."""

    rule: LeastCost
    logs: ClassVar[Directions] = {"decision-cost": "min", "argmax-cost": "min"}

    def choose(self, run: Run, say: Say) -> Rule | None:
        return self.rule

    def metrics(self, run: Run, rule: LeastCost) -> Mapping[str, float]:
        rows = DecidedRows.of(run)
        if rows is None or rows.classes != len(rule.costs):
            return {}
        costs = np.array(rule.costs)
        places = rule.decide(rows.predictions)
        likeliest = LeastCost(tuple(map(tuple, 1 - np.eye(rows.classes))), rule.decisions[: rows.classes]).decide(
            rows.predictions
        )
        known = places >= 0
        own = np.where(known, costs[rows.labels, places], np.nan)
        plain = np.where(known, costs[rows.labels, likeliest], np.nan)
        return {"decision-cost": rows.mean(own), "argmax-cost": rows.mean(plain)}


@dataclass(frozen=True)
class ByGroups(Way):
    """A threshold for each group, under a constraint of fairness."""

    constraint: str
    group: str
    gap: float
    false_positive_cost: float
    false_negative_cost: float
    classes: tuple[str, str]
    min_rows: int
    suffix: str
    logs: ClassVar[Directions] = {
        "fairness-gap": "min",
        "decision-accuracy": "max",
        "decision-cost": "min",
        "group-rate/*": None,
        "group-threshold/*": None,
    }

    def choose(self, run: Run, say: Say) -> Rule | None:
        ranking = usable(run, self.min_rows, say)
        if ranking is None:
            return None
        given = {"false_positive_cost": self.false_positive_cost, "false_negative_cost": self.false_negative_cost}
        choice = Partitions(ranking).best("cost", given)
        rows = DecidedRows.of(run)
        if choice is None or rows is None:
            return None
        names, codes = groups_of(run, self.group)
        cuts, chosen = [], []
        needs = "rows of class 1" if self.constraint == "equal-opportunity" else "rows"
        for number, name in enumerate(names):
            own = codes == number
            weights = None if rows.weights is None else rows.weights[own]
            counted = own.sum() if needs == "rows" else (own & (rows.labels == 1)).sum()
            if own.sum() < self.min_rows or not counted:
                say(f"{self.group}={name} has too few {needs}, so it gets the threshold of all rows")
                continue
            cuts.append(Cuts.of(Ranked(rows.predictions.reshape(-1)[own], rows.labels[own], weights), 1 << 16))
            chosen.append(name)
        found = (
            fair_thresholds(cuts, self.constraint, self.gap, self.false_positive_cost, self.false_negative_cost)
            if len(cuts) > 1
            else []
        )
        if not found:
            say(f"fewer than two values of {self.group} have enough rows, so all get the same threshold")
        return GroupThresholds(
            self.group, dict(zip(chosen, found, strict=False)), choice.threshold, self.classes, self.suffix
        )

    def metrics(self, run: Run, rule: GroupThresholds) -> Mapping[str, float]:
        rows = DecidedRows.of(run)
        if rows is None:
            return {}
        names, codes = groups_of(run, self.group)
        own = codes_of(names, list(rule.thresholds))[codes]
        positive = rows.predictions.reshape(-1).astype(np.float64) > rule.of_codes(own)
        actual = rows.labels == 1
        weights = np.ones(len(codes)) if rows.weights is None else rows.weights
        counted = weights * (actual if self.constraint == "equal-opportunity" else 1)
        totals = np.bincount(codes, counted, len(names))
        sums = np.bincount(codes, counted * positive, len(names))
        rates = np.divide(sums, totals, out=np.full(len(names), np.nan), where=totals > 0)
        held = [rate for name, rate in zip(names, rates, strict=True) if name in rule.thresholds and not np.isnan(rate)]
        costs = np.where(positive, self.false_positive_cost * ~actual, self.false_negative_cost * actual)
        found = {
            "fairness-gap": float(max(held) - min(held)) if held else float("nan"),
            "decision-accuracy": rows.mean(positive == actual),
            "decision-cost": rows.mean(costs),
        }
        for name, rate in zip(names, rates.tolist(), strict=True):
            found[f"group-rate/{self.group}={name}"] = rate
            found[f"group-threshold/{self.group}={name}"] = rule.thresholds.get(name, rule.rest)
        return found
