"""Checks a net's outputs against the labels and the loss before training, on one row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError, first_line
from trainer.losses import LossKind

DENSE = "End the net in one neuron"


def check_outputs(outputs: Sequence[Any], labels: NDArray[Any], kind: LossKind, *, where: str) -> None:
    """Raises UsageError unless labels (rows, …) fit a net's outputs for one row, each (1, …), under the loss."""
    if kind.labels == "unknown":
        return
    if len(outputs) != 1:
        raise UsageError(
            f"the net gives {len(outputs)} outputs, and {kind.name} compares one with the labels",
            where="loss",
            fix="Give a function of (outputs, labels), where outputs is the list.",
        )
    shape, label_shape = tuple(outputs[0].shape[1:]), tuple(labels.shape[1:])
    if kind.labels == "class":
        _check_classes(shape, labels, kind, where=where)
        return
    if np.prod(shape, dtype=int) != np.prod(label_shape, dtype=int):
        hint = _fix_for(label_shape, kind)
        raise UsageError(
            f"y has shape {labels.shape}, and the net gives {(len(labels), *shape)}: {kind.name} compares them one by "
            "one",
            where=where,
            fix=hint,
        )
    _check_values(labels, kind, where=where)


def _fix_for(label_shape: tuple[int, ...], kind: LossKind) -> str:
    if kind.is_classification and not np.prod(label_shape, dtype=int) > 1:
        if kind.labels == "distribution":
            return (
                "Give the share of each class, (rows, classes), or use loss='softmax-cross-entropy' for class numbers."
            )
        return f"{DENSE}, Dense(1), or use loss='softmax-cross-entropy'."
    return "Give labels of the shape of the net's outputs."


def _check_classes(shape: tuple[int, ...], labels: NDArray[Any], kind: LossKind, *, where: str) -> None:
    label_shape = tuple(labels.shape[1:])
    classes = shape[-1] if shape else 1
    if classes == 1:
        raise UsageError(
            f"the net gives one number per row, and {kind.name} needs one per class",
            where="loss",
            fix="End the net in Dense(classes), or use loss='sigmoid-binary-cross-entropy' for two classes.",
        )
    if label_shape == shape and len(shape) == 1:
        raise UsageError(
            f"y has shape {labels.shape}, one column per class, and {kind.name} takes class numbers",
            where=where,
            fix="Give y.argmax(axis=1), or a loss made with sparse_label=False.",
        )
    if np.prod(label_shape, dtype=int) != np.prod(shape[:-1], dtype=int):
        raise UsageError(
            f"y has shape {labels.shape}, and the net gives {(len(labels), *shape)}",
            where=where,
            fix=f"{kind.name} takes one class number per row, (rows,).",
        )
    inside = (labels >= 0) & (labels < classes) & (labels == np.floor(labels))
    if not inside.all():
        bad = labels[~inside].ravel()[0]
        whole = float(bad).is_integer()
        raise UsageError(
            f"a label is {bad:g}, and the net gives {classes} numbers per row",
            where=where,
            fix=f"Labels are class numbers from 0 to {classes - 1}; "
            + ("end the net in as many outputs as there are classes." if whole else "for numbers use loss='l2'."),
        )


def _check_values(labels: NDArray[Any], kind: LossKind, *, where: str) -> None:
    if kind.labels == "binary" and not ((labels >= 0) & (labels <= 1)).all():
        bad = labels[(labels < 0) | (labels > 1)].ravel()[0]
        signed = bool(np.isin(labels, (-1, 1)).all())
        fix = "Give (y + 1) / 2." if signed else "Two classes are 0 and 1; for more use loss='softmax-cross-entropy'."
        raise UsageError(f"a label is {bad:g}, and {kind.name} takes 0 and 1", where=where, fix=fix)
    if kind.labels == "signed" and not np.isin(labels, (-1, 1)).all():
        bad = labels[~np.isin(labels, (-1, 1))].ravel()[0]
        fix = "Give 2 * y - 1." if np.isin(labels, (0, 1)).all() else "Its classes are -1 and 1."
        raise UsageError(f"a label is {bad:g}, and {kind.name} takes -1 and 1", where=where, fix=fix)


def check_loss(loss: Any, outputs: Any, labels: NDArray[Any], *, weighted: bool) -> None:
    """Computes the loss of two rows that have the same outputs, (1, …) each, and the first two of the labels.

    Raises UsageError if the loss does not accept them, if it does not return one value per row, or if the loss of a
    row changes with the label of another row, as it does when (rows, 1) is broadcast against (rows,).
    """
    from trainer.mxnet import mx

    many = isinstance(outputs, (list, tuple))
    pairs = [mx.nd.concat(each, each, dim=0) for each in (outputs if many else [outputs])]
    weights = [mx.nd.ones((2,) + (1,) * (pairs[0].ndim - 1), ctx=pairs[0].context)] if weighted else []

    def of(rows: Sequence[int]) -> Any:
        label = mx.nd.array(labels[list(rows)], ctx=pairs[0].context, dtype=np.float32)
        return _computed(loss, pairs if many else pairs[0], label, weights)

    found = of([0, 0])
    if tuple(found.shape) != (2,):
        raise UsageError(
            f"it gives shape {found.shape} for 2 rows",
            where="loss",
            fix="It has to give one value per row, (rows,): average over the other axes, not over the rows.",
        )
    if len(labels) < 2 or pairs[0].ndim == labels.ndim:
        return
    one, other = (float(each[0].asscalar()) for each in (found, of([0, -1])))
    if one != other and np.isfinite(one):
        raise UsageError(
            f"the loss of a row changes with the labels of other rows: outputs (rows, {pairs[0].shape[-1]}) and labels "
            f"{('rows', *labels.shape[1:])} are broadcast".replace("'", ""),
            where="loss",
            fix="Give labels of the shape of the outputs, y.reshape(-1, 1).",
        )


def _computed(loss: Any, outputs: Any, label: Any, weights: Sequence[Any]) -> Any:
    from trainer.mxnet import autograd

    try:
        with autograd.predict_mode():
            found = loss(outputs, label, *weights)
        found.wait_to_read()
    except UsageError:
        raise
    except Exception as error:
        shapes = ", ".join(str(each.shape) for each in (outputs if isinstance(outputs, list) else [outputs]))
        raise UsageError(
            f"it does not take outputs {shapes} and labels {label.shape} of two rows: "
            f"{type(error).__name__}: {first_line(error)}",
            where="loss",
            fix="It is called with (outputs, labels" + (", weights)." if weights else ")."),
        ) from error
    return found
