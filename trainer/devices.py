"""Converts device names to MXNet contexts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.errors import UsageError, listed

if TYPE_CHECKING:
    from trainer.mxnet import Context

FORMS = "cpu, gpu, auto, or numbered as in gpu:0,1 or cpu:0,1,2"


def parse(text: str) -> tuple[str, tuple[int, ...]]:
    """The kind (`cpu`, `gpu`, `auto`) and the numbers of `gpu:0,1`; raises UsageError for anything else."""
    match = re.fullmatch(r"\s*(cpu|gpu|auto)\s*(?::\s*(\d+(?:\s*,\s*\d+)*)\s*)?", text)
    if match is None or (match[1] == "auto" and match[2]):
        raise UsageError(f"{text!r} is not a device name", where="--devices", fix=f"Use {FORMS}.")
    numbers = tuple(int(number) for number in match[2].split(",")) if match[2] else ()
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"{text!r} names a device twice", where="--devices", fix="Name each one once.")
    return match[1], numbers


def contexts(text: str, local_rank: int = 0, local_size: int = 1) -> list[Context]:
    """The contexts to train on. `gpu` is the first GPU; `auto` is all GPUs, or the CPU if there are none.

    If several processes share a machine, each gets a different GPU for `gpu`, and its share of them for `auto`. Raises
    UsageError for a GPU that the machine does not have or MXNet cannot use.
    """
    kind, numbers = parse(text)
    from trainer.mxnet import mx

    if kind == "cpu":
        return [mx.cpu(number) for number in numbers or (0,)]
    present = gpus()
    # CUDA_VISIBLE_DEVICES renumbers the GPUs, so the driver's list would not match; trust the user's choice.
    reported = [] if os.environ.get("CUDA_VISIBLE_DEVICES") else reported_gpus()
    undrivable = [gpu for gpu in reported if not gpu.is_drivable]
    if kind == "auto":
        mine = list(range(present))[local_rank::local_size] or [local_rank % max(present, 1)]
        return [mx.gpu(number) for number in mine if present and not undrivable] or [mx.cpu(0)]
    if present and undrivable:
        fix = "Use --devices cpu, or select other GPUs with CUDA_VISIBLE_DEVICES."
        raise UsageError(undrivable[0].why_not, where="--devices", fix=fix)
    numbers = numbers or (local_rank % max(present, 1),)
    missing = [f"gpu({number})" for number in numbers if number >= present]
    if missing:
        if not mx.runtime.Features().is_enabled("CUDA"):
            raise UsageError(
                f"{listed(missing)} cannot be used: the installed MXNet is built without CUDA",
                where="--devices",
                fix="Use --devices cpu, or install an MXNet wheel for CUDA instead.",
            )
        have = f"{present} ({listed(f'gpu({number})' for number in range(present))})" if present else "none"
        raise UsageError(
            f"there is no {listed(missing)}; GPUs that MXNet finds: {have}",
            where="--devices",
            fix="Use one of those, or --devices cpu.",
        )
    return [mx.gpu(number) for number in numbers]


@dataclass(frozen=True)
class ReportedGpu:
    """A GPU as reported by the driver."""

    name: str
    capability: tuple[int, int]
    """CUDA's compute capability, which determines the code that it runs."""

    @property
    def is_drivable(self) -> bool:
        """Whether the published MXNet wheels contain code for it. Otherwise the first operation kills the process."""
        return (5, 0) <= self.capability <= (8, 9)

    @property
    def why_not(self) -> str:
        """Why it is not drivable."""
        major, minor = self.capability
        return f"MXNet's wheels support compute capability 5.0 to 8.9, but the {self.name} has {major}.{minor}"


def reported_gpus() -> list[ReportedGpu]:
    """The GPUs that nvidia-smi reports; none if it is not installed or fails.

    Without CUDA_VISIBLE_DEVICES these are the GPUs that MXNet would see.
    """
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=name,compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return []
    found = re.findall(r"^(.+?)\s*,\s*(\d+)\.(\d+)\s*$", done.stdout, re.MULTILINE) if done.returncode == 0 else []
    return [ReportedGpu(name, (int(major), int(minor))) for name, major, minor in found]


def gpus() -> int:
    """How many GPUs MXNet sees; 0 if it is built without CUDA or the driver does not respond."""
    from trainer.mxnet import mx

    try:
        return int(mx.context.num_gpus())
    except mx.MXNetError:
        return 0
