"""Chooses the exact best decision threshold on the validation rows, and evaluates it on the test rows."""

from trainer_plugins.threshold_tuner.plugin import ThresholdTuner

__all__ = ["ThresholdTuner"]
