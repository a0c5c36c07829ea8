"""Agreement between processes: what one was asked for, or was signalled, holds in all of them after the same step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trainer.requests import REQUESTS

if TYPE_CHECKING:
    from trainer.dispatch import Dispatch
    from trainer.processes.single import Processes
    from trainer.requests import Requests
    from trainer.run import Run
    from trainer.signals import Interrupt

SIGNALS = 8
"""The bit from which signals follow the requests, by their numbers."""


class Agreement:
    """Call it to agree. Collective: every process calls it at the same place; a process alone has nothing to do."""

    def __init__(self, run: Run, requests: Requests, interrupt: Interrupt, dispatch: Dispatch) -> None:
        self._run = run
        self._requests = requests
        self._interrupt = interrupt
        self._dispatch = dispatch
        self._processes: Processes = run.processes
        self._alone = run.processes.size == 1
        self.before_update = False
        """Whether a plugin of any process listens between batch and update, and could ask for something there."""

    def open(self) -> None:
        """Agrees for the first time, and finds out whether it is needed before updates too, which costs an exchange."""
        fire = self._dispatch
        listening = bool(fire.batch_begin.handlers or fire.backward_end.handlers)
        self.before_update = self._processes.size > 1 and any(self._processes.gather(listening))
        self()

    def __call__(self) -> None:
        """Makes the requests and signals of every process those of all."""
        if self._alone:
            return
        interrupt = self._interrupt
        asked = sum(1 << bit for bit, action in enumerate(REQUESTS) if self._requests.reason(action) is not None)
        signalled = 1 << (SIGNALS + interrupt.noticed) if interrupt.noticed else 0
        # The union of what is asked for, and of what is not: a bit that is in both differs between processes.
        anywhere, missing = map(int, self._processes.union(np.array([asked | signalled, ~asked & 0xFF], np.uint64)))
        if anywhere & missing & 0xFF:
            self._spread()
        if interrupt.signum is None and anywhere >> SIGNALS:
            # The lowest, if several came; the same in all processes.
            found = anywhere >> SIGNALS
            interrupt.signum = (found & -found).bit_length() - 1

    def _spread(self) -> None:
        """Copies the requests that only some processes have, with reasons and requesters, to the others."""
        run, requests = self._run, self._requests
        own = {action: (requests.reason(action), requests.requesters(action)) for action in REQUESTS}
        for rank, theirs in enumerate(self._processes.gather(own)):
            for action, (reason, requesters) in theirs.items():
                if reason is None or requests.reason(action) is not None:
                    continue
                for plugin in requesters:
                    said = reason if rank == 0 else f"{reason} (rank {rank})"
                    requests.ask(action, said, plugin=plugin, epoch=run.epoch, step=run.step)
