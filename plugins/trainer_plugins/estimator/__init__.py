"""For code written for MXNet's Estimator: its event handlers and MXNet's learning-rate schedulers, as plugins.

Both take Python objects, so you pass them to `trainer.fit`. They have no entry points: a configuration file cannot name
a class to run.
"""

from trainer_plugins.estimator.plugin import EstimatorHandlers
from trainer_plugins.estimator.scheduler import Scheduler

__all__ = ["EstimatorHandlers", "Scheduler"]
