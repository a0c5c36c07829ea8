"""What is said about a threshold that is not tuned, or cannot be judged."""

from __future__ import annotations

from trainer.decisions import Gain
from trainer_plugins.threshold_tuner.rows import Scored


def kept(given: float, objective: str, gain: Gain, rows: int, confidence: float) -> str:
    """Why the given threshold is kept, and about how many rows would tell."""
    base, form = ("lower", "the cost") if objective == "cost" else ("raise", objective)
    begin = f"the threshold {given:g} is kept: on {rows} validation rows, tuning it"
    if gain.value <= 0:
        return f"{begin} does not {base} {form} out of fold"
    return (
        f"{begin} {base}s {form} by {gain.value:.4g} out of fold, which chance explains ({confidence:.0%} interval "
        f"{gain.low:.4g} to {gain.high:.4g}); about {_rounded(gain.enough)} rows would show a gain of this size"
    )


def why_not(scored: Scored, folds: int) -> str:
    """Why the rows cannot be cross-fitted."""
    if scored.differ_in_weight and not scored.has_all_rows:
        return f"with row weights it reads all {scored.rows} validation rows, which are more than --memory keeps"
    return f"a class has fewer validation rows than there are folds, {folds}"


def _rounded(rows: float) -> str:
    """A number of rows with two digits."""
    digits = max(len(str(int(rows))) - 2, 0)
    return f"{round(rows, -digits):,.0f}"
