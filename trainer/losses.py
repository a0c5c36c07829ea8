"""Losses by name, and what a loss implies about the net's outputs and the labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from trainer.errors import UsageError, did_you_mean, listed

Outputs = Literal["logits", "log-probabilities", "logit", "probability", "score", "numbers", "unknown"]
"""What the outputs of a net mean under its loss: logits (softmax gives probabilities), log-probabilities, one logit
(sigmoid gives the probability), a probability, a score whose sign is the class, or predicted numbers."""
Labels = Literal["class", "distribution", "binary", "signed", "numbers", "unknown"]
"""Class numbers (rows,), shares of the classes (rows, classes), values in [0, 1], -1 and 1, or numbers."""


@dataclass(frozen=True)
class LossKind:
    """What is known of a loss; `unknown` for a function and for a loss that is not Gluon's own."""

    name: str
    outputs: Outputs = "unknown"
    labels: Labels = "unknown"

    @property
    def is_classification(self) -> bool:
        """Whether the labels are classes."""
        return self.labels in ("class", "distribution", "binary", "signed")


@dataclass(frozen=True)
class _Named:
    cls: str
    outputs: Outputs
    labels: Labels
    arguments: tuple[tuple[str, Any], ...] = ()


NAMED: Mapping[str, _Named] = MappingProxyType(
    {
        "softmax-cross-entropy": _Named("SoftmaxCrossEntropyLoss", "logits", "class"),
        "sigmoid-binary-cross-entropy": _Named("SigmoidBinaryCrossEntropyLoss", "logit", "binary"),
        "l2": _Named("L2Loss", "numbers", "numbers"),
        # Gluon's L2Loss is half of the mean squared error.
        "mse": _Named("L2Loss", "numbers", "numbers", (("weight", 2.0),)),
        "l1": _Named("L1Loss", "numbers", "numbers"),
        "mae": _Named("L1Loss", "numbers", "numbers"),
        "huber": _Named("HuberLoss", "numbers", "numbers"),
        "hinge": _Named("HingeLoss", "score", "signed"),
        "squared-hinge": _Named("SquaredHingeLoss", "score", "signed"),
        "logistic": _Named("LogisticLoss", "logit", "signed"),
        "kl-divergence": _Named("KLDivLoss", "logits", "distribution", (("from_logits", False),)),
        "ctc": _Named("CTCLoss", "unknown", "unknown"),
    }
)
"""The losses that have a name."""

_CLASSES: Mapping[str, str] = {
    "softmaxce": "softmax-cross-entropy",
    "sigmoidbce": "sigmoid-binary-cross-entropy",
    # If a class has two names, the first one is used.
    **{each.cls.lower().removesuffix("loss"): name for name, each in list(NAMED.items())[::-1]},
}
"""Our names by Gluon's class names, in lower case and without "loss"."""


def loss_name(given: str, *, where: str = "loss") -> str:
    """The name of a loss as `NAMED` has it; Gluon's class names are accepted. Raises UsageError for any other text."""
    name = re.sub(r"[\s_]+", "-", given.strip()).lower()
    name = _CLASSES.get(name.replace("-", "").removesuffix("loss"), name)
    if name not in NAMED:
        hint = did_you_mean(name, NAMED) or f"Names are: {listed(NAMED, 99)}."
        raise UsageError(f"there is no loss {given!r}", where=where, fix=hint)
    return name


def make_loss(name: str, *, shares: bool = False) -> Any:
    """The Gluon loss of a name. `shares`: the labels are the classes' shares, (rows, classes), not class numbers."""
    from trainer.mxnet import gluon

    named = NAMED[loss_name(name)]
    further = {"sparse_label": False} if shares and named.labels == "class" else {}
    return getattr(gluon.loss, named.cls)(**dict(named.arguments), **further)


def check_loss(loss: Any, *, where: str = "loss") -> Any:
    """Returns the name of a loss, a loss or a function unchanged, and an instance for a loss class.

    Raises UsageError for anything else.
    """
    from trainer.mxnet import gluon

    if loss is None:
        raise UsageError(
            "no loss is given",
            where=where,
            fix=f"Give a name ({listed(NAMED, 99)}), a loss of gluon.loss, or a function of (outputs, labels).",
        )
    if isinstance(loss, str):
        return loss_name(loss, where=where)
    if isinstance(loss, type):
        if not issubclass(loss, gluon.Block):
            raise UsageError(f"the class {loss.__name__} is not a Gluon loss", where=where)
        try:
            return loss()
        except TypeError as error:
            raise UsageError(
                f"{loss.__name__} cannot be made without arguments: {error}",
                where=where,
                fix=f"Give an instance: loss={loss.__name__}(…).",
            ) from error
    if callable(loss):
        return loss
    raise UsageError(
        f"{loss!r} is not a loss",
        where=where,
        fix="Give a name, a loss of gluon.loss, or a function of (outputs, labels).",
    )


def kind_of(loss: Any) -> LossKind:
    """What a loss implies about outputs and labels. `loss` is a name, a Gluon loss or its class, or any function.

    Raises UsageError for an unknown name.
    """
    if isinstance(loss, str):
        name = loss_name(loss)
        return LossKind(name, NAMED[name].outputs, NAMED[name].labels)
    cls = loss if isinstance(loss, type) else type(loss)
    forward = getattr(cls, "hybrid_forward", None)
    named = cls.__name__ if forward is not None or isinstance(loss, type) else getattr(loss, "__name__", cls.__name__)
    if forward is None:
        return LossKind(named)
    from trainer.mxnet import gluon

    for each in NAMED.values():
        # A subclass with its own forward pass may interpret the outputs in any way.
        if forward is getattr(gluon.loss, each.cls).hybrid_forward:
            return _of_instance(named, each, loss)
    return LossKind(named)


def _of_instance(name: str, known: _Named, loss: Any) -> LossKind:
    """The kind of one of Gluon's losses, from its arguments."""
    outputs, labels = known.outputs, known.labels
    if known.cls == "SoftmaxCrossEntropyLoss":
        if getattr(loss, "_axis", -1) != -1:
            return LossKind(name)
        outputs = "log-probabilities" if getattr(loss, "_from_logits", False) else "logits"
        labels = "class" if getattr(loss, "_sparse_label", True) else "distribution"
    elif known.cls == "KLDivLoss":
        outputs = "log-probabilities" if getattr(loss, "_from_logits", True) else "logits"
    elif known.cls == "SigmoidBinaryCrossEntropyLoss" and getattr(loss, "_from_sigmoid", False):
        outputs = "probability"
    elif known.cls == "LogisticLoss" and getattr(loss, "_label_format", "signed") == "binary":
        labels = "binary"
    return LossKind(name, outputs, labels)


def probabilities(outputs: Any, meaning: Outputs) -> Any:
    """The probabilities behind a net's outputs (an NDArray or a symbol); the outputs themselves if there are none."""
    if meaning == "logits":
        return outputs.softmax(axis=-1)
    if meaning == "log-probabilities":
        return outputs.exp()
    return outputs.sigmoid() if meaning == "logit" else outputs
