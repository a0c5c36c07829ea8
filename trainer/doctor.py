"""Looks at everything that a run depends on, and says what is wrong with it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec

from trainer import devices, registry
from trainer.errors import UsageError


@dataclass(frozen=True)
class Finding:
    """One line of the report; `wrong` says what does not work and what to do about it, or is empty."""

    topic: str
    text: str
    wrong: str = ""


def examine() -> Iterator[Finding]:
    """The findings, one after another. Imports MXNet and every plugin, each guarded."""
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
        from trainer._mxnet import mx
    except UsageError as error:
        yield Finding("mxnet", _version("mxnet"), wrong=str(error))
        return
    enabled = sorted(name for name, feature in mx.runtime.Features().items() if feature.enabled)
    yield Finding("mxnet", f"{mx.__version__}: {', '.join(enabled)}")
    yield Finding("oneDNN", "on" if _switch("MXNET_MKLDNN_ENABLED", "1") == "1" and "MKLDNN" in enabled else "off")
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = os.environ.get("OMP_NUM_THREADS") or "one a processor"
    yield Finding("threads", f"{processors} processors; OMP_NUM_THREADS: {threads}")
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
        return  # MXNet cannot be loaded, which was said
    wrong = ""
    if reported and not seen:
        wrong = "the driver reports GPUs that MXNet does not see: it may be built without CUDA (see mxnet above)"
    yield Finding("contexts", ", ".join(["cpu", *(f"gpu({number})" for number in range(seen))]), wrong=wrong)


def _extras() -> Iterator[str]:
    """What is installed of the packages that the extras name, those for development left out."""
    for requirement in requires("gluon-trainer") or ():
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"extra == ['\"](\w+)['\"]", requirement)
        if name and extra and extra[1] != "dev":
            try:
                yield f"{name[0]} {version(name[0])}"
            except PackageNotFoundError:
                continue


def _mpi() -> Finding:
    launcher = shutil.which("mpirun") or shutil.which("mpiexec")
    if not find_spec("mpi4py"):
        return Finding("MPI", f"launcher {launcher}, mpi4py is not installed" if launcher else "not installed")
    return Finding("MPI", f"mpi4py {_version('mpi4py')}, launcher {launcher or 'not on PATH'}")


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
        what = f"nothing of the name {', '.join(unknown)} is installed"
        yield Finding(registry.BLOCK_LIST, ", ".join(registry.blocked_names()), wrong=what)


def _switch(name: str, default: str) -> str:
    return os.environ.get(name, default)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"
