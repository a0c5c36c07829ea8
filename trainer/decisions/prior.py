"""Probabilities of a net whose loss weighed the classes, as if it had not.

A weight of a class in the loss acts like so many rows of it, so the net learns p(class) × weight, divided by the sum
over the classes. Dividing by the weights undoes that exactly (Elkan, 2001; Saerens, Latinne and Decaestecker, 2002, for
a known prior; King and Zeng, 2001, for the logit, from which the logarithm of the ratio of the weights is subtracted).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def without_class_weights(probabilities: NDArray[Any], weights: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities of class 1, of any shape, for two weights, or of each class, (rows, classes), without the weights.

    It also moves a decision threshold to where the same rows are above it.
    """
    given, weights = np.asarray(probabilities, np.float64), np.asarray(weights, np.float64)
    if given.ndim == 2 and given.shape[1] == len(weights):
        each = given / weights
        found: NDArray[np.float64] = each / each.sum(axis=1, keepdims=True)
        return found
    positive, negative = given / weights[1], (1 - given) / weights[0]
    return np.asarray(positive / (positive + negative))
