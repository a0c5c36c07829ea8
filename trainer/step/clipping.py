"""Limits the norm of gradients: on the device, without waiting for it, or on the host."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from trainer.calls import Call, Executor
from trainer.host_memory import memory_of, wait_for_all
from trainer.step.numpy_net import silent

if TYPE_CHECKING:
    from trainer.mxnet import Array


class HostClipping:
    """The norm of arrays on the CPU, and scaling them by it, computed by numpy."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        self.arrays = list(arrays)
        self._flat = [memory_of(array).reshape(-1) for array in arrays]

    def norm(self) -> float:
        """The 2-norm of all arrays together. Waits for what is queued."""
        wait_for_all()
        with silent:
            return math.sqrt(sum(float(np.dot(flat, flat)) for flat in self._flat))

    def __call__(self, limit: float) -> None:
        """Scales the arrays as `Clipping` does."""
        norm = self.norm()
        if limit < norm < math.inf:
            for flat in self._flat:
                np.multiply(flat, np.float32(limit / norm), flat)


class Clipping:
    """Scales arrays on one context by min(1, limit / norm), where `norm` is the 2-norm of all of them together.

    A symbol computes the factor, which is 1 if the norm is not finite; then one call per array multiplies by it.
    """

    def __init__(self, arrays: Sequence[Array]) -> None:
        from trainer.mxnet import mx

        self.arrays = list(arrays)
        types = sorted({np.dtype(array.dtype).name for array in arrays})
        variables = [mx.sym.var(f"gradient{number}", dtype=array.dtype) for number, array in enumerate(arrays)]
        by_type = [
            [each for each, array in zip(variables, arrays, strict=True) if np.dtype(array.dtype).name == name]
            for name in types
        ]
        squares = [mx.sym.multi_sum_sq(*same, num_arrays=len(same)) for same in by_type]
        total = squares[0] if len(arrays) == 1 else mx.sym.sum(mx.sym.concat(*squares, dim=0), keepdims=True)
        norm = mx.sym.sqrt(total)
        limit = mx.sym.var("limit")
        # The larger one of norm and limit, so that a norm of 0 divides by nothing. inf and NaN fail the comparison.
        factor = mx.sym.where(
            norm < float("inf"), limit / mx.sym.broadcast_maximum(norm, limit), mx.sym.ones_like(norm)
        )
        factors = [factor if name == "float32" else mx.sym.cast(factor, dtype=name) for name in types]
        context = arrays[0].context
        self._limit = mx.nd.empty(1, ctx=context)
        self._set = Call("_set_value", [], self._limit, src=0.0)
        self._value = 0.0
        given = dict(zip([each.name for each in variables], arrays, strict=True))
        given |= {"limit": self._limit, "one": mx.nd.ones(1, ctx=context)}
        bound = mx.sym.Group(factors).bind(context, args=given, grad_req="null")
        self._factors = Executor(bound)
        by_name = dict(zip(types, self._factors.outputs, strict=True))
        self._scale = [Call("broadcast_mul", [array, by_name[np.dtype(array.dtype).name]], array) for array in arrays]

    def __call__(self, limit: float) -> None:
        """Scales the arrays."""
        if limit != self._value:
            self._value = limit
            self._set.having(limit)
        self._factors.forward()
        for scale in self._scale:
            scale()
