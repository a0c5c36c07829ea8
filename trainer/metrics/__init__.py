"""Metrics whose values never depend on how the rows were cut into batches, devices or processes, or ordered.

The definitions are scikit-learn's, and the tests hold them to scikit-learn. The code is our own for the sake of
start-up: importing `sklearn.metrics` costs 1.1 s of CPU time where importing MXNet costs 2.2 s, and most runs would use
nothing else of it.
"""

from __future__ import annotations

from trainer.metrics.base import Metric, direction_of
from trainer.metrics.binary import BinaryClassification, average_precision, binary_metrics_at, roc_auc
from trainer.metrics.evalmetric import EvalMetricAdapter, as_metric
from trainer.metrics.multiclass import MulticlassClassification
from trainer.metrics.names import metrics_for
from trainer.metrics.regression import Regression

__all__ = [
    "BinaryClassification",
    "EvalMetricAdapter",
    "Metric",
    "MulticlassClassification",
    "Regression",
    "as_metric",
    "average_precision",
    "binary_metrics_at",
    "direction_of",
    "metrics_for",
    "roc_auc",
]
