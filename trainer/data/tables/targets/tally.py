"""What has to be known of a split's labels and weights to judge and describe it, counted while it is encoded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Tally:
    """The rows of a split, of each class if there are `classes`, and the sum of their weights."""

    def __init__(self, classes: int = 0) -> None:
        self.rows = 0
        self.low, self.high = float("inf"), float("-inf")
        """The smallest and the largest label."""
        self.counts = np.zeros(classes, np.int64)
        self.weights: NDArray[np.float64] | None = None
        """The sum of the weights of each class; None if rows have no weights."""
        self.largest_weight = 0.0

    def add(self, labels: NDArray[Any], weights: NDArray[Any] | None) -> None:
        """Adds rows, labels and weights (n,)."""
        if not len(labels):
            return
        self.rows += len(labels)
        self.low, self.high = min(self.low, float(labels.min())), max(self.high, float(labels.max()))
        classes = labels.astype(np.intp) if len(self.counts) else None
        if classes is not None:
            self.counts += np.bincount(classes, minlength=len(self.counts))
        if weights is not None:
            self.largest_weight = max(self.largest_weight, float(weights.max()))
            if classes is not None:
                found = np.bincount(classes, weights=weights, minlength=len(self.counts)).astype(np.float64)
                self.weights = found if self.weights is None else self.weights + found

    def merge(self, other: Tally) -> None:
        """Adds other rows of the same split."""
        self.rows += other.rows
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.counts += other.counts
        self.largest_weight = max(self.largest_weight, other.largest_weight)
        if other.weights is not None:
            self.weights = other.weights if self.weights is None else self.weights + other.weights

    def to_json(self) -> dict[str, Any]:
        """A JSON value."""
        return {
            "rows": self.rows,
            "range": [self.low, self.high],
            "counts": self.counts.tolist(),
            "weights": None if self.weights is None else self.weights.tolist(),
            "largest_weight": self.largest_weight,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Tally:
        """What `to_json` returned."""
        found = cls(len(value["counts"]))
        found.rows, (found.low, found.high) = value["rows"], value["range"]
        found.counts = np.array(value["counts"], np.int64)
        found.weights = None if value["weights"] is None else np.array(value["weights"], np.float64)
        found.largest_weight = value["largest_weight"]
        return found
