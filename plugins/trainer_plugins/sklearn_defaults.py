"""What the estimators of `trainer.sklearn` train."""

from __future__ import annotations

SKLEARN = {"classifier": "logreg", "regressor": "linreg", "verbose": ("progress",)}
"""The names of the tasks, and the plugins of an estimator that is not quiet."""
