"""Several processes that train one run together, through MPI; and the one process that is alone, for which all is free.

`connect()` gives what the launcher has made of this process. Everything in the engine that has to be the same in all
processes goes through that object: initial weights, sums over rows, requests, errors.
"""

from __future__ import annotations

from trainer.processes.launcher import Launched, check, launched
from trainer.processes.single import Processes

_connected: Processes | None = None


def connect() -> Processes:
    """The processes of this job, connected by the first call; one that is alone loads nothing for that.

    Raises UsageError where a launcher started several and MPI is not installed, or is another one than the launcher's.
    """
    global _connected  # noqa: PLW0603  a process belongs to one job, for as long as it lives
    if _connected is None:
        start = launched()
        if start.size == 1:
            _connected = Processes()
        else:
            check(start)
            from trainer.processes.mpi import World

            _connected = World(start)
    return _connected


def connected() -> Processes | None:
    """What `connect` has given, or None where nobody has called it."""
    return _connected


__all__ = ["Launched", "Processes", "connect", "connected", "launched"]
