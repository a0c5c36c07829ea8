"""The smallest real things to train: what the tests share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trainer import Arrays, Defaults, Engine, Phase, Plugin, Run, Splits, Task
from trainer.config import Settings
from trainer.events import EVENTS


def rows(number: int, columns: int = 3, seed: int = 0, weighted: bool = False) -> Arrays:
    """Standard normal features; label 1 where the first is positive."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(number, columns)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(np.float32)
    weights = generator.uniform(0.5, 2, size=(number, 1)).astype(np.float32) if weighted else None
    return Arrays(features, labels, weights)


@dataclass
class Tiny(Task):
    """A linear net on a few rows."""

    train_rows: int = 4
    validation_rows: int = 2
    test_rows: int = 0
    weighted: bool = False
    make_net: Callable[[], Any] | None = None
    make_loss: Callable[[], Any] | None = None

    name = "tiny"
    defaults = Defaults(epochs=2, batch_size=2, learning_rate=0.1, plugins=())

    def splits(self, run: Run) -> Splits:
        sizes = (self.train_rows, self.validation_rows, self.test_rows)
        return Splits(*[rows(size, seed=n, weighted=self.weighted) if size else None for n, size in enumerate(sizes)])

    def net(self) -> Any:
        from trainer._mxnet import gluon

        return self.make_net() if self.make_net else gluon.nn.Dense(1)

    def loss(self) -> Any:
        from trainer._mxnet import gluon

        return self.make_loss() if self.make_loss else gluon.loss.SigmoidBinaryCrossEntropyLoss()

    def metrics(self) -> list[Any]:
        from trainer.metrics import BinaryClassification

        return [BinaryClassification()]

    def predictions(self, outputs: Any) -> Any:
        return outputs.sigmoid().reshape(-1)


def settings(**values: Any) -> Settings:
    """Two epochs of batches of two, with plain SGD."""
    optimizer = {"name": "sgd", "learning_rate": 0.1, **values.pop("optimizer", {})}
    return Settings.checked({"epochs": 2, "batch_size": 2, "seed": 7, "optimizer": optimizer, **values})


def engine(
    task: Task | None = None,
    *plugins: Plugin,
    folder: Any = None,
    compiled: bool = True,
    resume_from: Any = None,
    **values: Any,
) -> Engine:
    return Engine(
        task or Tiny(), settings(**values), plugins, run_folder=folder, compiled=compiled, resume_from=resume_from
    )


def weights(run: Run) -> list[np.ndarray]:
    """Every parameter of a run's net, in order, on the host."""
    return [parameter.data(run.contexts[0]).asnumpy() for parameter in run.net.collect_params().values()]


def hooked(**hooks: Callable[[Run], None]) -> type[Plugin]:
    """A plugin class whose hooks are these functions."""

    def method(function: Callable[[Run], None]) -> Callable[[Plugin, Run], None]:
        def hook(self: Plugin, run: Run) -> None:
            function(run)

        return hook

    return type("Hooked", (Plugin,), {f"on_{event}": method(function) for event, function in hooks.items()})


def plugin(name: str = "hooked", *, phase: Phase = Phase.MEASURE, on_error: str = "abort", **hooks: Any) -> Plugin:
    made = hooked(**hooks)()
    made.name = name
    made.on_error = on_error  # type: ignore[assignment]
    type(made).phase = phase
    return made


@dataclass
class Recorder(Plugin):
    """Writes down every event in order; what fires last within an event, since it reports."""

    events: list[str] = field(default_factory=list)

    phase = Phase.REPORT


def _recording(event: str) -> Callable[[Recorder, Run], None]:
    def hook(self: Recorder, run: Run) -> None:
        self.events.append(event)

    return hook


for _event in EVENTS:
    setattr(Recorder, f"on_{_event}", _recording(_event))
