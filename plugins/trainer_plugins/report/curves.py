"""The numbers behind the charts of an evaluation: computed once, small enough to keep, and drawn by `charts`.

A split's curves have at most POINTS points. Besides them only bins and counts are kept, and the pictures of the worst
mistakes on images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer import Run
from trainer.metrics import Ranked, binary_metrics_at
from trainer_plugins.report.class_curves import class_curves
from trainer_plugins.report.classes import by_class
from trainer_plugins.report.mistakes import worst_mistakes
from trainer_plugins.report.numbers import number_curves, number_rows
from trainer_plugins.report.points import Vector, calibration, histogram, plain, reduced

MAX_CLASSES = 50


@dataclass(frozen=True)
class BinaryCurves:
    """A net's predictions on rows of two classes, as curves; every list holds plain numbers.

    `roc` has `false-positive-rate` and `recall`, starting at (0, 0); `precision_recall` has `recall` and `precision`;
    `threshold` has `threshold`, `precision`, `recall` and `f1`, by falling threshold; `calibration` has the `mean`
    probability and the `rate` of class 1 for each of the BINS bins that has rows, and the `share` of rows for every
    bin; `scores` has the weighted number of rows of class `0` and of class `1` in each of SCORE_BINS bins. `confusion`
    holds, by the threshold's name, the `threshold` and the `counts` (2, 2): rows are the actual classes, columns the
    predicted ones.
    """

    roc: Mapping[str, list[float]]
    precision_recall: Mapping[str, list[float]]
    threshold: Mapping[str, list[float]]
    calibration: Mapping[str, list[float]]
    scores: Mapping[str, list[float]]
    confusion: Mapping[str, Mapping[str, Any]]
    roc_auc: float
    average_precision: float
    positive_share: float


def binary_curves(
    scores: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None, thresholds: Mapping[str, float]
) -> BinaryCurves | None:
    """The curves of scores in [0, 1] and labels 0 and 1, both (rows,), with a confusion matrix per named threshold.

    None if all rows are of one class or a score is not a number.
    """
    scores, labels = (np.asarray(part, np.float64).ravel() for part in (scores, labels))
    ranked = Ranked(scores, labels, weights)
    if not ranked.has_both_classes:
        return None
    precision, recall = ranked.precision, ranked.true / ranked.true[-1]
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
    return BinaryCurves(
        roc=reduced(
            {
                "false-positive-rate": np.append(0.0, ranked.false / ranked.false[-1]),
                "recall": np.append(0.0, recall),
            }
        ),
        precision_recall=reduced({"recall": recall, "precision": precision}),
        threshold=reduced({"threshold": ranked.probabilities, "precision": precision, "recall": recall, "f1": f1}),
        calibration=calibration(scores, labels, weights),
        scores=histogram(scores, labels, weights),
        confusion={
            name: {"threshold": float(threshold), "counts": _confusion(threshold, scores, labels, weights)}
            for name, threshold in thresholds.items()
        },
        roc_auc=ranked.roc_auc(),
        average_precision=ranked.average_precision(),
        positive_share=float(ranked.true[-1] / (ranked.true[-1] + ranked.false[-1])),
    )


def class_counts(
    predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None
) -> list[list[float]] | None:
    """The confusion matrix of (rows, classes) predictions; None for more than MAX_CLASSES classes."""
    classes = predictions.shape[1]
    if classes > MAX_CLASSES:
        return None
    predicted, actual = predictions.argmax(axis=1), np.asarray(labels).ravel().astype(int)
    own = None if weights is None else np.asarray(weights, np.float64).ravel()
    counts = np.bincount(actual * classes + predicted, weights=own, minlength=classes * classes)
    return [plain(row) for row in counts.reshape(classes, classes)]


def binary_rows(run: Run) -> tuple[Vector, Vector, NDArray[Any] | None] | None:
    """Scores, labels and weights of the newest evaluation; None unless the task has two classes."""
    evaluation = run.evaluation
    if run.threshold is None or evaluation is None or not evaluation.labels.size:
        return None
    scores, labels = (np.asarray(part, np.float64).ravel() for part in (evaluation.predictions, evaluation.labels))
    return (scores, labels, evaluation.weights) if scores.size == labels.size else None


def named_thresholds(run: Run) -> dict[str, float]:
    """The task's own threshold as `given`, and the run's as `tuned` if it differs."""
    given, now = getattr(run.task, "threshold", None), run.threshold
    thresholds = {"given": float(given)} if given is not None else {}
    if now is not None and now != given:
        thresholds["tuned"] = float(now)
    return thresholds


def class_rows(run: Run) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[Any] | None] | None:
    """Predictions (rows, classes), class numbers and weights of the newest evaluation; None without classes."""
    evaluation = run.evaluation
    if run.task.numbers() is not None:
        return None
    if evaluation is None or evaluation.predictions.ndim != 2 or evaluation.predictions.shape[1] < 2:
        return None
    labels = evaluation.labels
    if labels.shape == evaluation.predictions.shape:
        labels = labels.argmax(axis=1)
    if labels.size != len(evaluation.predictions) or not np.isfinite(evaluation.predictions).all():
        return None
    return evaluation.predictions, labels.ravel().astype(np.int64), evaluation.weights


def of_newest(run: Run, mistakes: int = 0) -> dict[str, Any]:
    """The newest evaluation's numbers to draw, as JSON values: `binary`, those of several classes, `numbers`, or none.

    `mistakes` is the number of wrongly classified images to keep.
    """
    numbers = number_rows(run)
    if numbers is not None:
        predictions, labels, weights, known = numbers
        found = number_curves(predictions, labels, weights, list(known.quantiles))
        return {} if found is None else {"numbers": asdict(found)}
    names = list(run.task.class_names())
    rows = binary_rows(run)
    if rows is not None:
        binary = binary_curves(*rows, named_thresholds(run))
        return {} if binary is None else {"binary": asdict(binary), "names": names}
    several = class_rows(run)
    if several is None:
        return {}
    counts, curves = class_counts(*several), class_curves(*several)
    return {
        **({} if counts is None else {"classes": counts}),
        **({} if curves is None else {"class_curves": asdict(curves)}),
        "names": names,
        "by_class": by_class(*several),
        "mistakes": worst_mistakes(run, several[1], mistakes),
    }


def _confusion(threshold: float, scores: Vector, labels: Vector, weights: NDArray[Any] | None) -> list[list[float]]:
    cells = binary_metrics_at(threshold, scores, labels, weights)
    names = (("true-negatives", "false-positives"), ("false-negatives", "true-positives"))
    return [[float(cells[name]) for name in row] for row in names]
