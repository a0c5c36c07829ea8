"""The operators that a model's symbol may hold, and why the others are refused.

A symbol is a program: MXNet calls whatever its operators name, with whatever their attributes say. Every operator that
is registered is let in, unless one of its attributes is an address, a file or a function, or it reaches places in
memory that the values of its inputs name, without checking them.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any

from trainer.errors import UsageError, choose_from

ADDRESS = "it calls an address in memory that the file names"
CALLBACK = "it calls a function outside of the file"
FILE = "it reads a file that the model names"
BACKWARD = "it belongs to a backward pass, whose state the file would have to point to"
FUSED = "only oneDNN's own pass writes it, which knows what it relies on"
UNCHECKED = "it writes or reads at places that other values name, and does not check them"
NO_KERNEL = "it is a mark for MXNet's passes and cannot be computed"

REFUSED = {
    "_Native": ADDRESS,
    "_NDArray": ADDRESS,
    "_CachedOp": ADDRESS,
    "_CachedOpThreadSafe": ADDRESS,
    "_FusedOp": ADDRESS,
    "_TensorRT": ADDRESS,
    "Custom": CALLBACK,
    "_npi_Custom": CALLBACK,
    "_CustomFunction": CALLBACK,
    "_cvimread": FILE,
    "_npi_cvimread": FILE,
    "_sg_mkldnn_conv": FUSED,
    "_sg_mkldnn_fully_connected": FUSED,
    "_sg_mkldnn_selfatt_qk": FUSED,
    "_sg_mkldnn_selfatt_valatt": FUSED,
    "scatter_nd": UNCHECKED,
    "_scatter_set_nd": UNCHECKED,
    "_contrib_index_copy": UNCHECKED,
    "SequenceLast": UNCHECKED,
    "SequenceReverse": UNCHECKED,
    "_CrossDeviceCopy": NO_KERNEL,
    "_NoGradient": NO_KERNEL,
}
"""The operators that are refused by name; `why_refused` adds those of backward passes and those with an address."""

SUBGRAPHS = {"_foreach": 1, "_while_loop": 2, "_cond": 3}
"""The operators with symbols of their own inside, and how many."""


def check_operator(name: Any, allowed: Collection[str]) -> None:
    """Raises UsageError for an operator that MXNet does not have, or that is refused and not in `allowed`."""
    if not isinstance(name, str) or name not in known():
        raise UsageError(f"MXNet has no operator {name!r}")
    reason = why_refused(name)
    if reason and name not in allowed:
        raise UsageError(
            f"the operator {name!r} is refused: {reason}",
            fix=f"If you trust the file, pass allow_operators=[{name!r}] to load_model.",
        )


def check_allowed(names: Collection[str]) -> None:
    """Raises UsageError if one of `allow_operators` is not an operator."""
    if isinstance(names, str):
        raise UsageError(f"{names!r} is a string", where="allow_operators", fix=f"Pass a list: [{names!r}].")
    for name in names:
        if name not in known():
            fix = choose_from(str(name), REFUSED, label="Refused are")
            raise UsageError(f"MXNet has no operator {name!r}", where="allow_operators", fix=fix)


@lru_cache
def why_refused(name: str) -> str:
    """Why an operator is refused; empty for one that is let in."""
    if name in REFUSED:
        return REFUSED[name]
    if "backward" in name.split("_"):
        return BACKWARD
    from trainer.mxnet import mx

    kinds = mx.operator.get_operator_arguments(name).types
    return ADDRESS if any(kind.partition(",")[0] == "ptr" for kind in kinds) else ""


@lru_cache
def known() -> frozenset[str]:
    """The names of all operators that MXNet has registered."""
    from trainer.mxnet import mx

    return frozenset(mx.operator.get_all_registered_operators())
