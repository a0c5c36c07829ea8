"""Checks that a task's net outputs and labels fit its loss."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.testing.checks import BrokenPromiseError
from trainer.testing.task_subject import Subject
from trainer.testing.trials import quiet

BATCHES_LOOKED_AT = 50
PER_LABEL = ("SigmoidBinaryCrossEntropyLoss", "LogisticLoss", "HingeLoss", "SquaredHingeLoss")
"""Gluon's losses that compare one output with one binary label."""
REGRESSIONS = ("L1Loss", "L2Loss", "HuberLoss")


def the_net_has_the_outputs_that_the_loss_needs(subject: Subject) -> str | None:
    """The net has one output per label or per class, as the loss requires."""
    kind, outputs, labels = _outputs_and_labels(subject)
    if kind is None:
        return "the net has several outputs, or the loss is not one of Gluon's: not checked"
    each, wanted = int(np.prod(outputs.shape[1:])), int(np.prod(labels.shape[1:]))
    if kind in (*PER_LABEL, *REGRESSIONS) and each != wanted:
        raise BrokenPromiseError(
            f"{kind} compares each output with one label: the net has {each} outputs per row, but a row has {wanted} "
            "labels. End the net with Dense(1) for one label"
        )
    if kind == "SoftmaxCrossEntropyLoss" and each < 2:
        raise BrokenPromiseError(
            "SoftmaxCrossEntropyLoss over one output is always 0: give the net one output per class, or use "
            "SigmoidBinaryCrossEntropyLoss for two classes and one output"
        )
    return None


def labels_are_what_the_loss_needs(subject: Subject) -> str | None:
    """Labels are in {0, 1} for a binary loss, and in {0, …, classes − 1} for a multi-class loss."""
    kind, outputs, labels = _outputs_and_labels(subject)
    found = np.unique(labels)
    if kind in PER_LABEL:
        signed = _is_signed(subject)
        wanted = {-1.0, 1.0} if signed else {0.0, 1.0}
        if not set(found.tolist()) <= wanted:
            raise BrokenPromiseError(
                f"{kind} needs labels in {_values(sorted(wanted))}, but the data have {_values(found)}. Encode them "
                "in splits()"
            )
    elif kind == "SoftmaxCrossEntropyLoss" and labels.shape[1:] != outputs.shape[1:]:
        classes = outputs.shape[-1]
        if found.min() < 0 or found.max() >= classes or not np.equal(found, np.floor(found)).all():
            raise BrokenPromiseError(
                f"{kind} needs labels in 0 to {classes - 1}, since the net has {classes} outputs, but the data have "
                f"{_values(found)}. Encode them in splits()"
            )
    elif kind == "SoftmaxCrossEntropyLoss":
        sums = labels.sum(axis=-1)
        if found.min() < 0 or not np.allclose(sums, 1, atol=1e-4):
            raise BrokenPromiseError(
                f"{kind} needs labels that are probabilities, one per class, but the data have rows that add up to "
                f"{_values(np.unique(sums))}. Encode them in splits()"
            )
    else:
        return "the loss allows any label, so the only check was that they are finite" + _finite(labels)
    return None


def _outputs_and_labels(subject: Subject) -> tuple[str | None, NDArray[Any], NDArray[Any]]:
    """The name of Gluon's loss, the outputs for one row, and the training labels; None as name for any other loss.

    Nothing is trained, because training fails if the net does not fit the loss.
    """
    from trainer.engine import Engine

    launch = subject.launch()
    with quiet():
        run = Engine(launch.task, launch.settings).run
        assert run.train is not None  # noqa: S101
        labels = [
            shard.label.asnumpy()
            for batch in islice(run.train.epoch(1), BATCHES_LOOKED_AT)
            for shard in batch.shards
            if shard.rows
        ]
        outputs = run.net(*run.train.sample())
        kind = type(run.task.loss()).__name__
    if isinstance(outputs, (list, tuple)) or kind not in (*PER_LABEL, *REGRESSIONS, "SoftmaxCrossEntropyLoss"):
        return None, np.empty(0), np.concatenate(labels)
    return kind, outputs.asnumpy(), np.concatenate(labels)


def _is_signed(subject: Subject) -> bool:
    loss: Any = subject.make().loss()
    return "Hinge" in type(loss).__name__ or getattr(loss, "_label_format", "") == "signed"


def _finite(labels: NDArray[Any]) -> str:
    if not np.isfinite(labels).all():
        raise BrokenPromiseError("the labels are not all finite")
    return ""


def _values(found: Sequence[float] | NDArray[Any]) -> str:
    shown = [f"{value:g}" for value in found[:6]]
    return "{" + ", ".join(shown) + (", …" if len(found) > 6 else "") + "}"
