"""The losses of `trainer.number_losses` in closed form: gradients as symbols and in numpy, and values in numpy.

Gradients are those on the net's scale, values are in the label's unit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.mxnet import mx

Floats = NDArray[np.floating[Any]]
_HALF, _ONE = np.float32(0.5), np.float32(1)

# ---- values ---------------------------------------------------------------------------------------------------------


def squares(loss: Any, z: Floats, labels: Floats) -> Floats:
    """Squared errors, from outputs (batches, rows, columns) and labels (batches, labels) to (batches, rows)."""
    return _mean(np.square(_apart(loss, z, labels) * np.float32(loss.scale)))


def absolutes(loss: Any, z: Floats, labels: Floats) -> Floats:
    """Absolute errors."""
    return _mean(np.abs(_apart(loss, z, labels)) * np.float32(loss.scale))


def hubers(loss: Any, z: Floats, labels: Floats) -> Floats:
    """Huber's losses."""
    apart = np.abs(_apart(loss, z, labels))
    inside = np.minimum(apart, np.float32(loss.bend))
    return _mean(inside * (apart - inside * _HALF)) * np.float32(loss.scale) * np.float32(loss.scale)


def pinballs(loss: Any, z: Floats, labels: Floats) -> Floats:
    """Means of the pinball losses over the quantiles."""
    error = _on_scale(loss, labels)[:, :, np.newaxis] - _levels(z)
    return _mean(np.abs(error) * _HALF + error * _tilts(loss)) * np.float32(loss.scale)


def deviances(loss: Any, z: Floats, labels: Floats) -> Floats:
    """Poisson deviances, exact for close numbers."""
    label = _on_scale(loss, labels).reshape(z.shape)
    is_zero = label <= 0
    apart = np.log(np.where(is_zero, _ONE, label)) - z
    half = np.where(is_zero, np.exp(z), label * (apart + np.expm1(-apart)))
    return _mean(half) * np.float32(2 * loss.scale)


def _on_scale(loss: Any, labels: Floats) -> Floats:
    return (labels - np.float32(loss.offset)) / np.float32(loss.scale)


def _apart(loss: Any, z: Floats, labels: Floats) -> Floats:
    return z - _on_scale(loss, labels).reshape(z.shape)


def _levels(z: Floats) -> Floats:
    levels = z.copy()
    if z.shape[-1] > 1:
        np.logaddexp(z[..., 1:], 0, levels[..., 1:])
        np.cumsum(levels, axis=-1, out=levels)
    return levels


def _tilts(loss: Any) -> Floats:
    return np.array(loss.quantiles, np.float32) - _HALF


def _mean(losses: Floats) -> Floats:
    means: Floats = losses[:, :, 0] if losses.shape[2] == 1 else losses.mean(axis=2)
    return means


# ---- gradients ------------------------------------------------------------------------------------------------------


def difference(loss: Any, z: Any, label: Any, _columns: int) -> Any:
    """The gradient of half the squared error, a symbol."""
    return loss.difference(mx.sym, z, label)


def sign(loss: Any, z: Any, label: Any, _columns: int) -> Any:
    """The gradient of the absolute error."""
    return loss.difference(mx.sym, z, label).sign()


def clipped(loss: Any, z: Any, label: Any, _columns: int) -> Any:
    """The gradient of Huber's loss."""
    return loss.difference(mx.sym, z, label).clip(-loss.bend, loss.bend)


def pinball(loss: Any, z: Any, label: Any, columns: int) -> Any:
    """The gradient of the sum of the pinball losses: of each level that an output moves, all from its own on."""
    on_scale = (label.reshape((-1, 1)) - loss.offset) / loss.scale
    above = mx.sym.broadcast_sub(loss.levels(z), on_scale).sign() / 2

    def column(symbol: Any, number: int) -> Any:
        return symbol.slice_axis(axis=1, begin=number, end=number + 1)

    sums = [column(above, columns - 1) + (0.5 - loss.quantiles[-1])]
    for number in reversed(range(columns - 1)):
        sums.insert(0, sums[0] + column(above, number) + (0.5 - loss.quantiles[number]))
    moved = [each * column(z, number).sigmoid() if number else each for number, each in enumerate(sums)]
    return mx.sym.concat(*moved, dim=1) if columns > 1 else moved[0]


def excess(loss: Any, z: Any, label: Any, _columns: int) -> Any:
    """The gradient of half the Poisson deviance."""
    return z.exp() - mx.sym.reshape_like(label, z) / loss.scale


# ---- the same on the host -------------------------------------------------------------------------------------------


def host_difference(loss: Any, z: Floats, label: Floats, to: Floats) -> None:
    """Written into the last argument, like all of these."""
    np.subtract(label.reshape(z.shape), np.float32(loss.offset), to)
    np.divide(to, np.float32(loss.scale), to)
    np.subtract(z, to, to)


def host_sign(loss: Any, z: Floats, label: Floats, to: Floats) -> None:
    """The gradient of the absolute error."""
    host_difference(loss, z, label, to)
    np.sign(to, to)


def host_clipped(loss: Any, z: Floats, label: Floats, to: Floats) -> None:
    """The gradient of Huber's loss."""
    host_difference(loss, z, label, to)
    np.clip(to, -loss.bend, loss.bend, to)


def host_pinball(loss: Any, z: Floats, label: Floats, to: Floats) -> None:
    """The gradient of the sum of the pinball losses."""
    np.subtract(_levels(z), _on_scale(loss, label).reshape(-1, 1), to)
    np.sign(to, to)
    np.multiply(to, _HALF, to)
    np.subtract(to, _tilts(loss), to)
    if z.shape[1] > 1:
        # From each level on; read and written from the last column to the first.
        np.cumsum(to[:, ::-1], axis=1, out=to[:, ::-1])
        to[:, 1:] /= np.exp(-z[:, 1:]) + _ONE


def host_excess(loss: Any, z: Floats, label: Floats, to: Floats) -> None:
    """The gradient of half the Poisson deviance."""
    np.exp(z, to)
    np.subtract(to, label.reshape(z.shape) / np.float32(loss.scale), to)
