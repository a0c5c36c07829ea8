"""MXNet's optimizer operators in numpy, for arrays on the CPU. Results agree with MXNet's to rounding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.device_time import now, recorded
from trainer.host_memory import memory_of
from trainer.mxnet import Array
from trainer.step.numpy_net import silent

Floats = NDArray[np.float32]


class HostUpdate:
    """Updates a weight and its states from a gradient, all on the CPU and float32."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        """`arrays` are weight, gradient and states, in the order of the operators."""
        self._memory = [memory_of(array) for array in arrays]
        self._held = [np.empty_like(self._memory[0]) for _ in range(2)]

    def __call__(self, operator: str, attributes: Mapping[str, Any]) -> None:
        """Does what an operator of `UPDATES` does with these attributes."""
        update_on_host(operator, self._memory, self._held, attributes)


def update_on_host(
    operator: str, arrays: Sequence[Floats], held: Sequence[Floats], attributes: Mapping[str, Any]
) -> None:
    """As `HostUpdate`, for any memory; `held` are two arrays of the same shape for what lies in between."""
    began = 0 if recorded.calls is None else now()
    with silent:
        UPDATES[operator](arrays, held, attributes)
    if began:
        recorded.add(f"numpy.{operator}", began)


def _scaled(gradient: Floats, to: Floats, given: Mapping[str, Any]) -> None:
    """The gradient of the mean, clipped."""
    np.multiply(gradient, np.float32(given["rescale_grad"]), to)
    _clip(to, given)


def _clip(values: Floats, given: Mapping[str, Any]) -> None:
    limit = given.get("clip_gradient", -1.0)
    if limit >= 0:
        np.clip(values, -np.float32(limit), np.float32(limit), values)


def _sgd(arrays: Sequence[Floats], held: Sequence[Floats], given: Mapping[str, Any]) -> None:
    """W ← (1 - rate · decay) · w - rate · g."""
    (weight, gradient, *_), (part, _) = arrays, held
    rate, decay = rates_of(given)
    if given.get("clip_gradient", -1.0) >= 0:
        _scaled(gradient, part, given)
        np.multiply(part, np.float32(rate), part)
    else:
        np.multiply(gradient, np.float32(rate * given["rescale_grad"]), part)
    if decay:
        np.multiply(weight, np.float32(1 - rate * decay), weight)
    np.subtract(weight, part, weight)


def _momentum(arrays: Sequence[Floats], held: Sequence[Floats], given: Mapping[str, Any]) -> None:
    """M ← momentum · m - rate · (g + decay · w); w ← w + m."""
    weight, gradient, moment = arrays
    part = _with_decay(weight, gradient, held, given)
    np.multiply(moment, np.float32(given["momentum"]), moment)
    np.subtract(moment, part, moment)
    np.add(weight, moment, weight)


def _nesterov(arrays: Sequence[Floats], held: Sequence[Floats], given: Mapping[str, Any]) -> None:
    """W ← w + momentum · m' - p, with p = rate · (g + decay · w) and m' = momentum · m - p.

    MXNet computes m' once more for m, with the new weight in its decay.
    """
    weight, gradient, moment = arrays
    part, momentum = _with_decay(weight, gradient, held, given), np.float32(given["momentum"])
    other = held[1]
    np.multiply(moment, momentum, moment)
    np.subtract(moment, part, other)
    np.multiply(other, momentum, other)
    np.subtract(other, part, other)
    np.add(weight, other, weight)
    rate, decay = rates_of(given)
    if decay:
        np.multiply(other, np.float32(rate * decay), other)
        np.add(part, other, part)
    np.subtract(moment, part, moment)


def _with_decay(weight: Floats, gradient: Floats, held: Sequence[Floats], given: Mapping[str, Any]) -> Floats:
    """Rate · (g + decay · w)."""
    part, other = held
    rate, decay = rates_of(given)
    _scaled(gradient, part, given)
    if decay:
        np.multiply(weight, np.float32(decay), other)
        np.add(part, other, part)
    np.multiply(part, np.float32(rate), part)
    return part


def _adam(arrays: Sequence[Floats], held: Sequence[Floats], given: Mapping[str, Any]) -> None:
    """Kingma & Ba (2015), with the decay added to the gradient before it is clipped, as MXNet does."""
    weight, gradient, mean, variance = arrays
    part, other = held
    rate, decay = rates_of(given)
    # In float32 also 1 - beta, as MXNet has it: of 0.999 that differs from 0.001 by 5 in 100,000.
    beta1, beta2 = np.float32(given["beta1"]), np.float32(given["beta2"])
    np.multiply(gradient, np.float32(given["rescale_grad"]), part)
    if decay:
        np.multiply(weight, np.float32(decay), other)
        np.add(part, other, part)
    _clip(part, given)
    np.multiply(mean, beta1, mean)
    np.multiply(part, np.float32(1) - beta1, other)
    np.add(mean, other, mean)
    np.multiply(variance, beta2, variance)
    np.multiply(part, part, part)
    np.multiply(part, np.float32(1) - beta2, part)
    np.add(variance, part, variance)
    np.sqrt(variance, part)
    np.add(part, np.float32(given["epsilon"]), part)
    np.divide(mean, part, part)
    np.multiply(part, np.float32(rate), part)
    np.subtract(weight, part, weight)


def _adagrad(arrays: Sequence[Floats], held: Sequence[Floats], given: Mapping[str, Any]) -> None:
    """H ← h + g²; w ← w - rate · (g / √(h + ε) + decay · w), as MXNet's class (Duchi et al., 2011)."""
    (weight, gradient, history), (part, other) = arrays, held
    rate, decay = rates_of(given)
    _scaled(gradient, part, given)
    np.multiply(part, part, other)
    np.add(history, other, history)
    np.add(history, np.float32(given["epsilon"]), other)
    np.sqrt(other, other)
    np.divide(part, other, part)
    if decay:
        np.multiply(weight, np.float32(decay), other)
        np.add(part, other, part)
    np.multiply(part, np.float32(rate), part)
    np.subtract(weight, part, weight)


