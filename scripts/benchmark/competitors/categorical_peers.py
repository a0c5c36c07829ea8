"""Other libraries on numbers and many categories. All but ours read the rows in the order in which they are stored."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmark.categorical import Clock, Job
from benchmark.categorical_data import NUMBERS


def torch_bag(job: Job, clock: Clock) -> None:
    """PyTorch, eager: EmbeddingBag with sparse gradients beside a linear layer, over slices of tensors."""
    import torch
    from torch import nn
    from torch.nn.functional import binary_cross_entropy_with_logits

    numbers, ids, labels = (torch.from_numpy(array) for array in job.arrays())
    bag, dense = nn.EmbeddingBag(1 << job.bits, 1, mode="sum", sparse=True), nn.Linear(NUMBERS, 1)
    for parameter in (*bag.parameters(), *dense.parameters()):
        nn.init.zeros_(parameter)
    optimizer = torch.optim.SGD([*bag.parameters(), *dense.parameters()], lr=job.rate)
    for _ in range(job.passes):
        with clock:
            total = torch.zeros(())
            for start in range(0, len(labels), job.batch):
                own = slice(start, start + job.batch)
                optimizer.zero_grad()
                outputs = (dense(numbers[own]) + bag(ids[own])).squeeze(1)
                loss = binary_cross_entropy_with_logits(outputs, labels[own])
                loss.backward()
                optimizer.step()
                total += loss.detach() * len(outputs)
            total.item()
        clock.judge(dense.weight.detach().numpy(), bag.weight.detach().numpy(), dense.bias.item())


def keras_sum(job: Job, clock: Clock) -> None:
    """Keras 3 on JAX: the sum of an Embedding beside a Dense layer, `compile` and `fit`. Its gradient is dense."""
    import os

    os.environ["KERAS_BACKEND"] = "jax"
    os.environ["KERAS_HOME"] = str(job.folder)
    import keras

    numbers, ids, labels = job.arrays()
    given = keras.Input((NUMBERS,)), keras.Input((ids.shape[1],), dtype="int32")
    dense = keras.layers.Dense(1, kernel_initializer="zeros")
    table = keras.layers.Embedding(1 << job.bits, 1, embeddings_initializer="zeros")
    summed = keras.ops.sum(table(given[1]), axis=1)
    model = keras.Model(given, dense(given[0]) + summed)
    model.compile(optimizer=keras.optimizers.SGD(job.rate), loss=keras.losses.BinaryCrossentropy(from_logits=True))
    for _ in range(job.passes):
        with clock:
            model.fit((numbers, ids), labels.reshape(-1, 1), batch_size=job.batch, epochs=1, shuffle=False, verbose=0)
        weights, bias = dense.get_weights()
        clock.judge(weights, table.get_weights()[0], float(bias[0]))


def sklearn_sgd(job: Job, clock: Clock) -> None:
    """SGDClassifier over a sparse matrix of the numbers and ones at the ids: one update per row."""
    from sklearn.linear_model import SGDClassifier

    x, y = _matrix(job, clock)
    model = SGDClassifier(
        loss="log_loss", penalty=None, learning_rate="constant", eta0=job.rate, shuffle=False, random_state=1
    )
    for _ in range(job.passes):
        with clock:
            model.partial_fit(x, y, classes=np.array([0.0, 1.0], y.dtype))
        clock.judge(model.coef_[0, :NUMBERS], model.coef_[0, NUMBERS:], float(model.intercept_[0]))


def sklearn_lr(job: Job, clock: Clock) -> None:
    """LogisticRegression by lbfgs to its end, for what many passes reach; the rate is C.

    Only columns that occur are fitted, which changes nothing: the penalty leaves the others at 0.
    """
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

    x, y = _matrix(job, clock)
    with clock:
        used, places = np.unique(x.indices, return_inverse=True)
        x = csr_matrix((x.data, places.reshape(-1).astype(np.int32), x.indptr), shape=(len(y), len(used)))
        model = LogisticRegression(C=job.rate, max_iter=200).fit(x, y)
    weights = np.zeros(NUMBERS + (1 << job.bits))
    weights[used] = model.coef_[0]
    clock.judge(weights[:NUMBERS], weights[NUMBERS:], float(model.intercept_[0]))


def _matrix(job: Job, clock: Clock) -> tuple[Any, Any]:
    import time

    from scipy.sparse import csr_matrix

    numbers, ids, labels = job.arrays()
    began = time.perf_counter()
    rows, columns = len(labels), NUMBERS + ids.shape[1]
    places, values = np.empty((rows, columns), np.int32), np.ones((rows, columns))
    places[:, :NUMBERS], places[:, NUMBERS:] = np.arange(NUMBERS), ids + NUMBERS
    values[:, :NUMBERS] = numbers
    starts = np.arange(0, rows * columns + 1, columns, dtype=np.int32)
    matrix = csr_matrix((values.reshape(-1), places.reshape(-1), starts), shape=(rows, NUMBERS + (1 << job.bits)))
    clock.encoding = time.perf_counter() - began
    return matrix, labels
