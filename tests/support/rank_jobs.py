"""What is trained on one process and on several, to be compared: every job gives arrays and values.

`python rank_jobs.py FOLDER` trains all jobs, and rank 0 writes `<job>.npz` and `figures.json` to the folder.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from nets import Given, Plain, convolutions, dense, images, regression
from soft import SoftTask, soft
from tiny import settings

from trainer import Engine, Phase, Plugin, Run, Splits
from trainer.data import Classes, Number, Rows, Schema
from trainer.metrics import Regression
from trainer.mxnet import gluon, mx
from trainer_plugins.early_stopping import EarlyStopping
from trainer_plugins.gradient_accumulation import GradientAccumulation
from trainer_plugins.gradient_clipping import GradientClipping
from trainer_plugins.label_smoothing import LabelSmoothing
from trainer_plugins.linreg import LinearRegression
from trainer_plugins.logreg import LogisticRegression
from trainer_plugins.lr_schedule import LearningRateSchedule
from trainer_plugins.mixing import CutMix, Mixup
from trainer_plugins.proximal import Proximal
from trainer_plugins.stop_on_non_finite import StopOnNonFinite
from trainer_plugins.threshold_tuner import ThresholdTuner
from trainer_plugins.weight_averaging import WeightAveraging

MOMENTUM = {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9, "weight-decay": 0.001}
BATCHES = [(24, 6), (23, 5), (13, 4), (7, 3), (7, 2), (5, 1), (20, 32)]
"""Rows and batch size: even and uneven shards, short last batches, and processes without rows."""


class Watch(Plugin):
    """Notes the loss and the gradients' norm of every batch."""

    phase = Phase.MEASURE

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.name = "watch"

    def on_backward_end(self, run: Run) -> None:
        self.losses.append(run.loss)
        self.norms.append(run.gradients.norm())


def train(task: Any, *plugins: Plugin, steps: int = 40, compiled: bool = True, **values: Any) -> dict[str, Any]:
    """Trains, and gives everything that has to be the same."""
    chosen = settings(**{"epochs": 1000, "steps": steps, "optimizer": MOMENTUM, **values})
    for plugin in plugins:
        plugin.name = plugin.name or type(plugin).__name__.lower()
    watch = Watch()
    run = Engine(task, chosen, [watch, *plugins], compiled=compiled).fit()
    return {
        "weights": run.copy_weights(),
        "metrics": run.metrics,
        "history": [dict(entry) for entry in run.history],
        "losses": watch.losses,
        "norms": watch.norms,
        "predictions": run.evaluation.predictions if run.evaluation else np.zeros(0),
        "labels": run.evaluation.labels if run.evaluation else np.zeros(0),
        "stopped": [run.step, run.reason, run.status],
        "threshold": run.threshold,
        "kind": run.step_kind,
    }


def every_batch_size(rows: int, batch_size: int, compiled: bool = True) -> dict[str, Any]:
    data, judged = regression(rows), regression(11, seed=1)
    task = Given(data, judged, make_net=lambda: dense(6), make_metrics=lambda: [Regression()])
    return train(task, batch_size=batch_size, compiled=compiled)


def everything() -> dict[str, Any]:
    data, judged, kept = (regression(rows, seed=n, weighted=True) for n, rows in enumerate((23, 7, 9)))
    task = Given(data, judged, make_net=lambda: dense(6), make_metrics=lambda: [Regression()], calibration=kept)
    return train(
        task,
        GradientAccumulation(batches=2),
        GradientClipping(norm=0.5, value=0.2),
        WeightAveraging(decay=0.9),
        LearningRateSchedule(schedule=("cosine",)),
        StopOnNonFinite(),
        Proximal(l1=0.01, l2=0.01),
        batch_size=4,
        epochs=7,
        steps=None,
    )


def loader(batches: bool = False) -> dict[str, Any]:
    def of(data: Any, shuffle: bool) -> Any:
        dataset = gluon.data.ArrayDataset(data.features, data.labels)
        made = gluon.data.DataLoader(dataset, 5, shuffle=shuffle)
        if not batches:
            return made
        from trainer.data.loader import LoaderBatches

        return LoaderBatches(made, contexts=[mx.cpu(0)], seed=7)

    task = Given(of(regression(23), True), of(regression(11, seed=1), False), make_net=lambda: dense(6))
    return train(task, steps=20)


