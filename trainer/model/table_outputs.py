"""What a model of tables gives for each kind of target: the columns of its predictions, and what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.schema import Schema
from trainer.data.tables.targets import Classes, Quantity

PROBABILITY, CLASS, PREDICTION = "probability", "class", "prediction"


class TableOutputs(Protocol):
    """The columns of the predictions."""

    names: tuple[str, ...]
    """Their names, in order."""

    def columns(self, predictions: NDArray[Any], threshold: float | None) -> dict[str, Any]:
        """The columns for some rows, from what the task's `predictions` returned, (rows, …)."""

    def card(self) -> Mapping[str, Any]:
        """The model card's entries about them."""


def outputs_of(
    schema: Schema, quantiles: Sequence[float] = (), class_weights: Sequence[float] | None = None
) -> TableOutputs:
    """The outputs of the schema's kind of target; `quantiles` are those of a number that are predicted.

    `class_weights` are what `Task.class_weights` gives.
    """
    target = schema.target
    if isinstance(target, Quantity):
        return Numbers(schema, quantiles)
    return TwoClasses(schema, target) if target.is_binary else SeveralClasses(schema, target, class_weights)


def quantile_names(quantiles: Sequence[float]) -> tuple[str, ...]:
    """The columns of the predictions of a number, `prediction/0.9` for a quantile."""
    return tuple(f"{PREDICTION}/{quantile!r}" for quantile in quantiles) or (PREDICTION,)


class Numbers:
    """`prediction`, or `prediction/0.1` for each quantile, in the unit of the training table."""

    def __init__(self, schema: Schema, quantiles: Sequence[float]) -> None:
        self._label = schema.label
        self._quantiles = list(quantiles)
        self.names = quantile_names(quantiles)

    def columns(self, predictions: NDArray[Any], threshold: float | None) -> dict[str, Any]:
        """The numbers as they are."""
        import pyarrow as pa

        each = predictions.reshape(-1, len(self.names)).T
        return {name: pa.array(np.ascontiguousarray(column)) for name, column in zip(self.names, each, strict=True)}

    def card(self) -> Mapping[str, Any]:
        """What is predicted."""
        if not self._quantiles:
            return {"predicts": f"the number {self._label}"}
        listed = ", ".join(map(repr, self._quantiles))
        return {
            "predicts": f"the {'quantile' if len(self._quantiles) == 1 else 'quantiles'} {listed} of {self._label}",
            "quantiles": self._quantiles,
        }


class TwoClasses:
    """`probability` of class 1, and `class` as written in the training table: class 1 above the threshold."""

    names: tuple[str, ...] = (PROBABILITY, CLASS)

    def __init__(self, schema: Schema, target: Classes) -> None:
        self._label, self._target = schema.label, target
        self._classes = _as_written(target)

    def columns(self, predictions: NDArray[Any], threshold: float | None) -> dict[str, Any]:
        """Without a threshold there is no `class`."""
        import pyarrow as pa

        probability = predictions.reshape(-1)
        found: dict[str, Any] = {PROBABILITY: pa.array(probability)}
        if threshold is not None:
            # In float64, as in the metrics: the threshold has more digits than a float32.
            above = probability.astype(np.float64) > threshold
            found[CLASS] = pa.array(self._classes).take(pa.array(above.astype(np.int8)))
        return found

    def card(self) -> Mapping[str, Any]:
        """What the probability refers to."""
        negative, positive = self._target.names
        other = f"rather than {negative!r}" if not self._target.rest else "and not another class"
        return {
            "predicts": f"the probability that {self._label} is {positive!r} {other}",
            "classes": [negative, positive],
        }


class SeveralClasses:
    """`probability/NAME` of each class, and the most probable `class` as written in the training table.

    With class weights, the `class` is that of the highest product of weight and probability.
    """

    def __init__(self, schema: Schema, target: Classes, class_weights: Sequence[float] | None) -> None:
        self._class_weights = None if class_weights is None else np.array(class_weights)
        self._label, self._target = schema.label, target
        self._classes = _as_written(target)
        self.names = (*(f"{PROBABILITY}/{name}" for name in target.names), CLASS)

    def columns(self, predictions: NDArray[Any], threshold: float | None) -> dict[str, Any]:
        """Of equally probable classes, the first; a row without a probability, such as NaN, has no class."""
        import pyarrow as pa

        scores = predictions.reshape(-1, len(self._classes))
        judged = scores if self._class_weights is None else scores * self._class_weights
        best = judged.argmax(axis=1) if len(scores) else np.empty(0, np.int64)
        best = pa.array(best, mask=np.isnan(scores).any(axis=1))
        each = dict(zip(self.names, (pa.array(np.ascontiguousarray(column)) for column in scores.T), strict=False))
        return {**each, CLASS: pa.array(self._classes).take(best)}

    def card(self) -> Mapping[str, Any]:
        """What the probabilities refer to."""
        return {
            "predicts": f"the probability of each of {len(self._classes)} classes of {self._label}",
            "classes": list(self._target.names),
        }


def _as_written(target: Classes) -> list[Any]:
    """The classes as integers if all are, otherwise as text."""
    names = target.names
    return list(map(int, names)) if all(map(_is_whole, names)) else list(names)


def _is_whole(text: str) -> bool:
    try:
        return str(int(text)) == text and abs(int(text)) < 2**63
    except ValueError:
        return False
