"""GluonCV's group normalisation for symbols: GluonCV's own needs the shapes of arrays, which symbols do not have."""

from __future__ import annotations

from typing import Any

from gluoncv.nn import GroupNorm


class SymbolicGroupNorm(GroupNorm):  # type: ignore[misc]  # GluonCV has no types
    """The same parameters, names and results: normalises each image's groups of channels, then scales by channel."""

    def hybrid_forward(self, ops: Any, x: Any, gamma: Any, beta: Any) -> Any:
        """For x of (rows, channels, height, width), the same shape."""
        groups = ops.reshape(x, shape=(0, self.ngroups, -1))
        normal = ops.InstanceNorm(
            groups, ops.ones((self.ngroups,)), ops.zeros((self.ngroups,)), eps=self._kwargs["eps"]
        )
        normal = ops.reshape_like(normal, x)
        scale, shift = (ops.reshape(each, shape=(1, -1, 1, 1)) for each in (gamma, beta))
        return ops.broadcast_add(ops.broadcast_mul(normal, scale), shift)
