"""The rows of an evaluation as rules decide on them: with predictions as the saved model gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer import Run
from trainer.metrics import BinaryClassification, Ranked, Ranking


@dataclass(frozen=True)
class DecidedRows:
    """Predictions as the model gives them, class numbers or numbers, weights."""

    predictions: NDArray[Any]
    labels: NDArray[Any]
    """(rows,)"""
    weights: NDArray[np.float64] | None
    classes: int
    """0 for numbers."""
    beyond: int
    """The number of rows if these are a sample of them; 0 if these are all."""

    @classmethod
    def of(cls, run: Run) -> DecidedRows | None:
        """All rows of the newest evaluation, or a sample of them, any of which is as likely.

        None if the predictions are neither probabilities of classes nor numbers.
        """
        evaluation = run.evaluation
        assert evaluation is not None  # noqa: S101  an event of an evaluation
        predictions, labels, weights = evaluation.sample
        beyond = 0 if evaluation.kept else evaluation.rows
        own = None if weights is None else np.asarray(weights, np.float64).ravel()
        rows = len(labels)
        if not rows or predictions.shape[:1] != (rows,):
            return None
        columns = predictions.size // rows
        if run.task.numbers() is not None:
            return cls(predictions, np.asarray(labels, np.float64).ravel(), own, 0, beyond)
        if labels.size == rows:
            numbers = np.asarray(labels).ravel()
        elif labels.shape == predictions.shape:
            numbers = labels.argmax(axis=1)
        else:
            return None
        classes = max(columns, 2)
        given = run.calibrated(predictions)
        known = np.asarray(given, np.float64)
        known = known[~np.isnan(known)]
        if predictions.ndim > 2 or ((known < 0) | (known > 1 + 1e-6)).any():
            return None
        if not np.isin(numbers, np.arange(classes)).all():
            return None
        return cls(given, numbers.astype(np.int64), own, classes, beyond)

    def mean(self, values: NDArray[Any]) -> float:
        """The mean over the rows, by weight."""
        total = float(self.weights.sum()) if self.weights is not None else float(len(values))
        return float(np.average(values, weights=self.weights)) if total > 0 else float("nan")


def ranking_of(run: Run) -> Ranking | None:
    """The rows of the newest evaluation, ranked by calibrated probability, also beyond `--memory`; None for others."""
    evaluation = run.evaluation
    assert evaluation is not None  # noqa: S101  an event of an evaluation
    predictions, labels, _ = evaluation.sample
    if evaluation.kept and len(labels) == evaluation.rows and (not labels.size or predictions.size != labels.size):
        return None
    return ranked(run)


def ranked(run: Run) -> Ranking:
    """The same for two classes: from the arrays, or as the task's metrics have ranked the rows."""
    evaluation = run.evaluation
    assert evaluation is not None  # noqa: S101  an event of an evaluation
    metrics, found = run.task_metrics, None
    if not evaluation.kept or len(evaluation.labels) < evaluation.rows:
        found = next((ranking for metric in metrics if (ranking := metric.ranking()) is not None), None)
    if found is None:
        rows = evaluation.predictions, evaluation.labels, evaluation.weights
        ranks = next((each for each in metrics if isinstance(each, BinaryClassification)), None)
        found = Ranked(*rows) if ranks is None else ranks.ranked(*rows)
    return found if run.calibrator is None else found.mapped(run.calibrator.apply)


def groups_of(run: Run, column: str) -> tuple[list[str], NDArray[np.int64]]:
    """The values of a column of `--slice`, and the number of each row's value, for the newest evaluation.

    Raises UsageError, with the number of rows, if they are not kept.
    """
    evaluation = run.evaluation
    assert evaluation is not None  # noqa: S101  an event of an evaluation
    # Beyond memory, this says how many rows there are and what to do.
    evaluation.predictions  # noqa: B018
    found = run.slices(evaluation.split)[column]
    return list(found.names), np.asarray(found.codes, np.int64)


def suffix_of(name: str) -> str:
    """What the columns and metrics of a plugin's labelled instance end with: `-strict` for `conformal@strict`."""
    label = name.partition("@")[2]
    return f"-{label}" if label else ""
