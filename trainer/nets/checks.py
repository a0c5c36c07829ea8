"""What a net gives against the labels and the loss: said before training, on one row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UsageError
from trainer.losses import LossKind

DENSE = "End the net in one neuron"


def check_outputs(outputs: Sequence[Any], labels: NDArray[Any], kind: LossKind, *, where: str) -> None:
    """Raises UsageError unless labels (rows, …) go with a net's outputs for one row, each (1, …), under the loss."""
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


def check_loss_of_row(loss: Any, outputs: Any, label: Any, *, weighted: bool) -> None:
    """Computes the loss of one row, outputs (1, …) and label (1, …).

    Raises UsageError if the loss does not take them, or gives something other than one value per row.
    """
    from trainer.mxnet import autograd, mx

    many = isinstance(outputs, (list, tuple))
    shapes = ", ".join(str(each.shape) for each in (outputs if many else [outputs]))
    first = outputs[0] if many else outputs
    weights = [mx.nd.ones((1,) * first.ndim, ctx=first.context)] if weighted else []
    try:
        with autograd.predict_mode():
            found = loss(list(outputs) if many else outputs, label, *weights)
        shape = tuple(found.shape)
    except UsageError:
        raise
    except Exception as error:
        line = next((each.strip() for each in str(error).splitlines() if each.strip()), "")
        raise UsageError(
            f"it does not take the net's outputs {shapes} and labels {label.shape} of one row: "
            f"{type(error).__name__}: {line}",
            where="loss",
            fix="It is called with (outputs, labels" + (", weights)." if weighted else ")."),
        ) from error
    if shape != (1,):
        raise UsageError(
            f"it gives shape {shape} for one row",
            where="loss",
            fix="It has to give one value per row, (rows,): average over the other axes, not over the rows.",
        )
