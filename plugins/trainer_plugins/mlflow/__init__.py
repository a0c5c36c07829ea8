"""Records a run in MLflow."""

from trainer_plugins.mlflow.plugin import MLflow

__all__ = ["MLflow"]
