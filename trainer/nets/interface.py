"""Converts rows to inputs of a saved net, and its outputs to predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.arrays import check_finite
from trainer.errors import UsageError, listed
from trainer.losses import Labels, Outputs
from trainer.model.interface import Encoded, ModelInterface, RowSource
from trainer.nets.convert import check_rows, features_of, names_of


class NetInterface(ModelInterface):
    """Arrays in; probabilities and classes out if the loss implied them, otherwise the net's numbers."""

    def __init__(self, outputs: Outputs, labels: Labels, features: Sequence[str]) -> None:
        self._outputs = outputs
        self._labels = labels
        self._features = list(features)

    def open(self, source: str | Sequence[str], *, keep: Sequence[str] | None, judged: bool) -> RowSource:
        """Raises UsageError with the equivalent call in Python: the model reads no files."""
        raise UsageError(
            "this model was trained on arrays from Python and reads no files",
            where=source if isinstance(source, str) else listed(source, 2),
            fix='In Python: trainer.load_model("RUN").predict(X), where X holds what the net takes.',
        )

    def encode(self, data: Any) -> Encoded:
        """Rows in memory: whatever `fit` took as X, without the labels. Raises UsageError for rows that do not fit."""
        names = names_of(data)
        if self._features and names and names != self._features:
            same = sorted(names) == sorted(self._features)
            raise UsageError(
                "the columns are in another order than in training"
                if same
                else f"the columns are {listed(names, 5)}; in training they were {listed(self._features, 5)}",
                where="the data",
                fix="Select the training columns in their order.",
            )
        inputs = features_of(data, where="the data")
        for part in inputs:
            check_finite(part, where="the data", what="X", fix="Drop or fill those rows.")
        check_rows([(f"input {number}", part) for number, part in enumerate(inputs, start=1)], where="the data")
        return Encoded(inputs, len(inputs[0]))

    def columns(self, predictions: NDArray[Any], threshold: float | None) -> dict[str, Any]:
        """`class` and probabilities for classes, a score for the hinge losses, otherwise `prediction`."""
        flat = predictions.reshape(len(predictions), -1) if len(predictions) else predictions.reshape(0, 1)
        if self._outputs in ("logits", "log-probabilities") and predictions.ndim == 2:
            each = {f"probability-{number}": flat[:, number] for number in range(flat.shape[1])}
            return {"class": flat.argmax(axis=1), **each}
        if flat.shape[1] == 1 and self._outputs in ("logit", "probability", "score"):
            name, above = ("score", 0.0) if self._outputs == "score" else ("probability", 0.5)
            classes = (flat[:, 0] > above).astype(np.int64)
            return {name: flat[:, 0], "class": 2 * classes - 1 if self._labels == "signed" else classes}
        return super().columns(predictions, threshold)

    def card(self) -> Mapping[str, Any]:
        """What the predictions are, and the columns of the training rows if they had names."""
        meant = {
            "logits": "the probability of each class, and the most probable class",
            "log-probabilities": "the probability of each class, and the most probable class",
            "logit": "the probability of class 1, and the class",
            "probability": "the probability of class 1, and the class",
            "score": "a score whose sign is the class",
        }
        found: dict[str, Any] = {"predicts": meant.get(self._outputs, "what the net gives")}
        return {**found, "features": self._features} if self._features else found
