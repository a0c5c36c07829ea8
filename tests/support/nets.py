"""Nets of every kind that the step has to compute, and a task around given arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer import Arrays, Splits, Task
from trainer.mxnet import gluon, mx


@dataclass
class Given(Task):
    """Trains what it is given; the metrics and predictions are left out."""

    train: Any = None
    validation: Any = None
    make_net: Callable[[], Any] | None = None
    make_loss: Callable[[], Any] = gluon.loss.L2Loss
    make_metrics: Callable[[], Sequence[Any]] = tuple
    calibration: Any = None

    name = "given"

    def splits(self, run: Any) -> Splits:
        return Splits(self.train, self.validation, calibration=self.calibration)

    def net(self) -> Any:
        return self.make_net() if self.make_net else gluon.nn.Dense(1)

    def loss(self) -> Any:
        return self.make_loss()

    def metrics(self) -> Sequence[Any]:
        return self.make_metrics()


def regression(number: int, *, columns: int = 5, seed: int = 0, weighted: bool = False, outputs: int = 1) -> Arrays:
    """A linear rule with a kink and a little noise."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(number, columns)).astype(np.float32)
    rule = np.random.default_rng(99).normal(size=(columns, outputs))
    labels = (np.maximum(features @ rule, 0) + 0.1 * generator.normal(size=(number, outputs))).astype(np.float32)
    weights = generator.uniform(0.2, 3, size=number).astype(np.float32) if weighted else None
    return Arrays(features, labels, weights)


