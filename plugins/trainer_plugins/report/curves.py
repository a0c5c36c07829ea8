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
from trainer.metrics import Ranked, Ranking
from trainer_plugins.calibration import Calibration
from trainer_plugins.report.class_curves import class_curves
from trainer_plugins.report.classes import by_class
from trainer_plugins.report.mistakes import worst_mistakes
from trainer_plugins.report.numbers import number_curves, number_rows
from trainer_plugins.report.points import calibration, histogram, places, plain, roc

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


def binary_curves(ranking: Ranking, thresholds: Mapping[str, float]) -> BinaryCurves | None:
    """The curves of ranked rows with scores in [0, 1], with a confusion matrix per named threshold.

    None if all rows are of one class or a score is not a number.
    """
    if not ranking.has_both_classes:
        return None
    chosen = ranking.at(places(ranking.distinct))
    precision, recall = chosen.precision, chosen.true / ranking.positives
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
    columns = {"precision": plain(precision), "recall": plain(recall)}
    return BinaryCurves(
        roc=roc(ranking),
        precision_recall={"recall": columns["recall"], "precision": columns["precision"]},
        threshold={"threshold": plain(chosen.probabilities), **columns, "f1": plain(f1)},
        calibration=calibration(ranking),
        scores=histogram(ranking),
        confusion={
            name: {"threshold": float(threshold), "counts": ranking.cells(threshold).tolist()}
            for name, threshold in thresholds.items()
        },
        roc_auc=ranking.roc_auc(),
        average_precision=ranking.average_precision(),
        positive_share=float(ranking.positives / (ranking.positives + ranking.negatives)),
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


def binary_ranking(run: Run) -> Ranking | None:
    """The rows of the newest evaluation, ranked; None unless the task has two classes.

    Rows that are not kept are as the task's metrics have ranked them, or a sample if no metric has.
    """
    evaluation = run.evaluation
    if run.threshold is None or evaluation is None:
        return None
    if not evaluation.kept:
        ranking = next((each for metric in run.task_metrics if (each := metric.ranking()) is not None), None)
        if ranking is not None and ranking.rows:
            return ranking
    predictions, labels, weights = evaluation.sample
    return Ranked(predictions, labels, weights) if labels.size and predictions.size == labels.size else None


def named_thresholds(run: Run) -> dict[str, float]:
    """The task's own threshold as `given`, and the run's as `tuned` if it differs."""
    given, now = getattr(run.task, "threshold", None), run.threshold
    thresholds = {"given": float(given)} if given is not None else {}
    if now is not None and now != given:
        thresholds["tuned"] = float(now)
    return thresholds


def class_rows(run: Run) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[Any] | None] | None:
    """Predictions (rows, classes), class numbers and weights of the newest evaluation; None without classes.

    Those of a sample if not all rows are kept.
    """
    evaluation = run.evaluation
    if run.task.numbers() is not None or evaluation is None:
        return None
    predictions, labels, weights = evaluation.sample
    if predictions.ndim != 2 or predictions.shape[1] < 2:
        return None
    if labels.shape == predictions.shape:
        labels = labels.argmax(axis=1)
    if labels.size != len(predictions) or not np.isfinite(predictions).all():
        return None
    return predictions, labels.ravel().astype(np.int64), weights


def sampled(run: Run) -> dict[str, int]:
    """The number of rows, as `sampled`, if the newest evaluation has kept a sample only."""
    evaluation = run.evaluation
    return {} if evaluation is None or evaluation.kept else {"sampled": len(evaluation.sample[1])}


def reliability_of(run: Run) -> dict[str, Any]:
    """The `reliability` of the newest evaluation before and after calibration, or nothing."""
    split = "" if run.evaluation is None else run.evaluation.split
    found = [each.curves[split] for each in run.plugins if isinstance(each, Calibration) and split in each.curves]
    return {"reliability": found[0]} if found else {}


def of_newest(run: Run, mistakes: int = 0) -> dict[str, Any]:
    """The newest evaluation's numbers to draw, as JSON values: `binary`, those of several classes, `numbers`, or none.

    Beyond `--memory` those of several classes and of numbers are of `sampled` rows.

    `mistakes` is the number of wrongly classified images to keep.
    """
    numbers = number_rows(run)
    if numbers is not None:
        predictions, labels, weights, known = numbers
        found = number_curves(predictions, labels, weights, list(known.quantiles))
        return {} if found is None else {"numbers": asdict(found), **sampled(run)}
    names = list(run.task.class_names())
    ranking = binary_ranking(run)
    if ranking is not None:
        binary = binary_curves(ranking, named_thresholds(run))
        return {} if binary is None else {"binary": asdict(binary), "names": names, **reliability_of(run)}
    several = class_rows(run)
    if several is None:
        return {}
    own = run.task.class_weights()
    judged = several if own is None else (several[0] * own, *several[1:])
    counts, curves = class_counts(*judged), class_curves(*several)
    return {
        **({} if counts is None else {"classes": counts}),
        **({} if curves is None else {"class_curves": asdict(curves)}),
        "names": names,
        "by_class": by_class(*judged),
        "mistakes": worst_mistakes(run, several[1], mistakes),
        **reliability_of(run),
        **sampled(run),
    }
