"""How well each class is told apart, for any number of classes: precision, recall, support, and what is confused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MATRIX_CLASSES = 20
"""With more classes a confusion matrix is wider than a page."""
CONFUSED = 20
"""The most pairs of classes in the table of what is confused."""
ROWS = 250
"""The most classes in the table, those with the lowest recall first."""


@dataclass(frozen=True)
class ClassRow:
    """One line of the table of classes; None for a value that is not defined."""

    name: str
    precision: float | None
    recall: float | None
    support: float


def by_class(predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> dict[str, Any]:
    """The numbers of each class as JSON values, from predictions (rows, classes) and class numbers (rows,).

    Precision and recall are None for a class that is never predicted, or of which there are no rows. `confused` lists
    (actual, predicted, rows), the most frequent first.
    """
    classes = predictions.shape[1]
    predicted, actual = predictions.argmax(axis=1), np.asarray(labels).ravel().astype(int)
    own = np.ones(len(actual)) if weights is None else np.asarray(weights, np.float64).ravel()
    right = np.bincount(actual, weights=own * (predicted == actual), minlength=classes)
    support = np.bincount(actual, weights=own, minlength=classes)
    claimed = np.bincount(predicted, weights=own, minlength=classes)
    wrong = predicted != actual
    pairs, which = np.unique(np.stack([actual[wrong], predicted[wrong]], axis=1), axis=0, return_inverse=True)
    counts = np.bincount(which.ravel(), weights=own[wrong], minlength=len(pairs))
    most = np.argsort(-counts, kind="stable")[:CONFUSED]
    return {
        "precision": _shares(right, claimed),
        "recall": _shares(right, support),
        "support": [float(value) for value in support],
        "confused": [[*map(int, pairs[each]), float(counts[each])] for each in most],
    }


def rows_of(found: Mapping[str, Any], names: Sequence[str]) -> list[ClassRow]:
    """The lines of the table, the classes with the lowest recall first, and then those without rows."""
    parts = zip(names, found["precision"], found["recall"], found["support"], strict=True)
    rows = [ClassRow(*each) for each in parts]
    return sorted(rows, key=lambda row: (row.recall is None, row.recall or 0.0, -row.support))


def confused_in(found: Mapping[str, Any], names: Sequence[str]) -> list[tuple[str, str, float]]:
    """Pairs of classes by name with the number of rows: (actual, predicted, rows)."""
    return [(names[actual], names[predicted], count) for actual, predicted, count in found["confused"]]


def _shares(parts: NDArray[Any], of: NDArray[Any]) -> list[float | None]:
    return [float(part / whole) if whole else None for part, whole in zip(parts, of, strict=True)]
