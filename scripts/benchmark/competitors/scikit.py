"""scikit-learn: the same mini-batches by MLPClassifier, and for the linear model SGDClassifier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.linear_model import SGDClassifier
from sklearn.neural_network import MLPClassifier

from benchmark.worker import Clock, Job


def mlp(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """One `partial_fit` per epoch, which shuffles and trains on all mini-batches; no momentum, no penalty."""
    model = MLPClassifier(
        hidden_layer_sizes=job.hidden,
        solver="sgd",
        alpha=0.0,
        batch_size=job.batch,
        learning_rate_init=job.rate,
        momentum=0.0,
        nesterovs_momentum=False,
        random_state=job.seed,
    )
    return _epochs(job, clock, model, lambda rows: model.predict_proba(rows)[:, 1])


def sgd(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """One update per row, with the batch's rate divided by its rows: the same path in smaller steps."""
    model = SGDClassifier(
        loss="log_loss", penalty=None, learning_rate="constant", eta0=job.rate / job.batch, random_state=job.seed
    )
    return _epochs(job, clock, model, lambda rows: model.predict_proba(rows)[:, 1])


def _epochs(job: Job, clock: Clock, model: Any, probability: Callable[[Any], Any]) -> Callable[[Any], Any]:
    classes = np.array([0.0, 1.0], dtype=job.y.dtype)
    for _ in range(job.epochs):
        clock.epoch()
        model.partial_fit(job.x, job.y, classes=classes)
    clock.end()

    def logits(rows: Any) -> Any:
        p = np.clip(probability(rows).astype(np.float64), 1e-12, 1 - 1e-12)
        return np.log(p / (1 - p))

    return logits
