"""Lays parameters out in groups, each of which takes one reduction, one norm and one optimizer call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.step.groups import Group, is_dense

if TYPE_CHECKING:
    from trainer.mxnet import Array, Context
    from trainer.step.touched import TouchedRows


def groups_of(
    named: Mapping[str, Any], contexts: Sequence[Context], tables: Mapping[str, TouchedRows], *, flat: bool
) -> Iterator[Group]:
    """The groups of the parameters that are trained. With `flat`, dense ones of the same settings share a buffer."""

    def like(parameter: Any) -> tuple[str, float, float]:
        return np.dtype(parameter.dtype).name, float(parameter.lr_mult), float(parameter.wd_mult)

    trained = {name: parameter for name, parameter in named.items() if parameter.grad_req != "null"}
    dense = [name for name, parameter in trained.items() if flat and is_dense(parameter)]
    groups = groupby(sorted(dense, key=lambda name: like(trained[name])), key=lambda name: like(trained[name]))
    for _, names in groups:
        yield flattened({name: trained.pop(name) for name in list(names)}, contexts)
    for name, parameter in trained.items():
        yield alone(name, parameter, tables)


def alone(name: str, parameter: Any, tables: Mapping[str, TouchedRows]) -> Group:
    """A group of one parameter, which may be a table of which only the rows of a batch are trained."""
    table = tables.get(name)
    gradients = parameter.list_grad() if table is None else table.gradients
    return Group((name,), parameter.list_data(), gradients, parameter, table)


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
