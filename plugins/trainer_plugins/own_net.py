"""The caller's own net in place of a task's."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from trainer import UsageError

WHERE = "network"


def own_net(network: Callable[..., Any], *, outputs: int, features: int) -> Any:
    """The net that a function or a block's class gives, which is called with `outputs` if it has such a parameter.

    Raises UsageError unless it is a block that gives `outputs` numbers for rows of as many `features`.
    """
    from trainer.mxnet import gluon

    if not callable(network) or isinstance(network, gluon.Block):
        raise UsageError(
            f"it is a {type(network).__name__}, not a function that gives a net",
            where=WHERE,
            fix="Give a function, so that each training has a net of its own: lambda: net.",
        )
    net = network(outputs=outputs) if _takes_outputs(network) else network()
    if not isinstance(net, gluon.Block):
        raise UsageError(f"it gave a {type(net).__name__}, not a Gluon block", where=WHERE)
    given = _outputs_of(net, features)
    if given not in (None, outputs):
        raise UsageError(
            f"its net gives {given} number{'s' * (given != 1)} per row, and {outputs} "
            f"{'are' if outputs != 1 else 'is'} needed",
            where=WHERE,
            fix=f"End it in Dense({outputs}), or take the number from a parameter: def network(outputs).",
        )
    return net


def _takes_outputs(network: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(network).parameters
    except ValueError:
        return False
    return "outputs" in parameters


def _outputs_of(net: Any, features: int) -> int | None:
    """The numbers per row, as far as the net's symbol tells."""
    from trainer.mxnet import gluon, mx

    if not isinstance(net, gluon.HybridBlock):
        return None
    try:
        _, shapes, _ = net(mx.sym.var("data")).infer_shape_partial(data=(2, features))
    except Exception:  # noqa: BLE001  whatever is wrong with it, training says it better
        return None
    if len(shapes) != 1 or len(shapes[0]) < 1 or 0 in shapes[0]:
        return None
    size = 1
    for length in shapes[0][1:]:
        size *= length
    return size
