"""Metrics as text: one form for every line, table and page."""

from __future__ import annotations

import math

COUNTS = ("positives", "negatives")
"""What the names of counts end in; their zeros and ones are whole numbers too."""


def metric_text(name: str, value: float | None, form: str = ".5g") -> str:
    """A metric's value: whole numbers without decimals, others in `form`, and a dash for None and NaN."""
    if value is None or math.isnan(value):
        return "–"
    value = float(value)
    if not math.isfinite(value):
        return str(value)
    whole = value.is_integer() and abs(value) < 1e15
    if whole and (abs(value) > 1 or name.endswith(COUNTS)):
        return f"{value:.0f}"
    # Five digits of a sum of weights would hide most of it behind an exponent.
    if abs(value) >= 1e4:
        return f"{value:.1f}" if abs(value) < 1e15 else f"{value:.5g}"
    return f"{value:{form}}"
