"""Keras 3 on its JAX backend: `compile` and `fit`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from benchmark.worker import Clock, Job


def fit(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """Shuffled arrays, no printing; Keras tracks the epoch's loss itself."""
    predict = _fit(job, clock)
    clock.end()
    return predict


def whole(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """With validation data and Keras' CSVLogger. Its TensorBoard callback needs TensorFlow, so the scalars are written
    by a callback with tensorboardX."""
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(job.folder / "tensorboard")) as writer:
        predict = _fit(job, clock, writer)
    clock.end()
    return predict


def _fit(job: Job, clock: Clock, writer: Any = None) -> Callable[[Any], Any]:
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ["KERAS_HOME"] = str(job.folder)
    import keras

    class Timer(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            clock.epoch()

    class Scalars(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            for name, value in (logs or {}).items():
                writer.add_scalar(name, value, epoch)

    more: dict[str, Any] = {"callbacks": [Timer()]}
    if job.validation is not None:
        rows, labels = job.validation
        more["validation_data"] = rows, labels.reshape(-1, 1)
        more["callbacks"] += [keras.callbacks.CSVLogger(str(job.folder / "metrics.csv")), Scalars()]
    keras.utils.set_random_seed(job.seed)
    model = keras.Sequential([keras.Input((job.x.shape[1],))])
    for units in job.hidden:
        model.add(keras.layers.Dense(units, activation="relu"))
    model.add(keras.layers.Dense(1))
    model.compile(
        optimizer=keras.optimizers.SGD(job.rate),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=None if job.validation is None else [keras.metrics.BinaryAccuracy(threshold=0.0)],
    )
    model.fit(
        job.x,
        job.y.reshape(-1, 1),
        batch_size=job.batch,
        epochs=job.epochs,
        shuffle=True,
        verbose=0,
        **more,
    )
    return lambda rows: model.predict(rows, verbose=0)