def images(number: int, *, seed: int = 0) -> Arrays:
    """(number, 3, 8, 8), and a label a row."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(number, 3, 8, 8)).astype(np.float32)
    return Arrays(features, features.mean(axis=(1, 2, 3)).reshape(-1, 1) * 10)


def dense(*units: int, activation: str = "relu", dropout: float = 0.0, norm: bool = False, outputs: int = 1) -> Any:
    net = gluon.nn.HybridSequential()
    for unit in units:
        net.add(gluon.nn.Dense(unit, activation=activation))
        if norm:
            net.add(gluon.nn.BatchNorm())
        if dropout:
            net.add(gluon.nn.Dropout(dropout))
    net.add(gluon.nn.Dense(outputs))
    return net


def convolutions() -> Any:
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Conv2D(8, 3, padding=1), gluon.nn.BatchNorm(), gluon.nn.Activation("relu"))
    net.add(gluon.nn.MaxPool2D(), gluon.nn.Conv2D(4, 3), gluon.nn.BatchNorm(), gluon.nn.Activation("relu"))
    net.add(gluon.nn.Dense(1))
    return net


class TwoInputs(gluon.HybridBlock):
    """One Dense for each input, added up."""

    def __init__(self) -> None:
        super().__init__()
        with self.name_scope():
            self.left = gluon.nn.Dense(4, activation="tanh")
            self.right = gluon.nn.Dense(4, activation="tanh")
            self.out = gluon.nn.Dense(1)

    def hybrid_forward(self, F: Any, left: Any, right: Any) -> Any:
        return self.out(self.left(left) + self.right(right))


class TwoOutputs(gluon.HybridBlock):
    """Two heads over one layer."""

    def __init__(self) -> None:
        super().__init__()
        with self.name_scope():
            self.body = gluon.nn.Dense(4, activation="tanh")
            self.first = gluon.nn.Dense(1)
            self.second = gluon.nn.Dense(2)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        x = self.body(x)
        return self.first(x), self.second(x)


class SplitOutputs(gluon.HybridBlock):
    """One operator that has two outputs."""

    def __init__(self) -> None:
        super().__init__()
        with self.name_scope():
            self.body = gluon.nn.Dense(2)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.split(self.body(x), num_outputs=2, axis=1)


class OneInAList(gluon.HybridBlock):
    """A single output in a list."""

    def __init__(self) -> None:
        super().__init__()
        with self.name_scope():
            self.body = gluon.nn.Dense(1)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return [self.body(x)]


class Recurrent(gluon.HybridBlock):
    """An LSTM over sequences (rows, time, features)."""

    def __init__(self) -> None:
        super().__init__()
        with self.name_scope():
            self.body = gluon.rnn.LSTM(4, layout="NTC")
            self.out = gluon.nn.Dense(1)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.out(self.body(x))


class Embedded(gluon.HybridBlock):
    """Ten words."""

    def __init__(self, sparse: bool = False) -> None:
        super().__init__()
        with self.name_scope():
            self.body = gluon.nn.Embedding(10, 4, sparse_grad=sparse)
            self.out = gluon.nn.Dense(1)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.out(self.body(x))


class Shared(gluon.HybridBlock):
    """Two layers with the same parameters."""

    def __init__(self) -> None:
        super().__init__()
        with self.name_scope():
            self.one = gluon.nn.Dense(5, in_units=5, activation="tanh")
            self.other = gluon.nn.Dense(5, in_units=5, activation="tanh", params=self.one.params)
            self.out = gluon.nn.Dense(1)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.out(self.other(self.one(x)))


class SquaresOfTheFirst(gluon.loss.Loss):
    """The squared error of the first of several outputs."""

    def __init__(self) -> None:
        super().__init__(1, 0)

    def hybrid_forward(self, F: Any, outputs: Any, label: Any) -> Any:
        return F.square(F.broadcast_sub(outputs[0], label)).mean(axis=1)


class BothHeads(gluon.loss.Loss):
    """The squared errors of two outputs, added up."""

    def __init__(self) -> None:
        super().__init__(1, 0)

    def hybrid_forward(self, F: Any, outputs: Any, label: Any) -> Any:
        first, second = outputs[0], outputs[1]
        both = F.square(F.broadcast_sub(second, label)).mean(axis=1)
        return F.square(F.broadcast_sub(first, label)).mean(axis=1) + both


class MeanOverRows(gluon.HybridBlock):
    """What most people write first, and what cannot be weighted by rows."""

    def hybrid_forward(self, F: Any, outputs: Any, label: Any) -> Any:
        return F.square(F.broadcast_sub(outputs, label)).mean()


class PerElement(gluon.HybridBlock):
    """One value for every element of the output."""

    def hybrid_forward(self, F: Any, outputs: Any, label: Any) -> Any:
        return F.square(outputs - label)


class AsksForShape(gluon.HybridBlock):
    """Right under autograd, and without a symbolic form."""

    def __init__(self) -> None:
        super().__init__()
        with self.name_scope():
            self.body = gluon.nn.Dense(3, activation="tanh")
            self.out = gluon.nn.Dense(1)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.out(self.body(x.reshape((x.shape[0], -1))))


class Plain(gluon.Block):
    """Not hybrid."""

    def __init__(self) -> None:
        super().__init__()
        with self.name_scope():
            self.body = gluon.nn.Dense(3, activation="tanh")
            self.out = gluon.nn.Dense(1)

    def forward(self, x: Any) -> Any:
        return self.out(self.body(x))


class Sometimes(gluon.Block):
    """Uses its second layer only for batches whose first feature is positive on average."""

    def __init__(self) -> None:
        super().__init__()
        with self.name_scope():
            self.always = gluon.nn.Dense(1, in_units=5)
            self.sometimes = gluon.nn.Dense(1, in_units=5)

    def forward(self, x: Any) -> Any:
        out = self.always(x)
        return out + self.sometimes(x) if float(x[:, 0].mean().asscalar()) > 0 else out


class TwoFaced(gluon.HybridBlock):
    """Computes something else as a symbol."""

    def __init__(self) -> None:
        super().__init__()
        with self.name_scope():
            self.out = gluon.nn.Dense(1)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.out(x) * (2 if F is mx.sym else 1)


class NeedsTwoRows(gluon.Block):
    """Cannot be trained on one row."""

    def __init__(self) -> None:
        super().__init__()
        with self.name_scope():
            self.out = gluon.nn.Dense(1)

    def forward(self, x: Any) -> Any:
        if mx.autograd.is_training() and len(x) < 2:
            raise ValueError("two rows at least")
        return self.out(x)


def values(run: Any, context: Any = None) -> dict[str, Any]:
    """Every parameter's value by its name without the net's own prefix, in the net's order."""
    context = context or run.contexts[0]
    prefix = run.net.prefix
    return {
        name.removeprefix(prefix): parameter.data(context).asnumpy()
        for name, parameter in run.net.collect_params().items()
    }


def apart(first: Any, second: Any) -> float:
    """The largest difference between the parameters of two runs."""
    pairs = zip(values(first).values(), values(second).values(), strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)
