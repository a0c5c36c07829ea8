"""Losses whose gradient with respect to the net's output is known in closed form.

A step needs that gradient, but not the loss itself, and the loss takes longer: MXNet computes `exp` and `log` one
element at a time. So the step binds a symbol with the gradient alone and keeps outputs and labels; `TrainingLoss`
computes the losses of many batches at once, in numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

import trainer.number_losses as numbers
import trainer.step.number_forms as forms
from trainer.mxnet import Array, gluon, mx

Floats = NDArray[np.floating[Any]]

OUTPUT, LABEL, WEIGHT = "batch:output", "batch:label", "batch:weight"
"""Names of variables that cannot clash with a parameter's: a Dense with prefix="" calls its own "weight"."""


@dataclass(frozen=True)
class Gradient:
    """A loss's gradient with respect to the output, computed by numpy."""

    write: Callable[[Floats, Floats, Floats], None]
    """From output (rows, columns) and label, writes the gradient per element into the last argument."""
    factor: float
    """What it is multiplied with."""


@dataclass(frozen=True)
class ClosedForm:
    """A loss of one output: a symbol that passes its gradient back, and its values for arrays on the host."""

    head: Any
    """A symbol whose gradient with respect to the output is that of the summed losses. Its value has no meaning."""
    losses: Callable[[Floats, Floats], Floats]
    """From outputs (batches, rows, columns) and labels (batches, labels) to the losses (batches, rows), unweighted."""
    on_host: Gradient
    """The gradient of the summed losses on the host, unweighted."""


@dataclass(frozen=True)
class _Known:
    """One class of losses."""

    gradient: Callable[[Any, Any, Any, int], Any]
    """The gradient per element, a symbol from loss, output, label and the number of columns."""
    values: Callable[[Any, Floats, Floats], Floats]
    """The losses from loss, outputs and labels, without the loss's own weight."""
    on_host: Callable[[Any, Floats, Floats, Floats], None]
    """The gradient per element as numpy computes it, from loss, output (rows, columns) and label, written into the last
    argument."""
    operator: str = ""
    """MXNet's output operator with this gradient, for rows without weights."""
    is_mean: bool = True
    """Whether a row's loss is a mean over its columns, not a sum."""


def closed_form(
    loss: Any, output: Any, label: Any, weights: Any | None, columns: int, *, operators: bool = True
) -> ClosedForm | None:
    """The closed form of a loss, or None if there is none. `columns` are the outputs per row; `weights` is (rows, 1).

    `operators=False` leaves out MXNet's output operators, which take float32 only.

    Only instances of Gluon's own classes and of `trainer.number_losses` qualify: a subclass may compute anything.
    """
    known = _KNOWN.get(type(loss))
    if known is None or not _is_plain(loss):
        return None
    if type(loss) is gluon.loss.SoftmaxCrossEntropyLoss and not loss._sparse_label:  # noqa: SLF001
        known = _SHARES
    own = 1.0 if loss._weight is None else float(loss._weight)  # noqa: SLF001  there is no public way to ask
    factor = own / columns if known.is_mean else own
    if weights is None and known.operator and operators:
        head = getattr(mx.sym, known.operator)(output, label, grad_scale=own)
    else:
        gradient = known.gradient(loss, output, label, columns) * factor
        if weights is not None:
            gradient = mx.sym.broadcast_mul(gradient, weights)
        # make_loss starts the backward pass with ones, so the output's gradient is the other factor.
        head = mx.sym.make_loss(mx.sym.BlockGrad(gradient) * output)
    return ClosedForm(
        head,
        lambda outputs, labels: known.values(loss, outputs, labels) * np.float32(own),
        Gradient(partial(known.on_host, loss), factor),
    )


def _is_plain(loss: Any) -> bool:
    """Whether an instance of a known class computes what the class does for one output per element."""
    inner = vars(loss)
    return (
        not {"hybrid_forward", "forward"} & inner.keys()
        and loss._batch_axis == 0  # noqa: SLF001
        and not inner.get("_from_sigmoid")
        and not inner.get("_from_logits")
        and inner.get("_axis", -1) == -1
        and not (loss._forward_hooks or loss._forward_pre_hooks)  # noqa: SLF001
    )


