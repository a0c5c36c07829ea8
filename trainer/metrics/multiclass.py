"""Several classes, one of which is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError
from trainer.metrics.base import Direction, Metric


class MulticlassClassification(Metric):
    """`accuracy`, and `top-k-accuracy` for every other k asked for, as sums: nothing is kept a row.

    Predictions are scores (rows, classes), the highest of which is the prediction; labels are class numbers (rows,).
    Among equal scores the lower class number goes first.
    """

    def __init__(self, top_k: Sequence[int] = (1,)) -> None:
        if not top_k or min(top_k) < 1:
            raise UsageError(f"top_k is {tuple(top_k)}", fix="Use numbers from 1.")
        self._names = {k: "accuracy" if k == 1 else f"top-{k}-accuracy" for k in top_k}
        self.reset()

    @property
    def directions(self) -> Mapping[str, Direction]:  # type: ignore[override]
        """More is better for all."""
        return dict.fromkeys(self._names.values(), "max")

    def reset(self) -> None:
        """Forgets every row."""
        self._hits = dict.fromkeys(self._names, 0.0)
        self._total = 0.0

    def update(self, predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> None:
        """Takes in a batch; raises UsageError for labels that are no class numbers."""
        classes = np.ravel(labels).astype(np.int64)
        if predictions.ndim != 2 or len(predictions) != len(classes):
            raise UsageError(
                f"predictions have shape {predictions.shape} for {len(classes)} rows",
                where="multi-class metrics",
                fix="They have to be (rows, classes).",
            )
        outside = (classes < 0) | (classes >= predictions.shape[1])
        if outside.any():
            raise UsageError(
                f"a label is {classes[outside][0]}, and there are {predictions.shape[1]} classes",
                where="multi-class metrics",
                fix="Labels are class numbers from 0.",
            )
        own = predictions[np.arange(len(classes)), classes][:, None]
        numbers = np.arange(predictions.shape[1])
        ahead = (predictions > own) | ((predictions == own) & (numbers < classes[:, None]))
        rank = ahead.sum(axis=1)
        weights = np.ones(len(classes)) if weights is None else np.ravel(weights).astype(np.float64)
        for k in self._hits:
            self._hits[k] += float(weights[rank < k].sum())
        self._total += float(weights.sum())

    def compute(self) -> dict[str, float]:
        """The share of the rows (of their weights) that were right."""
        return {name: self._hits[k] / self._total if self._total else float("nan") for k, name in self._names.items()}

    def state(self) -> dict[str, NDArray[Any]]:
        """The sums."""
        return {"hits": np.array(list(self._hits.values())), "total": np.array([self._total])}

    def add_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Adds the sums of another process."""
        for k, hits in zip(self._hits, state["hits"].tolist(), strict=True):
            self._hits[k] += hits
        self._total += float(state["total"][0])
