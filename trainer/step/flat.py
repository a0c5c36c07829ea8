"""Moves parameters into one buffer, which takes one reduction, one norm and one optimizer call for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.step.groups import Group

if TYPE_CHECKING:
    from trainer.mxnet import Array, Context


def flattened(named: Mapping[str, Any], contexts: Sequence[Context]) -> Group:
    """One buffer per context for parameters of the same type; their arrays become views of it."""
    from trainer.mxnet import autograd, mx

    members = list(named.values())
    size, dtype = sum(int(np.prod(member.shape)) for member in members), members[0].dtype
    group = Group(tuple(named), [], [], members[0])
    views: dict[str, tuple[list[Array], list[Array]]] = {member.name: ([], []) for member in members}
    for context in contexts:
        weights, gradients = (mx.nd.zeros(size, ctx=context, dtype=dtype) for _ in range(2))
        start = 0
        for member in members:
            end = start + int(np.prod(member.shape))
            weight = weights[start:end].reshape(member.shape)
            member.data(context).copyto(weight)
            views[member.name][0].append(weight)
            views[member.name][1].append(gradients[start:end].reshape(member.shape))
            start = end
        group.weights.append(weights)
        group.gradients.append(gradients)
    for member in members:
        # Gluon has no public way to set a parameter's arrays. MXNet's version is fixed, and only this and `changes`
        # write a Parameter's private fields.
        member._data, member._grad = views[member.name]  # noqa: SLF001
        autograd.mark_variables(member._data, member._grad, member.grad_req)  # noqa: SLF001
    return group
