"""Whether a launcher (mpirun, srun) started this process as one of several: read from the environment alone.

An ordinary run must not load MPI to find out that it is alone, and a mistake has to be told once however many processes
make it. So this module asks only for the variables that launchers set.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

from trainer.errors import UsageError

SWITCH = "TRAINER_MPI"
"""Set to `off`, it makes every process train by itself, whatever started it: for launchers used to start many runs."""

PAIRS = (
    ("mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("mpiexec", "PMI_SIZE", "PMI_RANK"),
    ("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
)
"""Launchers with the variables in which they say how many processes they started, and which this one is: Open MPI's
mpirun, MPICH's and Intel's mpiexec, Slurm's srun."""

LOCAL_SIZES = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_NTASKS_PER_NODE")
"""Where launchers say how many of the processes run on this machine."""

GRACE_SECONDS = 5.0
"""How long another process than the first waits before it tells a mistake: where all have made the same one, the first
has told it and ended the job by then."""


@dataclass(frozen=True)
class Launched:
    """How this process was started: by what, as which of how many."""

    by: str = ""
    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether it is the one that speaks for all."""
        return self.rank == 0


def launched(environment: Mapping[str, str] | None = None) -> Launched:
    """What the environment says. Whoever started a single process, or none that is known, started it alone."""
    given = os.environ if environment is None else environment
    if given.get(SWITCH, "").lower() in {"off", "0", "no", "false"}:
        return Launched()
    for by, size, rank in PAIRS:
        if given.get(size, "").isdecimal() and given.get(rank, "").isdecimal():
            return Launched(by, int(given[rank]), int(given[size])) if int(given[size]) > 1 else Launched(by)
    return Launched()


def on_this_machine(environment: Mapping[str, str] | None = None) -> int:
    """How many processes of this job share this machine; 1 where the launcher does not say."""
    given = os.environ if environment is None else environment
    if launched(given).size == 1:
        return 1
    told = [int(given[name]) for name in LOCAL_SIZES if given.get(name, "").isdecimal()]
    return max(1, *told)


def check(start: Launched, environment: Mapping[str, str] | None = None) -> None:
    """Raises UsageError where the launcher has not told the processes how to find each other.

    Slurm does that only where it is asked to; without, each process would train the whole by itself.
    """
    given = os.environ if environment is None else environment
    if start.by == "srun" and not {"PMIX_RANK", "PMI_RANK"} & set(given):
        raise UsageError(
            f"Slurm started {start.size} tasks that cannot find each other",
            where="srun",
            fix=f"Start them with srun --mpi=pmix; or set {SWITCH}=off to train in each by itself.",
        )


def wait_for_the_first(start: Launched) -> None:
    """Gives the first process the time to tell the same mistake and to end the job with it."""
    if not start.is_first:
        time.sleep(GRACE_SECONDS)
