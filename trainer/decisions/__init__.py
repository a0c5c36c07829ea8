"""What is made of predictions: probabilities that are calibrated, and rules that decide.

A run holds a calibrator, a threshold and rules; plugins choose them, and the saved model applies them. They compute
with numpy alone, so they are the same in a run, a model and a report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer._lazy import exports

if TYPE_CHECKING:
    from trainer.decisions.calibrator import Calibrator, calibrator_of
    from trainer.decisions.choosing import ChosenCalibrator, choose_calibrator
    from trainer.decisions.costs import GroupThresholds, LeastCost, costs_of
    from trainer.decisions.coverage import (
        class_scores,
        conformal_quantile,
        covered,
        exact_interval,
        interval,
        number_scores,
        rows_needed,
    )
    from trainer.decisions.cross_fitting import CrossFitted, CrossFitting, Gain, cross_fitted
    from trainer.decisions.cuts import Cuts, band_by_accuracy, band_by_cost, fair_thresholds, rate_of
    from trainer.decisions.folds import folds_of
    from trainer.decisions.groups import codes_of
    from trainer.decisions.guarantee import Demand, Promised, promised
    from trainer.decisions.points import ABOVE_ALL, PointDemand, Points, demands_of, point_metrics
    from trainer.decisions.prior import without_class_weights
    from trainer.decisions.reliability import Reliability
    from trainer.decisions.rule import Rule, rule_of
    from trainer.decisions.scored import Pooled, Scored
    from trainer.decisions.sets import Bounds, ClassSets, Intervals
    from trainer.decisions.thresholds import OBJECTIVES, Choice, Counts, Partitions, Resamples

__all__ = [
    "ABOVE_ALL",
    "OBJECTIVES",
    "Bounds",
    "Calibrator",
    "Choice",
    "ChosenCalibrator",
    "ClassSets",
    "Counts",
    "CrossFitted",
    "CrossFitting",
    "Cuts",
    "Demand",
    "Gain",
    "GroupThresholds",
    "Intervals",
    "LeastCost",
    "Partitions",
    "PointDemand",
    "Points",
    "Pooled",
    "Promised",
    "Reliability",
    "Resamples",
    "Rule",
    "Scored",
    "band_by_accuracy",
    "band_by_cost",
    "calibrator_of",
    "choose_calibrator",
    "class_scores",
    "codes_of",
    "conformal_quantile",
    "costs_of",
    "covered",
    "cross_fitted",
    "demands_of",
    "exact_interval",
    "fair_thresholds",
    "folds_of",
    "interval",
    "number_scores",
    "point_metrics",
    "promised",
    "rate_of",
    "rows_needed",
    "rule_of",
    "without_class_weights",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        "trainer.decisions.calibrator": (
            "Calibrator",
            "calibrator_of",
        ),
        "trainer.decisions.choosing": (
            "ChosenCalibrator",
            "choose_calibrator",
        ),
        "trainer.decisions.costs": (
            "GroupThresholds",
            "LeastCost",
            "costs_of",
        ),
        "trainer.decisions.coverage": (
            "class_scores",
            "conformal_quantile",
            "covered",
            "exact_interval",
            "interval",
            "number_scores",
            "rows_needed",
        ),
        "trainer.decisions.cross_fitting": (
            "CrossFitted",
            "CrossFitting",
            "Gain",
            "cross_fitted",
        ),
        "trainer.decisions.cuts": (
            "Cuts",
            "band_by_accuracy",
            "band_by_cost",
            "fair_thresholds",
            "rate_of",
        ),
        "trainer.decisions.folds": ("folds_of",),
        "trainer.decisions.groups": ("codes_of",),
        "trainer.decisions.guarantee": (
            "Demand",
            "Promised",
            "promised",
        ),
        "trainer.decisions.points": (
            "ABOVE_ALL",
            "PointDemand",
            "Points",
            "demands_of",
            "point_metrics",
        ),
        "trainer.decisions.prior": ("without_class_weights",),
        "trainer.decisions.reliability": ("Reliability",),
        "trainer.decisions.rule": (
            "Rule",
            "rule_of",
        ),
        "trainer.decisions.scored": (
            "Pooled",
            "Scored",
        ),
        "trainer.decisions.sets": (
            "Bounds",
            "ClassSets",
            "Intervals",
        ),
        "trainer.decisions.thresholds": (
            "OBJECTIVES",
            "Choice",
            "Counts",
            "Partitions",
            "Resamples",
        ),
    },
)
