"""The numbers behind the charts of several classes: each class against the rest, and how sure the net is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.metrics import Ranked
from trainer_plugins.report.points import calibration, histogram, places, plain, roc

MOST_CURVES = 8
"""The most classes with curves: as many as there are colours."""
CLASS_POINTS = 250


@dataclass(frozen=True)
class ClassCurves:
    """A net's predictions on rows of several classes; every list holds plain numbers.

    `classes` are the numbers of the classes with curves, those that are told apart worst if there are many. Each has an
    entry in `roc` (`false-positive-rate` and `recall`, starting at (0, 0)), `precision_recall` (`recall` and
    `precision`), `roc_auc` and `average_precision`: the class against the rest. `calibration` and `scores` are about
    the probability of the predicted class, as in `BinaryCurves`; 1 means that the prediction is right. `ranked` is the
    number of classes that have rows.
    """

    classes: list[int]
    roc: list[dict[str, list[float]]]
    precision_recall: list[dict[str, list[float]]]
    roc_auc: list[float]
    average_precision: list[float]
    calibration: dict[str, list[float]]
    scores: dict[str, list[float]]
    ranked: int


def class_curves(predictions: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any] | None) -> ClassCurves | None:
    """The curves of probabilities (rows, classes) and class numbers (rows,).

    None unless the predictions are probabilities and the rows are of several classes.
    """
    if not ((predictions >= 0) & (predictions <= 1)).all():
        return None
    labels = np.asarray(labels).ravel().astype(int)
    found = {
        number: ranked
        for number in np.unique(labels).tolist()
        if (ranked := Ranked(predictions[:, number], labels == number, weights)).has_both_classes
    }
    if not found:
        return None
    areas = {number: ranked.roc_auc() for number, ranked in found.items()}
    worst = sorted(sorted(areas, key=lambda number: areas[number])[:MOST_CURVES])
    shown = [found[number] for number in worst]
    certainty = predictions.max(axis=1).astype(np.float64)
    sure = Ranked(certainty, predictions.argmax(axis=1) == labels, weights)
    return ClassCurves(
        classes=worst,
        roc=[roc(each, CLASS_POINTS) for each in shown],
        precision_recall=[_precision_recall(each) for each in shown],
        roc_auc=[areas[number] for number in worst],
        average_precision=[each.average_precision() for each in shown],
        calibration=calibration(sure),
        scores=histogram(sure),
        ranked=len(found),
    )


def _precision_recall(ranked: Ranked) -> dict[str, list[float]]:
    chosen = ranked.at(places(ranked.distinct, CLASS_POINTS))
    return {"recall": plain(chosen.true / ranked.positives), "precision": plain(chosen.precision)}
