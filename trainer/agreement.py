"""Agreement between processes: requests and signals of one process take effect in all of them after the same step."""

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
"""The first bit for signals, by number; the lower bits are for requests."""


class Agreement:
    """Call it to agree. Collective: every process calls it at the same place. It does nothing for a single process."""

    def __init__(self, run: Run, requests: Requests, interrupt: Interrupt, dispatch: Dispatch) -> None:
        self._run = run
        self._requests = requests
        self._interrupt = interrupt
        self._dispatch = dispatch
        self._processes: Processes = run.processes
        self._alone = run.processes.size == 1
        self.before_update = False
        """Whether a plugin in any process listens between backward pass and update, and could make a request there."""

    def open(self) -> None:
        """Agrees for the first time, and finds out whether to agree before updates too, which costs an exchange."""
        fire = self._dispatch
        listening = bool(fire.batch_begin.handlers or fire.backward_end.handlers)
        self.before_update = self._processes.size > 1 and any(self._processes.gather(listening))
        self()

    def __call__(self) -> None:
        """Shares the requests and signals of each process with all others."""
        if self._alone:
            return
        interrupt = self._interrupt
        asked = sum(1 << bit for bit, action in enumerate(REQUESTS) if self._requests.reason(action) is not None)
        signalled = 1 << (SIGNALS + interrupt.noticed) if interrupt.noticed else 0
        # The union of the bits that are set, and of those that are not: a bit in both unions differs between processes.
        anywhere, missing = map(int, self._processes.union(np.array([asked | signalled, ~asked & 0xFF], np.uint64)))
        if anywhere & missing & 0xFF:
            self._spread()
        if interrupt.signum is None and anywhere >> SIGNALS:
            # The lowest of several signals, so that it is the same in all processes.
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
