"""Rows whose labels are probabilities, and what plugins that change batches make of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from nets import Given
from tiny import engine, plugin

from trainer import Arrays, Phase, Plugin, Run
from trainer.mxnet import gluon
from trainer.runs import checkpoint


def soft(
    number: int, *, shape: Sequence[int] = (5,), classes: int = 3, seed: int = 0, weighted: bool = False
) -> Arrays:
    """Normal features, (number, *shape), and one-hot labels in turn: with as many classes as rows each has its own."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(number, *shape)).astype(np.float32)
    labels = np.eye(classes, dtype=np.float32)[np.arange(number) % classes]
    weights = generator.uniform(0.2, 3, size=number).astype(np.float32) if weighted else None
    return Arrays(features, labels, weights)


class SoftTask(Given):
    """A linear net on them, with the loss for probabilities."""

    def net(self) -> Any:
        if self.make_net or not isinstance(self.train, Arrays):
            return self.make_net() if self.make_net else gluon.nn.Dense(3)
        return gluon.nn.Dense(self.train.labels.shape[1])

    def loss(self) -> Any:
        return gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=False)


@dataclass
class Rows:
    """A batch on the host, of all contexts."""

    inputs: tuple[np.ndarray, ...]
    labels: np.ndarray
    weights: np.ndarray | None

    @classmethod
    def of(cls, run: Run) -> Rows:
        shards = [shard for shard in run.batch.shards if shard.rows]
        columns = [
            np.concatenate([part.asnumpy() for part in c]) for c in zip(*(s.arrays for s in shards), strict=True)
        ]
        weights = columns.pop() if shards[0].weight is not None else None
        return cls(tuple(columns[:-1]), columns[-1], weights)

    @property
    def arrays(self) -> list[np.ndarray]:
        return [*self.inputs, self.labels, *([] if self.weights is None else [self.weights])]


@dataclass
class Seen:
    """A batch before and after the plugins that change it."""

    before: Rows
    after: Rows
    epoch: int = 0
    step: int = 0

    @property
    def is_changed(self) -> bool:
        pairs = zip(self.before.arrays, self.after.arrays, strict=True)
        return any((before != after).any() for before, after in pairs)


def watching() -> tuple[list[Plugin], list[Seen]]:
    """Plugins that note each batch before and after those of the phase that changes it."""
    early: list[Rows] = []
    seen: list[Seen] = []
    first = plugin("first", phase=Phase.TRANSFORM, batch_begin=lambda run: early.append(Rows.of(run)))
    type(first).before = ("label-smoothing", "mixup", "cutmix")
    last = plugin(
        "last",
        phase=Phase.REPORT,
        batch_begin=lambda run: seen.append(Seen(early[-1], Rows.of(run), run.epoch, run.step)),
    )
    return [first, last], seen


def observed(task: Any, *plugins: Plugin, **values: Any) -> list[Seen]:
    """Every batch of a training."""
    watchers, seen = watching()
    engine(task, *plugins, *watchers, **values).fit()
    assert seen
    return seen


def in_the_middle(
    tmp_path: Any, task: Callable[[], Any], plugins: Callable[[], Sequence[Plugin]], *, at: int = 7, **values: Any
) -> tuple[Run, Run]:
    """Two runs: one that never stopped, and one that went on from its checkpoint after step `at`."""
    whole = engine(task(), *plugins(), **values).fit()
    saving = plugin("saving", phase=Phase.SAVE, batch_end=lambda run: run.step == at and run.save("here"))
    folder = tmp_path / "run"
    folder.mkdir()
    engine(task(), *plugins(), saving, folder=folder, **{**values, "steps": at + 2}).fit()
    saved = checkpoint.complete_checkpoints(folder)[0]
    assert saved.step == at
    resumed = engine(task(), *plugins(), resume_from=saved, **values).fit()
    assert resumed.resumed
    assert resumed.step == whole.step
    return whole, resumed
