"""Device names, as people write them, to MXNet contexts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trainer.errors import UsageError, listed

if TYPE_CHECKING:
    from trainer._mxnet import Context

FORMS = "cpu, gpu, auto, or numbered as in gpu:0,1 or cpu:0,1,2"


def parse(text: str) -> tuple[str, tuple[int, ...]]:
    """The kind (`cpu`, `gpu`, `auto`) and the numbers of `gpu:0,1`; raises UsageError for anything else."""
    match = re.fullmatch(r"\s*(cpu|gpu|auto)\s*(?::\s*(\d+(?:\s*,\s*\d+)*)\s*)?", text)
    if match is None or (match[1] == "auto" and match[2]):
        raise UsageError(f"{text!r} names no devices", where="--devices", fix=f"Write {FORMS}.")
    numbers = tuple(int(number) for number in match[2].split(",")) if match[2] else ()
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"{text!r} names a device twice", where="--devices", fix="Name each one once.")
    return match[1], numbers


def contexts(text: str) -> list[Context]:
    """The contexts to train on. `gpu` is the first one, `auto` every GPU there is, or the CPU where there is none.

    Raises UsageError for a GPU that this machine, or this MXNet, does not have.
    """
    kind, numbers = parse(text)
    from trainer._mxnet import mx

    if kind == "cpu":
        return [mx.cpu(number) for number in numbers or (0,)]
    present = gpus()
    if kind == "auto":
        return [mx.gpu(number) for number in range(present)] or [mx.cpu(0)]
    missing = [f"gpu({number})" for number in numbers or (0,) if number >= present]
    if missing:
        if not mx.runtime.Features().is_enabled("CUDA"):
            raise UsageError(
                f"{listed(missing)} cannot be used: the installed MXNet is built without CUDA",
                where="--devices",
                fix="Use --devices cpu, or install an MXNet wheel for CUDA in place of this one.",
            )
        have = f"{present} ({listed(f'gpu({number})' for number in range(present))})" if present else "none"
        raise UsageError(
            f"there is no {listed(missing)}; GPUs that MXNet finds: {have}",
            where="--devices",
            fix="Use one of those, or --devices cpu.",
        )
    return [mx.gpu(number) for number in numbers or (0,)]


def gpus() -> int:
    """How many GPUs MXNet can see; 0 where it is built without CUDA, or the driver does not answer."""
    from trainer._mxnet import mx

    try:
        return int(mx.context.num_gpus())
    except mx.MXNetError:
        return 0