@dataclass(frozen=True)
class Lean:
    """A training symbol that computes the gradients of a loss but not the loss (`closed_form`).

    It returns a head without meaning, and the output, from which `losses` gives the values.
    """

    symbol: Any
    output: Any
    """The net's output alone."""
    joined: Any
    """The same, and all that `losses` needs as one array: for few rows, where starting an operator takes longest."""
    by_row: Any
    """The losses (rows,), from OUTPUT, LABEL and WEIGHT."""
    weighted: bool
    columns: int
    """Outputs per row."""
    losses: Callable[[Floats, Floats], Floats]
    on_host: Gradient

    def bind_losses(self, output: Array, label: Array, weight: Array | None = None) -> Any:
        """An executor for the losses of rows, (rows,)."""
        arrays = {OUTPUT: output, LABEL: label, WEIGHT: weight}
        return self.by_row.bind(output.context, args={name: arrays[name] for name in self.by_row.list_arguments()})

    def split(self, kept: Sequence[Floats], rows: int) -> Sequence[Floats]:
        """Outputs, labels and weights of batches that were kept together, (batches, …) each."""
        if len(kept) > 1:
            return kept
        end = kept[0].shape[1]
        places = [rows * self.columns, *([end - rows] if self.weighted else [])]
        outputs, *others = (np.ascontiguousarray(part) for part in np.split(kept[0], places, axis=1))
        return outputs.reshape(-1, rows, self.columns), *others


# ---- values ---------------------------------------------------------------------------------------------------------


def _cross_entropies(_loss: Any, z: Floats, labels: Floats) -> Floats:
    """max(z, 0) - z·y + log(1 + exp(-|z|)), with few temporary arrays.

    numpy has a fast `log` but a slow `log1p`; the quotient e / (u - 1) takes the rounding of u = 1 + e back (Kahan).
    """
    e = np.abs(z)
    np.exp(np.negative(e, out=e), out=e)
    u = e + np.float32(1)
    losses: Floats = np.log(u)
    u -= np.float32(1)
    is_rounded_off = u == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        losses *= np.divide(e, u, out=u)
    np.copyto(losses, e, where=is_rounded_off)
    first = np.maximum(z, 0, out=u)
    first -= z * labels.reshape(z.shape)
    losses += first  # it is 0 for a row that is certain and right, and must not be added in two parts
    return _mean(losses)


def _halved_squares(_loss: Any, z: Floats, labels: Floats) -> Floats:
    return _mean(np.square(labels.reshape(z.shape) - z)) / np.float32(2)


def _absolutes(_loss: Any, z: Floats, labels: Floats) -> Floats:
    return _mean(np.abs(labels.reshape(z.shape) - z))


def _hubers(loss: Any, z: Floats, labels: Floats) -> Floats:
    rho = np.float32(loss._rho)  # noqa: SLF001
    errors = np.abs(labels.reshape(z.shape) - z)
    return _mean(np.where(errors > rho, errors - rho / 2, np.square(errors) / (2 * rho)))


def _of_classes(_loss: Any, z: Floats, labels: Floats) -> Floats:
    shifted, log_sums = _log_sums(z)
    with np.errstate(invalid="ignore"):
        classes = labels.reshape(*z.shape[:2], 1).astype(np.int64).clip(0, z.shape[2] - 1)
    losses: Floats = log_sums - np.take_along_axis(shifted, classes, axis=2)
    return losses[:, :, 0]


def _of_shares(_loss: Any, z: Floats, labels: Floats) -> Floats:
    shifted, log_sums = _log_sums(z)
    losses: Floats = ((log_sums - shifted) * labels.reshape(z.shape)).sum(axis=2)
    return losses


def _log_sums(z: Floats) -> tuple[Floats, Floats]:
    """Outputs minus the largest of their row, and the logarithm of the sum of their exponentials."""
    shifted = z - z.max(axis=2, keepdims=True)
    return shifted, np.log(np.exp(shifted).sum(axis=2, keepdims=True))


def _mean(losses: Floats) -> Floats:
    means: Floats = losses[:, :, 0] if losses.shape[2] == 1 else losses.mean(axis=2)
    return means


# ---- gradients ------------------------------------------------------------------------------------------------------


def _sigmoid_minus_label(_loss: Any, z: Any, label: Any, _columns: int) -> Any:
    return z.sigmoid() - mx.sym.reshape_like(label, z)


def _difference(_loss: Any, z: Any, label: Any, _columns: int) -> Any:
    return z - mx.sym.reshape_like(label, z)


def _sign(_loss: Any, z: Any, label: Any, _columns: int) -> Any:
    return (z - mx.sym.reshape_like(label, z)).sign()


