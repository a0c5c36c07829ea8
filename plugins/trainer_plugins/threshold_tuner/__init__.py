"""Chooses the decision threshold on the validation rows, exactly, and judges it on the test rows."""

from trainer_plugins.threshold_tuner.plugin import ThresholdTuner

__all__ = ["ThresholdTuner"]
