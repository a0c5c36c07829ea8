"""How MXNet computes on the CPU: with or without oneDNN, and with how many threads.

MXNet reads both settings once, on import, so they apply to the whole process and must be set before. oneDNN has an
overhead of about 70 µs per step, which is a lot for a small net: without it, the tutorial's step takes half the time,
while a 28-64-64-1 net at batch 1024 takes three times as long. A second thread pays off from about ten million
multiplications: a step of a 1000-1000-1000-1 net at batch 512 took 54 ms with one thread and 28 ms with two.
"""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trainer.errors import UsageError
from trainer.processes.launcher import on_this_machine

SMALL_PER_LAYER = 75_000
"""Below this many multiplications per forward pass and layer a step is faster without oneDNN, whose overhead is paid in
every layer. Measured with one thread, without and with it, in µs per step: 28-1 at batch 1024 59 and 69, at 4096 267
and 151; 100-1 at batch 1024 160 and 87; 10-10-10-10-1 at batch 256 180 and 180, at 1024 518 and 361; 28-64-64-1 at
batch 32 119 and 130, at 128 316 and 223."""
LAYERS = 6
"""Layers of a net that does not tell."""
PER_THREAD = 10_000_000
"""Multiplications per forward pass that keep a thread busy. Another thread for less gains little on an idle machine and
is expensive on a busy one."""
SPINS = "5000"
"""How often a thread polls for new work before it sleeps. libgomp's default is sixty times as high. On a busy machine
polling threads keep the cores from the working ones: with two threads, a step of cifar_resnet20 at batch 64 took three
to four times as long with 50,000, and twice the processor time. On an idle machine the two were equal."""

ADDRESS_SPACE = 1_250 << 20
"""What MXNet's libraries and the threads of its engine map, for a small net. With 1.25 GB for the whole process
it crashed, with 1.45 GB it trained."""
ADDRESS_SPACE_PER_THREAD = 80 << 20
"""A thread's stack and the arena of its allocations."""

ONEDNN = "MXNET_MKLDNN_ENABLED"
THREADS = "MXNET_OMP_MAX_THREADS"
OPENMP = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Computing:
    """Whether oneDNN is used, and the number of threads."""

    onednn: bool
    threads: int

    def __str__(self) -> str:
        return f"oneDNN {'on' if self.onednn else 'off'}, {self.threads} thread{'s' if self.threads > 1 else ''}"


def best_for(work: float | None, layers: int | None = None) -> Computing:
    """The fastest settings for `work` multiplications in `layers` per forward pass; MXNet's defaults without `work`.

    Settings in the environment take precedence.
    """
    own = of_environment()
    if work is None:
        return own
    given = os.environ.keys()
    threads = max(1, min(cores(), int(work // PER_THREAD)))
    return Computing(
        onednn=own.onednn if ONEDNN in given else work >= SMALL_PER_LAYER * (layers or LAYERS),
        threads=own.threads if given & {THREADS, OPENMP} else threads,
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
                os.environ[OPENMP] = str(threads)  # it takes precedence over MXNet's own variable


def check_address_space() -> None:
    """Raises UsageError if this process may not have the address space that MXNet and its threads need.

    Without it MXNet ends in a segmentation fault, in a message about a thread, or never.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return
    try:
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    except (OSError, ValueError):
        used = 0
    needed = used + ADDRESS_SPACE + ADDRESS_SPACE_PER_THREAD * (of_environment().threads - 1)
    if limit < needed:
        raise UsageError(
            f"a process may have {limit >> 20} MiB of address space, and MXNet needs {needed >> 20} MiB to start",
            where="ulimit -v",
            fix="Raise the limit, or lift it (ulimit -v unlimited) and limit the resident memory, as containers do.",
        )


def of_environment() -> Computing:
    """The settings that MXNet takes from the environment, if it has not been imported yet."""
    onednn = os.environ.get(ONEDNN, "1").strip().lower() not in ("0", "false")
    # MXNet assumes that half of the processors are hyperthreads.
    threads = max(1, _processors() // 2)
    for name in (THREADS, OPENMP):
        text = os.environ.get(name, "").partition(",")[0].strip()
        if text.isdecimal() and int(text):
            threads = int(text)
    return Computing(onednn, threads)


def cores() -> int:
    """The cores available to this process. Hyperthreads are not counted, and processes of one job share the cores."""
    mine, present = _processors(), os.cpu_count() or 1
    # A launcher that binds processes to processors has already divided them.
    sharing = 1 if mine < present else on_this_machine()
    return max(1, min(mine, _physical_cores() or mine) // sharing)


def _physical_cores() -> int | None:
    """The cores of this machine, each counted once however many threads it runs; None if unknown."""
    found = set()
    for listed in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology/core_cpus_list"):
        with suppress(OSError):
            found.add(listed.read_text(encoding="ascii").strip())
    if found:
        return len(found)
    # Older kernels and other systems.
    import psutil

    counted: int | None = psutil.cpu_count(logical=False)
    return counted


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
