"""The threshold that is promised to meet a demand, and the sentence about it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from trainer.decisions import Demand, Promised, promised
from trainer_plugins.threshold_tuner.rows import Scored

KINDS = {
    "recall-at-precision": "precision",
    "precision-at-recall": "recall",
    "recall-at-fpr": "false-positive-rate",
    "cost": "cost",
}
"""What each objective demands. No other objective has a demand that could be promised."""
NOT_TUNED = "the given threshold {given:g} is kept, without a promise"


@dataclass(frozen=True)
class Answer:
    """The threshold, None if none can be promised, and a sentence about it."""

    threshold: float | None
    sentence: str


def answer(scored: Scored, split: str, demand: Demand, start: float, *, given: float, grouped: str | None) -> Answer:
    """The answer of some rows, and what is not exact about it."""
    said = f"{_said(demand)} with confidence {demand.confidence:g}"
    rows = f"{scored.rows} {split} rows"
    kept = NOT_TUNED.format(given=given)
    why_not = _why_not(scored, split)
    if why_not:
        return Answer(None, f"no threshold promises {said}: {why_not}; {kept}")
    ranking = scored.ranking
    if scored.differ_in_weight:
        weights = np.asarray(scored.weights, np.float64).ravel()
        found: Promised | None = promised(
            (scored.scores, np.asarray(scored.labels).ravel() > 0.5, weights), demand, start
        )
    else:
        found = promised(ranking, demand, start)
    if found is None:
        return Answer(None, f"no threshold can promise {said} with these {rows}{_enough(scored, demand)}; {kept}")
    at = ranking.metrics_at(found.threshold)
    values = {_value(demand): found.value, "precision": at["precision"], "recall": at["recall"]}
    has = " and ".join(f"{name} {value:.4g}" for name, value in values.items())
    sentence = f"the threshold {found.threshold:.6g} promises {said}: on the {rows} it has {has}"
    return Answer(found.threshold, sentence + _inexact(scored, grouped))


def _said(demand: Demand) -> str:
    sign = "≥" if demand.kind in ("precision", "recall") else "≤"
    return f"{_value(demand)} {sign} {demand.limit:g}"


def _value(demand: Demand) -> str:
    return {"false-positive-rate": "false positive rate", "cost": "cost per row"}.get(demand.kind, demand.kind)


def _why_not(scored: Scored, split: str) -> str:
    """Why the rows cannot be tested; empty if they can."""
    if scored.ranking.not_numbers:
        return f"{scored.ranking.not_numbers} of the scores of the {split} rows are not a number"
    if not scored.ranking.has_both_classes:
        return f"the {split} rows are all of one class"
    if scored.differ_in_weight and not scored.has_all_rows:
        return f"with row weights it reads all {scored.rows} {split} rows, which are more than --memory keeps"
    return ""


def _enough(scored: Scored, demand: Demand) -> str:
    """What is missing in any case, if even rows without a mistake would prove nothing."""
    ranking = scored.ranking
    rate = demand.limit if demand.kind in ("precision", "recall") else 1 - demand.limit
    if demand.kind == "cost" or rate <= 0 or scored.differ_in_weight:
        return ""
    if rate >= 1:
        return ", nor with any others"
    needed = math.ceil(math.log(1 - demand.confidence) / math.log(rate))
    count, what = {
        "precision": (ranking.positives, "rows of class 1 above it"),
        "recall": (ranking.positives, "rows of class 1"),
    }.get(demand.kind, (ranking.negatives, "rows of class 0"))
    return f" (it takes at least {needed} {what}, and there are {count:g})" if count < needed else ""


def _inexact(scored: Scored, grouped: str | None) -> str:
    found = []
    if scored.differ_in_weight:
        found.append("the rows have weights, and their effective number takes the place of their number")
    if grouped:
        found.append(f"rows of one {grouped} may be alike, and count as independent")
    return f". The confidence is not exact: {'; '.join(found)}" if found else ""
