"""How MXNet computes on the CPU: with oneDNN or without it, and by how many threads.

MXNet reads both once, when it is imported, so they belong to the process and have to be known before. oneDNN takes some
70 µs a step to get going, which a small net does not have: without it, the tutorial's step takes half the time, while
a net of 28-64-64-1 at batch 1024 takes three times as long. A second thread pays from some ten million multiplications
on: a step of 1000-1000-1000-1 at batch 512 took 54 ms with one thread and 28 ms with two.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from trainer.processes.launcher import on_this_machine

SMALL = 500_000
"""Multiplications of a forward pass below which a step is faster without oneDNN. Measured on two cores: 28-64-64-1
takes 118 µs without and 224 µs with it at batch 32, 269 and 172 µs at batch 128."""
PER_THREAD = 10_000_000
"""Multiplications of a forward pass that occupy a thread. Starting another one for less brings little where the machine
has nothing else to do, and costs dearly where it has."""
SPINS = "50000"
"""How often a thread looks for new work before it sleeps. libgomp's own number, six times as large, is a tenth faster
on an idle machine; on a busy one the threads that only look took the cores of those that work, and a step three times
as long."""

ONEDNN = "MXNET_MKLDNN_ENABLED"
THREADS = "MXNET_OMP_MAX_THREADS"
OPENMP = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Computing:
    """With oneDNN or without, by how many threads."""

    onednn: bool
    threads: int

    def __str__(self) -> str:
        return f"oneDNN {'on' if self.onednn else 'off'}, {self.threads} thread{'s' if self.threads > 1 else ''}"


def best_for(work: float | None) -> Computing:
    """What is fastest for steps of `work` multiplications in a forward pass; MXNet's own way where that is not known.

    What the environment says is left as it is.
    """
    own = of_environment()
    if work is None:
        return own
    said = os.environ.keys()
    threads = max(1, min(cores(), int(work // PER_THREAD)))
    return Computing(
        onednn=own.onednn if ONEDNN in said else work >= SMALL,
        threads=own.threads if said & {THREADS, OPENMP} else threads,
    )


def is_settled() -> bool:
    """Whether MXNet is imported; from then on the environment has no effect on how it computes."""
    return "mxnet" in sys.modules


def settle(*, onednn: str, threads: int | str) -> None:
    """Sets the environment that MXNet reads on import; `auto` leaves a value as it is.

    Has no effect once MXNet is imported. `trainer.mxnet.COMPUTING` tells what the process computes with.
    """
    if not is_settled():
        if onednn != "auto":
            os.environ[ONEDNN] = "1" if onednn == "on" else "0"
        if threads != "auto":
            os.environ[THREADS] = str(threads)
            if "OMP_WAIT_POLICY" not in os.environ:
                os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
            if OPENMP in os.environ:
                os.environ[OPENMP] = str(threads)  # it counts for more than MXNet's own variable


def of_environment() -> Computing:
    """What the environment makes of it, where MXNet has not been imported yet."""
    onednn = os.environ.get(ONEDNN, "1").strip().lower() not in ("0", "false")
    # MXNet takes half of the processors for hyperthreads.
    threads = max(1, _processors() // 2)
    for name in (THREADS, OPENMP):
        told = os.environ.get(name, "").partition(",")[0].strip()
        if told.isdecimal() and int(told):
            threads = int(told)
    return Computing(onednn, threads)


def cores() -> int:
    """The cores that this process may use; hyperthreads of one core count once, and processes of one job share them."""
    import psutil

    mine, present = _processors(), os.cpu_count() or 1
    # A launcher that binds processes to processors has divided them already.
    sharing = 1 if mine < present else on_this_machine()
    return max(1, min(mine, psutil.cpu_count(logical=False) or mine) // sharing)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
