"""One optimizer step on one array: MXNet's own update, with a shortcut to the operator for common optimizers.

SGD, NAG and Adam do little in Python besides calling one operator. For these the call is prepared once. Its numbers
still come from the optimizer's own methods at every step, so schedules, multipliers and plugins keep their effect. The
operator is the one that MXNet's class calls, so results are identical to the bit. On the tutorial's net a step takes
10 µs this way, and 32 µs through MXNet's class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from trainer.calls import Call
from trainer.mxnet import Array, mx
from trainer.step.host_update import HostUpdate


def make_update(
    optimizer: Any, index: int, weight: Array, gradient: Array, state: Any, *, in_place: bool = True
) -> Callable[[bool], None]:
    """A function that updates `weight` and `state` once from `gradient`; its argument asks numpy to compute it.

    That needs arrays on the CPU that MXNet has nothing queued for, and is left to MXNet for unknown optimizers.
    `in_place=False` is for weights of convolutions, which some operators must not write to directly (NOT_IN_PLACE).
    """

    def by_mxnet(_on_host: bool) -> None:
        optimizer.update_multi_precision(index, weight, gradient, state)

    dense = weight.stype == gradient.stype == "default"
    if dense and weight.dtype == np.float32 and type(optimizer) in ONLY_ON_HOST:
        return _by_class_or_numpy(optimizer, index, weight, gradient, state)
    arguments = PREPARED.get(type(optimizer))
    if arguments is None or not dense or weight.dtype not in PLAIN:
        return by_mxnet
    on_host: HostUpdate | None = None
    is_float32 = weight.dtype == np.float32  # MXNet takes 2 µs to say so
    states = [] if state is None else list(state) if isinstance(state, tuple) else [state]
    inputs = [weight, gradient, *states]
    calls: dict[tuple[str, ...], Call] = {}
    moved, back = None, None
    if not in_place and type(optimizer) in NOT_IN_PLACE:
        moved = weight.copy()
        back = Call("_copyto", [moved], weight)

    def prepared(by_numpy: bool) -> None:
        nonlocal on_host
        optimizer._update_count(index)  # noqa: SLF001  MXNet's classes begin an update with it
        operator, attributes = arguments(optimizer, index, bool(states))
        if by_numpy and is_float32:
            if on_host is None:
                on_host = HostUpdate(inputs)
            on_host(operator, attributes)
            return
        key = (operator, *attributes)
        call = calls.get(key)
        if call is None:
            # Without momentum there is no state, or an unused one if a plugin has set the momentum to 0.
            taken = inputs if operator not in STATELESS else inputs[:2]
            target = weight if moved is None or operator in STATELESS else moved
            call = calls[key] = Call(operator, taken, target, **attributes)
        call.having(*attributes.values())
        if back is not None and operator not in STATELESS:
            back()

    return prepared


def _by_class_or_numpy(
    optimizer: Any, index: int, weight: Array, gradient: Array, state: Any
) -> Callable[[bool], None]:
    """The update of an optimizer in `ONLY_ON_HOST`."""
    on_host: HostUpdate | None = None
    arguments = ONLY_ON_HOST[type(optimizer)]

    def either(by_numpy: bool) -> None:
        nonlocal on_host
        if not by_numpy:
            optimizer.update_multi_precision(index, weight, gradient, state)
            return
        optimizer._update_count(index)  # noqa: SLF001  MXNet's classes begin an update with it
        if on_host is None:
            on_host = HostUpdate([weight, gradient, *(state if isinstance(state, tuple) else [state])])
        on_host(*arguments(optimizer, index, True))

    return either


def _of_sgd(optimizer: Any, index: int, _with_state: bool) -> tuple[str, Mapping[str, Any]]:
    """MXNet's SGD uses the operators for several arrays, which round differently from those for one."""
    lr, wd = _rates(optimizer, index)
    operator = "multi_sgd_mom_update" if optimizer.momentum > 0 else "multi_sgd_update"
    return operator, {"lrs": [lr], "wds": [wd], "num_weights": 1, **_momentum(optimizer)}


def _of_nag(optimizer: Any, index: int, with_state: bool) -> tuple[str, Mapping[str, Any]]:
    lr, wd = _rates(optimizer, index)
    operator = "nag_mom_update" if with_state else "sgd_update"
    return operator, {"lr": lr, "wd": wd, **_momentum(optimizer)}


