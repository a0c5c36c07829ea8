"""Chooses a calibrator by its loss on rows that it was not fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.decisions.calibrator import Calibrator
from trainer.decisions.fitting import FITS
from trainer.decisions.scored import Scored

NONE = "none"
ERRORS = 2.0
"""A more flexible calibrator is taken if it lowers the mean loss by more than so many standard errors of the mean.

It is the one-standard-error rule (Breiman, Friedman, Olshen and Stone, 1984) with two of them: a calibrator that does
not help costs more on new rows than one that helps a little gains.
"""


@dataclass(frozen=True)
class ChosenCalibrator:
    """What was chosen, and what it gives for rows that it was not fitted on."""

    calibrator: Calibrator | None
    """Fitted on all rows; None to keep the probabilities."""
    probabilities: NDArray[Any]
    """Of the rows, each from a calibrator of the same kind that was fitted on the other folds."""
    losses: Mapping[str, float]
    """The cross-fitted mean log loss of each candidate."""


def cross_fitted(kind: str, rows: Scored, folds: NDArray[np.int64]) -> NDArray[np.float64]:
    """The probabilities of rows, each calibrated by what was fitted on the other folds."""
    found = np.array(rows.probabilities, np.float64)
    for fold in np.unique(folds).tolist():
        held = folds == fold
        found[held] = FITS[kind](rows.take(~held)).apply(rows.probabilities[held])
    return found


def choose_calibrator(
    rows: Scored, kinds: Sequence[str], folds: NDArray[np.int64], *, resolution: float
) -> ChosenCalibrator:
    """The best of `kinds`, which are in order of their flexibility; `none` keeps the probabilities.

    The others are `temperature`, for two classes `platt`, `beta` and `isotonic`, for several `vector`.

    Each is compared with the best so far by its cross-fitted log loss, row by row, and taken if it is lower by more
    than ERRORS standard errors of the mean difference. `resolution` clips probabilities, as in the metric `log-loss`.
    """
    best: str | None = None
    kept: Any = rows.probabilities
    kept_losses = rows.log_losses(kept, resolution)
    losses: dict[str, float] = {}
    for kind in kinds:
        probabilities = rows.probabilities if kind == NONE else cross_fitted(kind, rows, folds)
        each = rows.log_losses(probabilities, resolution)
        losses[kind] = rows.mean(each)
        if best is None or _is_better(rows, kept_losses - each):
            best, kept, kept_losses = kind, probabilities, each
    assert best is not None  # noqa: S101  there is a candidate
    return ChosenCalibrator(None if best == NONE else FITS[best](rows), kept, losses)


def _is_better(rows: Scored, gains: NDArray[np.float64]) -> bool:
    """Whether the mean gain is above ERRORS of its standard errors."""
    mean = rows.mean(gains)
    error = float(np.sqrt(np.dot(rows.squares, (gains - mean) ** 2))) / float(rows.weights.sum())
    return mean > ERRORS * error
