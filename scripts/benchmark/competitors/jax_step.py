"""JAX by hand: forward, backward and update in one compiled function of a batch, or of a whole epoch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmark.competitors import logs
from benchmark.worker import Clock, Job


def steps(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """One call per step, which takes the batch from the shuffled arrays itself; that is cheaper than slicing them."""
    predict = _train(job, clock, _stepwise(job))
    clock.end()
    return predict


def _stepwise(job: Job) -> Callable[..., Any]:
    """The function of an epoch, with one call per step."""

    @partial(jax.jit, static_argnames="size", donate_argnums=(0, 1))
    def step(params: Any, total: Any, data: Any, start: Any, size: int) -> Any:
        x, y = (jax.lax.dynamic_slice_in_dim(part, start, size) for part in data)
        return _update(params, total, x, y, job.rate)

    def epoch(params: Any, x: Any, y: Any) -> Any:
        total = jnp.zeros(())
        for start in range(0, len(job.y), job.batch):
            params, total = step(params, total, (x, y), start, min(job.batch, len(job.y) - start))
        return params, total

    return epoch


def scan(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """One call per epoch: nothing can run between its steps, so plugins could not use this loop."""
    full = len(job.y) // job.batch * job.batch

    @partial(jax.jit, donate_argnums=0)
    def epoch(params: Any, x: Any, y: Any) -> Any:
        def body(carry: Any, batch: Any) -> Any:
            return _update(*carry, *batch, job.rate), None

        batches = x[:full].reshape(-1, job.batch, x.shape[1]), y[:full].reshape(-1, job.batch)
        (params, total), _ = jax.lax.scan(body, (params, jnp.zeros(())), batches)
        return _update(params, total, x[full:], y[full:], job.rate) if full < len(x) else (params, total)

    predict = _train(job, clock, epoch)
    clock.end()
    return predict


def whole(job: Job, clock: Clock) -> Callable[[Any], Any]:
    """The jitted steps with a jitted validation, tensorboardX and a CSV file."""
    from tensorboardX import SummaryWriter

    assert job.validation is not None
    rows, labels = (jnp.asarray(part) for part in job.validation)

    @jax.jit
    def judge(params: Any) -> Any:
        z = _logits(params, rows)
        return _loss(z, labels), jnp.mean((z > 0) == labels)

    with logs.Logs(job, SummaryWriter) as log:

        def after(epoch: int, params: Any, total: Any) -> None:
            loss, accuracy = judge(params)
            log.write(epoch, float(total) / len(job.y), float(loss), float(accuracy))

        predict = _train(job, clock, _stepwise(job), after)
    clock.end()
    return predict


def _train(
    job: Job,
    clock: Clock,
    epoch: Callable[..., Any],
    after: Callable[[int, Any, Any], None] = lambda _number, _params, total: float(total),
) -> Callable[[Any], Any]:
    """Trains with the function of an epoch; `after` reads the total loss of each."""
    key = jax.random.key(job.seed)
    params = []
    for inputs, outputs in zip(job.widths[:-1], job.widths[1:], strict=True):
        key, part = jax.random.split(key)
        bound = (6 / (inputs + outputs)) ** 0.5
        params.append((jax.random.uniform(part, (inputs, outputs), minval=-bound, maxval=bound), jnp.zeros(outputs)))
    x, y = jnp.asarray(job.x), jnp.asarray(job.y)
    shuffle = jax.jit(lambda x, y, order: (x[order], y[order]))
    generator = np.random.default_rng(job.seed)
    for number in range(job.epochs):
        clock.epoch()
        # numpy's permutation is faster than JAX's on a CPU.
        params, total = epoch(params, *shuffle(x, y, generator.permutation(len(job.y)).astype(np.int32)))
        after(number, params, total)
    return lambda rows: _logits(params, rows)


def _logits(params: Any, x: Any) -> Any:
    for weight, bias in params[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    weight, bias = params[-1]
    return (x @ weight + bias)[:, 0]


def _loss(z: Any, y: Any) -> Any:
    return jnp.mean(jnp.maximum(z, 0) - z * y + jnp.log1p(jnp.exp(-jnp.abs(z))))


def _update(params: Any, total: Any, x: Any, y: Any, rate: float) -> Any:
    def loss(params: Any) -> Any:
        return _loss(_logits(params, x), y)

    value, gradient = jax.value_and_grad(loss)(params)
    return jax.tree.map(lambda p, g: p - rate * g, params, gradient), total + value * len(x)
