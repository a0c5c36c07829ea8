"""Keras 3 on its JAX backend: `compile` and `fit`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from benchmark.worker import Clock, Job


def fit(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """Shuffled arrays, no printing; Keras tracks the epoch's loss itself."""
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ["KERAS_HOME"] = str(job.folder)
    import keras

    class Timer(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            clock.epoch()

        def on_train_end(self, logs: Any = None) -> None:
            clock.end()

    keras.utils.set_random_seed(job.seed)
    model = keras.Sequential([keras.Input((job.x.shape[1],))])
    for units in job.hidden:
        model.add(keras.layers.Dense(units, activation="relu"))
    model.add(keras.layers.Dense(1))
    model.compile(
        optimizer=keras.optimizers.SGD(job.rate),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
    )
    model.fit(
        job.x,
        job.y.reshape(-1, 1),
        batch_size=job.batch,
        epochs=job.epochs,
        shuffle=True,
        verbose=0,
        callbacks=[Timer()],
    )
    return lambda rows: model.predict(rows, verbose=0)
