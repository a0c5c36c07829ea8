"""Loading MPI, and ending its job by force."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from trainer.errors import UsageError
from trainer.processes.failures import is_told_by_another
from trainer.processes.launcher import Launched

ABORT_SECONDS = 5
"""How long MPI gets to end the job before this process dies by itself, which the launcher notices."""


def abort(world: Any) -> None:
    """Ends all processes of the job, this one included."""
    sys.stdout.flush()
    sys.stderr.flush()
    if threading.current_thread() is threading.main_thread():
        # MPI_Abort has been seen to wait for a minute. A process that dies by a signal ends the job too.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(ABORT_SECONDS)
    world.Abort(1)


def load(start: Launched) -> Any:
    """mpi4py's module MPI, initialised. Raises UsageError if it is not installed or finds no MPI library."""
    where = f"{start.by} started {start.size} processes"
    try:
        import mpi4py
    except ImportError:
        raise UsageError(
            "they need mpi4py to train together, and it is not installed",
            where=where,
            fix='pip install "gluon-trainer[mpi]" on every machine.',
        ) from None
    # Only the training thread calls MPI; the default thread level costs locks.
    mpi4py.rc.thread_level = "serialized"
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise UsageError(
            f"mpi4py cannot load MPI ({error})",
            where=where,
            fix='pip install "gluon-trainer[mpi]", or install the MPI that mpi4py was built for.',
        ) from error
    return MPI


def library(mpi: Any) -> str:
    """The name and version of the MPI library."""
    return str(mpi.Get_library_version()).partition(",")[0].strip()


def abort_on_unhandled(world: Any) -> None:
    """Makes an unhandled exception, for example in a user's script, end the whole job.

    Otherwise this process would wait for the others in MPI_Finalize, and they for it.
    """
    before: Callable[[type[BaseException], BaseException, TracebackType | None], Any] = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not is_told_by_another(error):
            before(kind, error, trace)
        if not hasattr(error, "told_by_another") and not issubclass(kind, KeyboardInterrupt):
            abort(world)

    sys.excepthook = hook
