"""The operators that a model's symbol may hold, and why the others are refused.

A symbol is a program: MXNet calls whatever its operators name, with whatever their attributes say. Every operator that
is registered is let in, unless one of its attributes is an address, a file or a function, or it reaches places in
memory that the values of its inputs name, without checking them.
"""

from __future__ import annotations

import ctypes
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
ENDLESS = "it never returns for some values of its inputs"
FATAL = "it ends the process for some values of its inputs or attributes"
UPDATE = "it changes weights, which only training does"
NO_KERNEL = "MXNet cannot compute it within a net"
UNCHECKED_SHAPES = "it does not check that the shapes of its inputs fit each other"

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
    "CTCLoss": UNCHECKED,
    "softmax_cross_entropy": UNCHECKED,
    "ROIPooling": UNCHECKED,
    "_contrib_ROIAlign": UNCHECKED,
    "_contrib_RROIAlign": UNCHECKED,
    "_contrib_PSROIPooling": UNCHECKED,
    "_contrib_DeformablePSROIPooling": UNCHECKED,
    "_contrib_box_encode": UNCHECKED,
    "_contrib_count_sketch": UNCHECKED,
    "_contrib_hawkesll": UNCHECKED,
    "_contrib_quantized_embedding": UNCHECKED,
    "_contrib_quantized_rnn": UNCHECKED,
    "_image_crop": FATAL,
    "_image_random_hue": UNCHECKED,
    "_npi_insert_scalar": UNCHECKED,
    "_npi_insert_slice": UNCHECKED,
    "_npi_insert_tensor": UNCHECKED,
    "_sample_multinomial": UNCHECKED,
    "_unravel_index": UNCHECKED,
    "_contrib_allclose": UNCHECKED_SHAPES,
    "_contrib_interleaved_matmul_selfatt_valatt": UNCHECKED_SHAPES,
    "Correlation": UNCHECKED_SHAPES,
    "_contrib_ModulatedDeformableConvolution": FATAL,
    "_contrib_MultiProposal": FATAL,
    "_contrib_Proposal": FATAL,
    "_contrib_calibrate_entropy": FATAL,
    "_contrib_quantize_asym": FATAL,
    "_np_moveaxis": FATAL,
    "_npi_norm": FATAL,
    "_npi_gamma": ENDLESS,
    "_random_gamma": ENDLESS,
    "_random_negative_binomial": ENDLESS,
    "_random_generalized_negative_binomial": ENDLESS,
    "_random_gamma_like": ENDLESS,
    "_random_negative_binomial_like": ENDLESS,
    "_random_generalized_negative_binomial_like": ENDLESS,
    "_sample_gamma": ENDLESS,
    "_sample_negative_binomial": ENDLESS,
    "_sample_generalized_negative_binomial": ENDLESS,
    "reset_arrays": UPDATE,
    "_cvimdecode": NO_KERNEL,
    "_imdecode": NO_KERNEL,
    "_onehot_encode": NO_KERNEL,
    "fill_element_0index": NO_KERNEL,
    "_CrossDeviceCopy": NO_KERNEL,
    "_NoGradient": NO_KERNEL,
}
"""The operators that are refused by name; `why_refused` adds their other names, those of backward passes, those that
update weights and those with an address."""

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
    reason = _refused().get(_handle(name))
    if reason:
        return reason
    words = name.split("_")
    if "backward" in words:
        return BACKWARD
    if "update" in words:
        return UPDATE
    from trainer.mxnet import mx

    kinds = mx.operator.get_operator_arguments(name).types
    return ADDRESS if any(kind.partition(",")[0] == "ptr" for kind in kinds) else ""


@lru_cache
def _refused() -> dict[int, str]:
    """REFUSED by operator: several names may mean the same one."""
    return {_handle(name): reason for name, reason in REFUSED.items() if name in known()}


@lru_cache
def _handle(name: str) -> int:
    """MXNet's address of an operator, which all of its names share."""
    from trainer.mxnet import mx

    found = ctypes.c_void_p()
    mx.base.check_call(mx.base._LIB.NNGetOpHandle(mx.base.c_str(name), ctypes.byref(found)))  # noqa: SLF001
    return found.value or 0


@lru_cache
def known() -> frozenset[str]:
    """The names of all operators that MXNet has registered."""
    from trainer.mxnet import mx

    return frozenset(mx.operator.get_all_registered_operators())