def _clipped(loss: Any, z: Any, label: Any, _columns: int) -> Any:
    return ((z - mx.sym.reshape_like(label, z)) / loss._rho).clip(-1, 1)  # noqa: SLF001


def _softmax_minus_class(_loss: Any, z: Any, label: Any, columns: int) -> Any:
    return _softmax(z) - mx.sym.one_hot(_class_numbers(label, columns), depth=columns)


def _softmax(z: Any) -> Any:
    """Not the operators `softmax` and `SoftmaxOutput`: on one processor, oneDNN's were right to four digits only.

    On another, without AVX-512, `softmax` is right to 3e-7 and this to 3e-6.
    """
    return z.log_softmax(axis=-1).exp()


def _class_numbers(label: Any, columns: int) -> Any:
    """Labels (rows,) or (rows, 1) as (rows,); a number beyond the classes is the last class, as in Gluon's loss."""
    return label.reshape((-1,)).clip(0, columns - 1)


def _softmax_minus_shares(_loss: Any, z: Any, label: Any, _columns: int) -> Any:
    return mx.sym.broadcast_mul(_softmax(z), label.sum(axis=-1, keepdims=True)) - label


# ---- the same on the host -------------------------------------------------------------------------------------------

_ONE = np.float32(1)


def _host_sigmoid_minus_label(_loss: Any, z: Floats, label: Floats, to: Floats) -> None:
    np.negative(z, to)
    np.exp(to, to)
    np.add(to, _ONE, to)
    np.divide(_ONE, to, to)
    np.subtract(to, label.reshape(z.shape), to)


def _host_difference(_loss: Any, z: Floats, label: Floats, to: Floats) -> None:
    np.subtract(z, label.reshape(z.shape), to)


def _host_sign(_loss: Any, z: Floats, label: Floats, to: Floats) -> None:
    np.subtract(z, label.reshape(z.shape), to)
    np.sign(to, to)


def _host_clipped(loss: Any, z: Floats, label: Floats, to: Floats) -> None:
    np.subtract(z, label.reshape(z.shape), to)
    np.divide(to, np.float32(loss._rho), to)  # noqa: SLF001
    np.clip(to, -1, 1, to)


def _host_softmax_minus_class(_loss: Any, z: Floats, label: Floats, to: Floats) -> None:
    _host_softmax(z, to)
    classes = label.reshape(-1).astype(np.int64).clip(0, z.shape[1] - 1)
    to[np.arange(len(z)), classes] -= _ONE


def _host_softmax_minus_shares(_loss: Any, z: Floats, label: Floats, to: Floats) -> None:
    _host_softmax(z, to)
    shares = label.reshape(z.shape)
    np.multiply(to, shares.sum(axis=1, keepdims=True), to)
    np.subtract(to, shares, to)


def _host_softmax(z: Floats, to: Floats) -> None:
    np.subtract(z, z.max(axis=1, keepdims=True), to)
    np.exp(to, to)
    np.divide(to, to.sum(axis=1, keepdims=True), to)


_SHARES = _Known(_softmax_minus_shares, _of_shares, _host_softmax_minus_shares, is_mean=False)
_KNOWN: Mapping[type, _Known] = MappingProxyType(
    {
        gluon.loss.SigmoidBinaryCrossEntropyLoss: _Known(
            _sigmoid_minus_label, _cross_entropies, _host_sigmoid_minus_label, "LogisticRegressionOutput"
        ),
        gluon.loss.L2Loss: _Known(_difference, _halved_squares, _host_difference, "LinearRegressionOutput"),
        gluon.loss.L1Loss: _Known(_sign, _absolutes, _host_sign, "MAERegressionOutput"),
        gluon.loss.HuberLoss: _Known(_clipped, _hubers, _host_clipped),
        gluon.loss.SoftmaxCrossEntropyLoss: _Known(
            _softmax_minus_class, _of_classes, _host_softmax_minus_class, is_mean=False
        ),
        numbers.SquaredLoss: _Known(forms.difference, forms.squares, forms.host_difference),
        numbers.AbsoluteLoss: _Known(forms.sign, forms.absolutes, forms.host_sign),
        numbers.HuberLoss: _Known(forms.clipped, forms.hubers, forms.host_clipped),
        numbers.QuantileLoss: _Known(forms.pinball, forms.pinballs, forms.host_pinball),
        numbers.PoissonLoss: _Known(forms.excess, forms.deviances, forms.host_excess),
    }
)
