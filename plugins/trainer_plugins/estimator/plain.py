"""The state of objects that know nothing of checkpoints: their attributes, as far as those are plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def attributes(owner: Any) -> dict[str, Any]:
    """The numbers, texts and truth values that an object holds, and lists of those; floats as arrays.

    JSON has no infinity, which is where the best value of many handlers begins; an array has.
    """
    return {name: _saved(value) for name, value in vars(owner).items() if _is_plain(value)}


def restore(owner: Any, saved: Mapping[str, Any]) -> None:
    """Puts saved attributes back."""
    for name, value in saved.items():
        setattr(owner, name, _taken_back(value))


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_plain(part) for part in value)
    return value is None or isinstance(value, (bool, int, float, str, np.bool_, np.number))


def _saved(value: Any) -> Any:
    if isinstance(value, list):
        return [_saved(part) for part in value]
    if isinstance(value, (float, np.floating)):
        return np.asarray(value, np.float64)
    return value.item() if isinstance(value, (np.bool_, np.number)) else value


def _taken_back(value: Any) -> Any:
    if isinstance(value, list):
        return [_taken_back(part) for part in value]
    return float(value) if isinstance(value, np.ndarray) else value
