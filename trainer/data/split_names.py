"""The names of the splits of a run's rows, in order of time: those trained on are the oldest."""

from __future__ import annotations

NAMES = {"train": "training", "validation": "validation", "calibration": "calibration", "test": "test"}
"""The splits, and what their rows are called."""
SPLITS = tuple(NAMES)
JUDGED = SPLITS[1:]
"""The splits that a run evaluates."""