def _of_adam(optimizer: Any, index: int, _with_state: bool) -> tuple[str, Mapping[str, Any]]:
    lr, wd = _rates(optimizer, index)
    count = optimizer._index_update_count[index]  # noqa: SLF001
    lr *= math.sqrt(1.0 - optimizer.beta2**count) / (1.0 - optimizer.beta1**count)
    attributes = {
        "lr": lr,
        "wd": wd,
        "lazy_update": optimizer.lazy_update,
        "beta1": optimizer.beta1,
        "beta2": optimizer.beta2,
        "epsilon": optimizer.epsilon,
        "rescale_grad": optimizer.rescale_grad,
    }
    return "adam_update", _clipped(attributes, optimizer)


def _of_adagrad(optimizer: Any, index: int, _with_state: bool) -> tuple[str, Mapping[str, Any]]:
    lr, wd = _rates(optimizer, index)
    attributes = {"lr": lr, "wd": wd, "epsilon": optimizer.float_stable_eps, "rescale_grad": optimizer.rescale_grad}
    return "adagrad", _clipped(attributes, optimizer)


def _of_ftrl(optimizer: Any, index: int, _with_state: bool) -> tuple[str, Mapping[str, Any]]:
    lr, wd = _rates(optimizer, index)
    attributes = {
        "lr": lr,
        "wd": wd,
        "lamda1": optimizer.lamda1,
        "beta": optimizer.beta,
        "rescale_grad": optimizer.rescale_grad,
    }
    return "ftrl_update", _clipped(attributes, optimizer)


def _momentum(optimizer: Any) -> dict[str, Any]:
    attributes = {"rescale_grad": optimizer.rescale_grad}
    if optimizer.momentum > 0:
        attributes["momentum"] = optimizer.momentum
    return _clipped(attributes, optimizer)


def _clipped(attributes: dict[str, Any], optimizer: Any) -> dict[str, Any]:
    if optimizer.clip_gradient:
        attributes["clip_gradient"] = optimizer.clip_gradient
    return attributes


def _rates(optimizer: Any, index: int) -> tuple[float, float]:
    """Learning rate and weight decay with schedule and multipliers, as `_get_lr` and `_get_wd` of the optimizer.

    They build lists for all parameters, which takes five times as long. Multipliers other than those of the parameters
    are refused (`trainer.step.refusals`).
    """
    parameter = optimizer.param_dict.get(index)
    if parameter is None:
        return optimizer._get_lr(index), optimizer._get_wd(index)  # noqa: SLF001
    schedule = optimizer.lr_scheduler
    rate = optimizer.lr if schedule is None else schedule(optimizer.num_update)
    return rate * parameter.lr_mult, optimizer.wd * parameter.wd_mult


STATELESS = ("sgd_update", "multi_sgd_update")
"""Operators that take only a weight and a gradient."""

NOT_IN_PLACE = (mx.optimizer.NAG,)
"""When nag_mom_update writes to a convolution's weight directly, whose layout oneDNN may have changed, the last bits
vary from run to run. With a separate array they do not. The other optimizers' operators are not affected."""

PLAIN = (np.float32, np.float64)
"""Types that MXNet's classes update without a copy in another precision."""

Arguments = Callable[[Any, int, bool], tuple[str, Mapping[str, Any]]]
PREPARED: Mapping[type, Arguments] = {
    mx.optimizer.SGD: _of_sgd,
    mx.optimizer.NAG: _of_nag,
    mx.optimizer.Adam: _of_adam,
}
"""Operator and attributes of the classes whose update is one call. Subclasses are excluded: they may do more."""

ONLY_ON_HOST: Mapping[type, Arguments] = {mx.optimizer.AdaGrad: _of_adagrad, mx.optimizer.Ftrl: _of_ftrl}
"""Classes whose update numpy computes too. MXNet's own runs several operators, or has nothing to gain."""


def host_operator(optimizer: Any) -> Arguments | None:
    """What gives operator and attributes for an update by numpy; None if only MXNet can compute it."""
    return PREPARED.get(type(optimizer)) or ONLY_ON_HOST.get(type(optimizer))


def is_plain_sgd(optimizer: Any) -> bool:
    """Whether an update only adds a multiple of the gradient."""
    return type(optimizer) is mx.optimizer.SGD and not (optimizer.momentum or optimizer.wd or optimizer.clip_gradient)
