"""For code that comes from MXNet's Estimator: its event handlers, and MXNet's learning-rate schedulers, as plugins.

Both take Python objects, so they are given to `trainer.fit` and have no entry points: nothing in a configuration file
can name a class that is to be run.
"""

from trainer_plugins.estimator.plugin import EstimatorHandlers
from trainer_plugins.estimator.scheduler import Scheduler

__all__ = ["EstimatorHandlers", "Scheduler"]
