"""The workloads: which rows, which net, how many epochs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Training:
    """One net on one table, by plain SGD, for a fixed number of epochs; the first one is the warm-up."""

    key: str
    title: str
    rows: int
    features: int
    hidden: tuple[int, ...]
    batch: int
    epochs: int
    rate: float = 0.1
    seed: int = 12345
    validation: int = 0
    """Rows to validate on after every epoch, in a training with logs; 0: neither."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch, including the shorter last one."""
        return -(-self.rows // self.batch)

    def quick(self) -> Training:
        """A small version, to see that everything runs; its times mean nothing."""
        return replace(self, rows=min(self.rows, self.batch * 9 // 2), epochs=3 if self.key == "d" else 12)

    def data(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Features (rows, features) and labels (rows,), 0 or 1; always the same. The rows to validate on come last."""
        generator = np.random.default_rng(self.seed)
        x = generator.standard_normal((self.rows + self.validation, self.features), dtype=np.float32)
        if self.key in "al":
            return x, (x.sum(axis=1) > 3).astype(np.float32)
        weights = generator.standard_normal(self.features).astype(np.float32) * np.float32(2 / self.features**0.5)
        logits = x @ weights
        if self.hidden and self.key == "b":
            logits += 2 * x[:, 0] * x[:, 1] + 2 * np.sin(2 * x[:, 2])
        noise = generator.random(self.rows, dtype=np.float32)
        return x, (noise < 1 / (1 + np.exp(-logits))).astype(np.float32)


WHOLE = "the notebook: a whole training, with validation in every epoch, TensorBoard and a log"
TRAINING = {
    training.key: training
    for training in (
        Training("a", "the notebook: 10-10-10-10-1, batch 10", 1000, 10, (10, 10, 10), batch=10, epochs=31),
        Training("b", "table: 28-64-64-1, batch 1024", 1_000_000, 28, (64, 64), batch=1024, epochs=2),
        Training("c", "table, linear: 28-1, batch 1024", 1_000_000, 28, (), batch=1024, epochs=2),
        Training("d", "wide: 1000-1000-1000-1, batch 512", 20_480, 1000, (1000, 1000), batch=512, epochs=3),
        Training("l", WHOLE, 1000, 10, (10, 10, 10), batch=10, epochs=61, validation=100),
    )
}

OTHERS = {
    "e": "whole processes: `trainer run logreg` and the notebook as a script",
    "f": "import and start-up",
    "g": "the cost of plugins per batch, on the notebook's net",
    "h": "how cost grows with the rows: 28 features, linear, batch 1024",
    "i": "saving 100 MB of parameters and states",
    "j": "the sum over two processes: 1000 features, batch 256",
    "k": "images: cifar_resnet20_v1 on a folder of PNG files, batch 64",
    "m": "categorical: 13 numbers and 26 columns of 2,000,000 categories, 2^22 buckets, linear, batch 1024",
    "n": "categorical: how cost grows with the buckets",
    "t": "tables of any size: 28 numbers, linear, batch 1024, in memory and from the cache",
}


def title(key: str) -> str:
    """A one-line description of a workload."""
    return TRAINING[key].title if key in TRAINING else OTHERS[key]


def save(training: Training, folder: Path) -> dict[str, str]:
    """Writes the data as .npy files, which every competitor maps into its memory; returns their paths by name."""
    x, y = training.data()
    parts = {"x": x[: training.rows], "y": y[: training.rows]}
    if training.validation:
        parts |= {"validation_x": x[training.rows :], "validation_y": y[training.rows :]}
    paths = {}
    for name, array in parts.items():
        paths[name] = str(folder / f"{training.key}-{name}.npy")
        np.save(paths[name], array)
    return paths


def cross_entropy(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """The mean binary cross-entropy of logits (rows,), in float64."""
    z, y = logits.astype(np.float64).reshape(-1), labels.astype(np.float64)
    return float(np.mean(np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))))