def early() -> dict[str, Any]:
    stopping = EarlyStopping(monitor="validation/loss", patience=2, restore_best=True)
    task = LogisticRegression(train_rows=60, validation_rows=37, hidden=(4,))
    task.name = "logreg"
    return train(task, stopping, ThresholdTuner(min_rows=5), batch_size=7, steps=400)


def numbers(objective: str) -> dict[str, Any]:
    task = LinearRegression(train_rows=40, validation_rows=17, hidden=(3,), objective=objective)  # type: ignore[arg-type]
    task.name = "linreg"
    return train(task, batch_size=7, steps=20, optimizer={"name": "adam", "learning_rate": 0.01})


class SeveralClasses(LogisticRegression):
    """Weighted rows of three classes."""

    def splits(self, run: Run) -> Splits:
        self.adopt(Schema((Number("a"), Number("b")), "y", Classes(("x", "y", "z"))))
        generator = np.random.default_rng(4)
        parts = [
            Rows(
                generator.normal(size=(rows, 2)).astype(np.float32),
                (np.arange(rows) % 3).astype(np.float32),
                generator.integers(1, 4, rows).astype(np.float32),
                {},
            )
            for rows in (60, 23)
        ]
        return Splits(*self._weighted(*parts))


def several_classes() -> dict[str, Any]:
    task = SeveralClasses(hidden=(4,), class_weight="balanced")
    task.name = "several"
    return train(task, batch_size=7, steps=20)


class Spoil(Plugin):
    """Breaks a row after the rows were checked; the engine's arrays share their memory."""

    def __init__(self, features: Any) -> None:
        self.features = features

    def on_setup(self, run: Run) -> None:
        self.features[13, 2] = np.nan


def broken() -> dict[str, Any]:
    data = regression(24)
    return train(
        Given(data, make_net=lambda: dense(4)), Spoil(data.features), StopOnNonFinite(), batch_size=8, steps=30
    )


def sparse() -> dict[str, Any]:
    from trainer import Arrays

    def net() -> Any:
        made = gluon.nn.HybridSequential()
        made.add(gluon.nn.Embedding(12, 3, sparse_grad=True), gluon.nn.Dense(1))
        return made

    generator = np.random.default_rng(0)
    data = Arrays(generator.integers(0, 12, (23, 2)).astype(np.int32), generator.normal(size=(23, 1)))
    return train(Given(data, make_net=net), batch_size=5, steps=20, optimizer={"name": "sgd", "learning_rate": 0.05})


def words(batch_size: int, name: str, **values: Any) -> dict[str, Any]:
    """Sums of rows of a table, of which only those that a batch uses are trained."""
    from trainer import Arrays

    class Sums(gluon.HybridBlock):
        def __init__(self) -> None:
            super().__init__()
            with self.name_scope():
                self.table = gluon.nn.Embedding(40, 1, sparse_grad=True)
                self.dense = gluon.nn.Dense(1, in_units=2)

        def hybrid_forward(self, F: Any, x: Any, ids: Any) -> Any:
            return self.dense(x) + self.table(ids).sum(axis=1)

    generator = np.random.default_rng(0)
    given = generator.normal(size=(23, 2)), generator.integers(0, 40, (23, 3)).astype(np.int32)
    data = Arrays(given, generator.normal(size=(23, 1)))
    optimizer = {"name": name, "learning_rate": 0.05}
    return train(Given(data, make_net=Sums), batch_size=batch_size, steps=20, optimizer=optimizer, **values)


def mixed() -> dict[str, Any]:
    """A weight of another type, one that is not trained, and one that nothing changes."""

    class Mixed(gluon.HybridBlock):
        def __init__(self) -> None:
            super().__init__()
            with self.name_scope():
                self.body = gluon.nn.Dense(3, in_units=5)
                self.out = gluon.nn.Dense(1, in_units=3)
                self.fixed = self.params.get_constant("fixed", mx.nd.array([[0.1, 0.7, 1.3]]))
            self.out.cast("float64")

        def hybrid_forward(self, F: Any, x: Any, fixed: Any) -> Any:
            return F.cast(self.out(F.cast(F.broadcast_mul(self.body(x), fixed), "float64")), "float32")

    return train(Given(regression(23), make_net=Mixed), batch_size=5)


def frozen() -> dict[str, Any]:
    def net() -> Any:
        made = gluon.nn.HybridSequential()
        made.add(gluon.nn.Dense(4), gluon.nn.BatchNorm(use_global_stats=True), gluon.nn.Dense(1))
        return made

    return train(Given(regression(23), make_net=net), batch_size=5)


