"""Cut-offs with names, a band that goes to a person, costs of mistakes, and thresholds for groups."""

from trainer_plugins.operating_points.plugin import OperatingPoints

__all__ = ["OperatingPoints"]
