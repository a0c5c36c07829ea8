"""Numbers as plugins give them."""

from __future__ import annotations

import math
from typing import Any


def finite(value: Any) -> float | None:
    """The value as a float; None if it is not a finite number. Reading an NDArray waits for the device."""
    if isinstance(value, (str, bytes, bool)):
        return None
    try:
        number = float(value.asscalar() if hasattr(value, "asscalar") else value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
