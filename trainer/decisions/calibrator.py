"""What turns a model's probabilities into calibrated ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.decisions.stored import Storable, read_stored

CALIBRATORS: Mapping[str, str] = {
    "temperature": "trainer.decisions.calibrators.Temperature",
    "platt": "trainer.decisions.calibrators.Platt",
    "beta": "trainer.decisions.calibrators.Beta",
    "isotonic": "trainer.decisions.calibrators.Isotonic",
    "vector": "trainer.decisions.calibrators.VectorScaling",
}
"""Each kind, and its class."""


class Calibrator(Storable, ABC):
    """A function from probabilities to calibrated ones; a frozen dataclass whose fields are what was fitted."""

    @abstractmethod
    def apply(self, probabilities: NDArray[Any]) -> NDArray[np.float64]:
        """The calibrated probabilities, in the shape of the given ones: (rows,) of class 1, or (rows, classes).

        For two classes it never decreases, so the order of rows is kept, except for ties. NaN stays NaN.
        """

    @abstractmethod
    def describe(self) -> str:
        """What it is, in a few words, such as `temperature 1.3`."""


def calibrator_of(value: object) -> Calibrator | None:
    """The calibrator that `to_json` described; None for None. Raises UsageError for anything else."""
    return None if value is None else read_stored(value, CALIBRATORS, Calibrator, "calibrator")  # type: ignore[type-abstract]
