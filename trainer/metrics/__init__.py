"""Metrics whose values do not depend on the order of the rows or their division into batches, devices or processes.

The definitions are scikit-learn's, and the tests compare with it. The code is our own to keep start-up short: importing
`sklearn.metrics` takes 1.1 s of CPU time (importing MXNet takes 2.2 s), and most runs need nothing else of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer._lazy import exports

if TYPE_CHECKING:
    from trainer.metrics.base import Metric, direction_of
    from trainer.metrics.binary import BinaryClassification, average_precision, binary_metrics_at, roc_auc
    from trainer.metrics.evalmetric import EvalMetricAdapter, as_metric
    from trainer.metrics.memory import Memory
    from trainer.metrics.multiclass import MulticlassClassification
    from trainer.metrics.names import metrics_for
    from trainer.metrics.quantiles import OfColumn, Quantiles
    from trainer.metrics.ranked import Points, Ranked, Ranking
    from trainer.metrics.regression import MedianAbsoluteError, PoissonDeviance, Regression

__all__ = [
    "BinaryClassification",
    "EvalMetricAdapter",
    "MedianAbsoluteError",
    "Memory",
    "Metric",
    "MulticlassClassification",
    "OfColumn",
    "Points",
    "PoissonDeviance",
    "Quantiles",
    "Ranked",
    "Ranking",
    "Regression",
    "as_metric",
    "average_precision",
    "binary_metrics_at",
    "direction_of",
    "metrics_for",
    "roc_auc",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        "trainer.metrics.base": ("Metric", "direction_of"),
        "trainer.metrics.binary": (
            "BinaryClassification",
            "average_precision",
            "binary_metrics_at",
            "roc_auc",
        ),
        "trainer.metrics.memory": ("Memory",),
        "trainer.metrics.ranked": ("Points", "Ranked", "Ranking"),
        "trainer.metrics.evalmetric": ("EvalMetricAdapter", "as_metric"),
        "trainer.metrics.multiclass": ("MulticlassClassification",),
        "trainer.metrics.names": ("metrics_for",),
        "trainer.metrics.quantiles": ("OfColumn", "Quantiles"),
        "trainer.metrics.regression": ("MedianAbsoluteError", "PoissonDeviance", "Regression"),
    },
)
