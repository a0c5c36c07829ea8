"""Records a run for TensorBoard."""

from trainer_plugins.tensorboard.plugin import TensorBoard

__all__ = ["TensorBoard"]
