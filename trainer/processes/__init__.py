"""The processes that train one run together, connected by MPI; a single process pays nothing.

`connect()` returns the processes of this job. Everything that has to be the same in all of them goes through that
object: initial weights, sums over rows, requests, errors.
"""

from __future__ import annotations

from trainer.processes.launcher import Launched, check, launched
from trainer.processes.single import Processes

_connected: Processes | None = None


def connect() -> Processes:
    """The processes of this job, connected by the first call. A single process does not load MPI.

    Raises UsageError if a launcher started several and MPI is not installed, or does not match the launcher.
    """
    global _connected  # noqa: PLW0603  a process belongs to one job for its lifetime
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
    """The result of `connect`, or None if it was not called yet."""
    return _connected


__all__ = ["Launched", "Processes", "connect", "connected", "launched"]
