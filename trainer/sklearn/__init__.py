"""scikit-learn's interface: estimators that train nets, for pipelines, searches and cross-validation.

They take arrays and tables: data frames with columns of text, dicts of columns, Arrow tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer._lazy import exports

if TYPE_CHECKING:
    from trainer.sklearn.classifier import GluonClassifier
    from trainer.sklearn.regressor import GluonRegressor

__all__ = ["GluonClassifier", "GluonRegressor"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "trainer.sklearn.classifier": ("GluonClassifier",),
        "trainer.sklearn.regressor": ("GluonRegressor",),
    },
)
