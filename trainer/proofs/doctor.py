"""Checks everything that a run depends on, and says what is wrong."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from trainer import cpu, devices
from trainer.catalog import registry
from trainer.errors import UsageError
from trainer.processes import launched


@dataclass(frozen=True)
class Finding:
    """One line of the report; `wrong` says what does not work and how to fix it, or is empty."""

    topic: str
    text: str
    wrong: str = ""


def examine() -> Iterator[Finding]:
    """Yields the findings. Imports MXNet and every plugin, and survives the errors of each."""
    yield Finding("python", f"{sys.version.split()[0]} on {platform.system()} {platform.machine()}")
    yield Finding("gluon-trainer", version("gluon-trainer"))
    yield Finding("numpy", version("numpy"))
    yield from _mxnet()
    yield from _gpus()
    yield _mpi()
    yield Finding("extras", ", ".join(_extras()) or "none")
    yield from _plugins()


def _mxnet() -> Iterator[Finding]:
    try:
        from trainer.mxnet import COMPUTING, mx
    except UsageError as error:
        yield Finding("mxnet", _version("mxnet"), wrong=str(error))
        return
    enabled = sorted(name for name, feature in mx.runtime.Features().items() if feature.enabled)
    yield Finding("mxnet", f"{mx.__version__}: {', '.join(enabled)}")
    yield Finding("oneDNN", "on" if COMPUTING.onednn and "MKLDNN" in enabled else "off")
    told = ", ".join(f"{name}={os.environ[name]}" for name in (cpu.OPENMP, cpu.THREADS) if name in os.environ)
    yield Finding("threads", f"{COMPUTING.threads}, on {cpu.cores()} cores ({told or 'MXNet chooses'})")
    yield Finding(
        "import mxnet", "works after `import trainer.mxnet` or `from trainer import fit`, which prepare for it"
    )
    set_here = {name: value for name, value in sorted(os.environ.items()) if name.startswith("MXNET_")}
    yield Finding("environment", ", ".join(f"{name}={value}" for name, value in set_here.items()))


def _gpus() -> Iterator[Finding]:
    reported = devices.reported_gpus()
    for gpu in reported:
        capability = ".".join(map(str, gpu.capability))
        wrong = "" if gpu.is_drivable else f"{gpu.why_not}: use --devices cpu"
        yield Finding("driver's GPU", f"{gpu.name}, compute capability {capability}", wrong=wrong)
    if any(not gpu.is_drivable for gpu in reported):
        # Asking MXNet could end the process.
        yield Finding("contexts", "cpu")
        return
    try:
        seen = devices.gpus()
    except UsageError:
        return  # MXNet cannot be loaded, which is reported above
    wrong = ""
    if reported and not seen:
        wrong = "the driver reports GPUs that MXNet does not see: it may be built without CUDA (see mxnet above)"
    yield Finding("contexts", ", ".join(["cpu", *(f"gpu({number})" for number in range(seen))]), wrong=wrong)


def _extras() -> Iterator[str]:
    """The installed packages of the extras, without those for development."""
    for requirement in requires("gluon-trainer") or ():
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"extra == ['\"](\w+)['\"]", requirement)
        if name and extra and extra[1] != "dev":
            try:
                yield f"{name[0]} {version(name[0])}"
            except PackageNotFoundError:
                continue


MPI_LIBRARY = "import mpi4py; mpi4py.rc.initialize = False; from mpi4py import MPI; print(MPI.Get_library_version())"


def _mpi() -> Finding:
    """The library and the launcher of several processes, and whether the two belong together."""
    start = launched()
    place = f"; started by {start.by} as rank {start.rank} of {start.size}" if start.size > 1 else ""
    # The launcher of the extra is in the interpreter's folder, which need not be on PATH.
    beside = str(Path(sys.executable).parent)
    launcher = shutil.which("mpirun") or shutil.which("mpiexec") or shutil.which("mpirun", path=beside)
    where = f"launcher {launcher}" if launcher else "no launcher"
    fix = 'pip install "gluon-trainer[mpi]"'
    if not find_spec("mpi4py"):
        text = f"{where}, mpi4py is not installed{place}" if launcher else f"not installed{place}"
        return Finding("MPI", text, f"several processes cannot train together: {fix}" if start.size > 1 else "")
    # In a process of its own: a broken MPI can end the one that loads it.
    library = _said([sys.executable, "-c", MPI_LIBRARY])
    name = re.match(r"[^,\n]+", library)
    text = f"mpi4py {_version('mpi4py')}, {name[0] if name else 'no library'}, {where}{place}"
    if name is None:
        return Finding("MPI", text, wrong=f"mpi4py cannot load an MPI library: {fix}")
    wrong = ""
    if launcher is None:
        wrong = f"there is no mpirun or mpiexec on PATH: {fix}"
    elif (theirs := re.search(r"Open MPI\)? v?([\d.]+)", _said([launcher, "--version"]))) and (
        ours := re.search(r"Open MPI v?([\d.]+)", library)
    ):
        if theirs[1].split(".")[0] != ours[1].split(".")[0]:
            wrong = f"{launcher} is of Open MPI {theirs[1]}, the library of {ours[1]}: use the launcher in {beside}"
    elif "Open MPI" in library and theirs is None:
        wrong = f"{launcher} is not Open MPI's, but the library is: use the launcher in {beside}"
    return Finding("MPI", text, wrong=wrong)


def _said(command: list[str]) -> str:
    """What a program prints; empty if it fails. The job's variables are hidden, so that it does not join the job."""
    job = ("OMPI_", "PMIX_", "PMI_", "PRTE_", "SLURM_")
    alone = {name: value for name, value in os.environ.items() if not name.startswith(job)}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=alone)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _plugins() -> Iterator[Finding]:
    blocked = set()
    for group, word in registry.WORDS.items():
        for entry in registry.installed(group):
            block = registry.blocking(entry)
            blocked.add(block)
            if block:
                yield Finding(word, f"{entry.name} ({entry.origin}), switched off by {registry.BLOCK_LIST}")
                continue
            claim = registry.claim_on(entry)
            if claim and not entry.is_ours:
                yield Finding(word, f"{entry.name} ({entry.origin})", wrong=claim)
                continue
            try:
                registry.load(group, entry.name)
            except UsageError as error:
                yield Finding(word, f"{entry.name} ({entry.origin})", wrong=str(error))
            else:
                yield Finding(word, f"{entry.name} ({entry.origin})")
    unknown = [name for name in registry.blocked_names() if name not in blocked]
    if unknown:
        what = f"nothing called {', '.join(unknown)} is installed"
        yield Finding(registry.BLOCK_LIST, ", ".join(registry.blocked_names()), wrong=what)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"
