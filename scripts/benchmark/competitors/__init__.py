"""The competitors. Each is a function `train(job, clock)` that returns a function from rows to logits.

It calls `clock.epoch()` at the start of every epoch and `clock.end()` when the last one is fully computed. Each adds up
its training loss over an epoch in the cheapest way that its library offers. Nothing else is logged, drawn or saved,
unless the competitor's title says so.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Competitor:
    """One row of the table."""

    name: str
    title: str
    module: str
    function: str
    environment: str = "own"
    """`own`: the project's; `peers`: the other libraries'."""
    workloads: str = "abcd"
    goal: bool = True
    """False for a different computation that is shown for orientation."""


LIST = (
    Competitor("ours", "gluon-trainer, default plugins", "ours", "default_plugins"),
    Competitor("ours-bare", "gluon-trainer, no plugins", "ours", "no_plugins"),
    Competitor("ours-step", "gluon-trainer's step without the engine", "ours", "step_loop"),
    Competitor("notebook", "the notebook's loop (Gluon, DataLoader)", "gluon", "notebook"),
    Competitor("gluon-tuned", "Gluon by hand: hybridized, arrays in memory", "gluon", "tuned"),
    Competitor("estimator", "Gluon Estimator", "gluon", "estimator"),
    Competitor("torch", "PyTorch, DataLoader", "pytorch", "data_loader", "peers"),
    Competitor("torch-memory", "PyTorch, tensors in memory", "pytorch", "in_memory", "peers"),
    Competitor("lightning", "Lightning, DataLoader", "lightning_module", "data_loader", "peers"),
    Competitor("lightning-memory", "Lightning, tensors in memory", "lightning_module", "in_memory", "peers"),
    Competitor("ignite", "Ignite, DataLoader", "ignite_engine", "data_loader", "peers"),
    Competitor("skorch", "skorch", "skorch_net", "fit", "peers"),
    Competitor("keras", "Keras 3 on JAX", "keras_model", "fit", "peers"),
    Competitor("sklearn", "scikit-learn, MLPClassifier", "scikit", "mlp", "peers"),
    Competitor("sklearn-sgd", "scikit-learn, SGDClassifier (row by row)", "scikit", "sgd", "peers", "c", goal=False),
    Competitor("jax", "JAX, one jitted step", "jax_step", "steps", "peers"),
    Competitor("jax-scan", "JAX, an epoch in one scan", "jax_step", "scan", "peers", goal=False),
)

BY_NAME = {competitor.name: competitor for competitor in LIST}
