"""The state of objects without checkpoint support: those of their attributes that are plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def attributes(owner: Any) -> dict[str, Any]:
    """An object's attributes that are numbers, strings, booleans or lists of those; floats as arrays.

    JSON has no infinity, the initial best value of many handlers; an array does.
    """
    return {name: _saved(value) for name, value in vars(owner).items() if _is_plain(value)}


def restore(owner: Any, saved: Mapping[str, Any]) -> None:
    """Sets the saved attributes."""
    for name, value in saved.items():
        setattr(owner, name, _restored(value))


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


def _restored(value: Any) -> Any:
    if isinstance(value, list):
        return [_restored(part) for part in value]
    return float(value) if isinstance(value, np.ndarray) else value
