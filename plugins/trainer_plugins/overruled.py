"""Says that a learning rate which another plugin has set is overruled."""

from __future__ import annotations

import logging

from trainer import Run

log = logging.getLogger("trainer")


class Rate:
    """The learning rate of a plugin that sets it before every step."""

    def __init__(self) -> None:
        self._set: float | None = None
        self._warned = False

    def put(self, run: Run, value: float) -> None:
        """Sets the rate of this step. Warns, once, if the rate is no longer the one that was set last."""
        found = run.learning_rate
        if self._set is not None and found != self._set and not self._warned:
            self._warned = True
            log.warning(
                "%s sets the rate of every step, so the rate %g that was set before step %d has no effect.",
                run.acting,
                found,
                run.step,
            )
        run.learning_rate = self._set = value
