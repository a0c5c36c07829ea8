"""Calibrated probabilities: chosen on the validation rows, applied by the saved model."""

from trainer_plugins.calibration.plugin import Calibration

__all__ = ["Calibration"]