def mixing(plugin: Plugin, rows: int = 23, batch_size: int = 5, **values: Any) -> dict[str, Any]:
    """Rows whose partners are rows of other processes; with a batch size of 1 some processes have none."""
    given = [soft(number, shape=(2, 4, 4), seed=seed, weighted=True) for seed, number in enumerate((rows, 7))]
    for part in given:
        part.features[:] *= 0.3  # so that the net's outputs are of the size of one, as the comparison takes them
    return train(SoftTask(*given), LabelSmoothing(smoothing=0.2), plugin, batch_size=batch_size, steps=20, **values)


def wide() -> dict[str, Any]:
    task = Given(regression(9), regression(5, seed=1), make_net=lambda: dense(120, 120))
    return train(task, batch_size=4, steps=10)


JOBS: dict[str, Callable[[], dict[str, Any]]] = {
    **{f"rows {rows}, batch {size}": lambda r=rows, s=size: every_batch_size(r, s) for rows, size in BATCHES},  # type: ignore[misc]
    **{f"recorded: rows {r}, batch {s}": lambda r=r, s=s: every_batch_size(r, s, False) for r, s in BATCHES[2:5]},  # type: ignore[misc]
    "everything at once": everything,
    "a DataLoader": loader,
    "a task's own batches": lambda: loader(batches=True),
    "early stopping and a threshold": early,
    "several classes": several_classes,
    "several quantiles": lambda: numbers("quantile"),
    "counts": lambda: numbers("poisson"),
    "a value that is not finite": broken,
    "sparse gradients": sparse,
    "rows of a table": lambda: words(5, "adagrad"),
    "rows of a table, batches of one row": lambda: words(1, "sgd"),
    "rows of a table on two contexts each": lambda: words(8, "adam", devices="cpu:0,1"),
    "parameters of several kinds": mixed,
    "frozen statistics": frozen,
    "more than one exchange": wide,
    "mixup": lambda: mixing(Mixup(alpha=1.0, probability=0.8)),
    "mixup of batches of one row": lambda: mixing(Mixup(alpha=1.0), 5, 1),
    "mixup on two contexts each": lambda: mixing(Mixup(alpha=1.0), devices="cpu:0,1"),
    "cutmix": lambda: mixing(CutMix()),
    "cutmix of batches of one row": lambda: mixing(CutMix(), 5, 1),
    "not hybrid": lambda: train(Given(regression(13), make_net=Plain), batch_size=4),
    "convolutions": lambda: train(
        Given(images(10), images(5, seed=1), make_net=lambda: _without_norm(convolutions())), batch_size=4, steps=10
    ),
    "adam": lambda: train(
        Given(regression(23), make_net=lambda: dense(6)),
        batch_size=5,
        optimizer={"name": "adam", "learning_rate": 0.01},
    ),
    "random numbers in the update": lambda: train(
        Given(regression(23), make_net=lambda: dense(6)),
        batch_size=5,
        optimizer={"name": "sgld", "learning_rate": 1e-3},
    ),
    "micro-batches of a net with BatchNorm": lambda: train(
        Given(images(23), images(9, seed=1), make_net=convolutions), batch_size=13, steps=3, micro_batches=6
    ),
    "two contexts each": lambda: train(
        Given(regression(23), regression(11, seed=1), make_net=lambda: dense(6)), batch_size=7, devices="cpu:0,1"
    ),
}


def _without_norm(net: Any) -> Any:
    kept = [block for block in net if not isinstance(block, gluon.nn.BatchNorm)]
    made = gluon.nn.HybridSequential()
    made.add(*kept)
    return made


def write(folder: Path) -> None:
    """All jobs, written by rank 0."""
    from trainer.processes import connect

    processes = connect()
    figures = {}
    for number, (name, job) in enumerate(JOBS.items()):
        found = job()
        weights = found.pop("weights")
        arrays = {key: np.asarray(found.pop(key)) for key in ("losses", "norms", "predictions", "labels")}
        figures[name] = found
        if processes.is_first:
            np.savez(folder / f"{number}.npz", **arrays, **{f"weight:{key}": value for key, value in weights.items()})
    if processes.is_first:
        (folder / "figures.json").write_text(json.dumps(figures), encoding="utf-8")


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """What `write` wrote, by job."""
    figures = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    found = {}
    for number, name in enumerate(JOBS):
        with np.load(folder / f"{number}.npz") as file:
            found[name] = {**figures[name], "arrays": {key: file[key] for key in file.files}}
    return found


if __name__ == "__main__":
    write(Path(sys.argv[1]))
