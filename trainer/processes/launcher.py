"""Detects from the environment whether a launcher (mpirun, srun) started this process as one of several.

An ordinary run must not load MPI to find out that it is the only process, and an error must be reported once however
many processes hit it. So this module reads only the variables that launchers set.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

from trainer.errors import UsageError

SWITCH = "TRAINER_MPI"
"""With the value `off` every process trains by itself: for launchers that start many independent runs."""

PAIRS = (
    ("mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("mpiexec", "PMI_SIZE", "PMI_RANK"),
    ("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
)
"""Launchers, with the variables for the number of processes and the rank of this one: Open MPI's mpirun, MPICH's and
Intel's mpiexec, Slurm's srun."""

LOCAL_SIZES = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_NTASKS_PER_NODE")
"""Variables for the number of processes on this machine."""

GRACE_SECONDS = 5.0
"""How long every process but the first waits before it reports an error. If all have the same error, the first has
reported it and ended the job by then."""


@dataclass(frozen=True)
class Launched:
    """How this process was started: by which launcher, with which rank, and as one of how many."""

    by: str = ""
    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether it is the process that reports for all."""
        return self.rank == 0


def launched(environment: Mapping[str, str] | None = None) -> Launched:
    """What the environment says; a single process without a launcher if there is no known launcher's variable."""
    given = os.environ if environment is None else environment
    if given.get(SWITCH, "").lower() in {"off", "0", "no", "false"}:
        return Launched()
    for by, size, rank in PAIRS:
        if given.get(size, "").isdecimal() and given.get(rank, "").isdecimal():
            return Launched(by, int(given[rank]), int(given[size])) if int(given[size]) > 1 else Launched(by)
    return Launched()


def on_this_machine(environment: Mapping[str, str] | None = None) -> int:
    """How many processes of this job share this machine; 1 if the launcher does not say."""
    given = os.environ if environment is None else environment
    if launched(given).size == 1:
        return 1
    sizes = [int(given[name]) for name in LOCAL_SIZES if given.get(name, "").isdecimal()]
    return max(1, *sizes)


def check(start: Launched, environment: Mapping[str, str] | None = None) -> None:
    """Raises UsageError if the launcher has not told the processes how to connect.

    Slurm does so only on request; otherwise each process would train on all the data by itself.
    """
    given = os.environ if environment is None else environment
    if start.by == "srun" and not {"PMIX_RANK", "PMI_RANK"} & set(given):
        raise UsageError(
            f"Slurm started {start.size} tasks that cannot connect to each other",
            where="srun",
            fix=f"Start them with srun --mpi=pmix, or set {SWITCH}=off to train in each one separately.",
        )


def wait_for_the_first(start: Launched) -> None:
    """Gives the first process time to report the same error and end the job."""
    if not start.is_first:
        time.sleep(GRACE_SECONDS)