def _ftrl(arrays: Sequence[Floats], held: Sequence[Floats], given: Mapping[str, Any]) -> None:
    """McMahan et al. (2013): z ← z + g - (√(n + g²) - √n) / rate · w; n ← n + g²; w from z and n, 0 if |z| ≤ λ₁."""
    (weight, gradient, z, n), (part, other) = arrays, held
    rate, decay = rates_of(given)
    _scaled(gradient, part, given)
    np.add(z, part, z)
    np.sqrt(n, other)
    np.multiply(part, part, part)
    np.add(n, part, n)
    np.sqrt(n, part)
    np.subtract(part, other, other)
    np.multiply(other, weight, other)
    np.multiply(other, np.float32(1 / rate), other)
    np.subtract(z, other, z)
    # w = -sign(z) · max(|z| - λ₁, 0) / ((β + √n) / rate + decay)
    np.add(part, np.float32(given["beta"]), part)
    np.multiply(part, np.float32(1 / rate), part)
    if decay:
        np.add(part, np.float32(decay), part)
    limit = np.float32(given["lamda1"])
    np.clip(z, -limit, limit, out=other)
    np.subtract(other, z, other)
    np.divide(other, part, weight)


def rates_of(given: Mapping[str, Any]) -> tuple[float, float]:
    """Learning rate and weight decay among an operator's attributes."""
    if "lrs" in given:
        return given["lrs"][0], given["wds"][0]
    return given["lr"], given["wd"]


Update = Callable[[Sequence[Floats], Sequence[Floats], Mapping[str, Any]], None]
UPDATES: Mapping[str, Update] = {
    "sgd_update": _sgd,
    "multi_sgd_update": _sgd,
    "multi_sgd_mom_update": _momentum,
    "nag_mom_update": _nesterov,
    "adam_update": _adam,
    "adagrad": _adagrad,
    "ftrl_update": _ftrl,
}
