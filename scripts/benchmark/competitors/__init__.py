"""The competitors. Each is a function `train(job, clock)` that returns a function from rows to logits.

It calls `clock.epoch()` at the start of every epoch and `clock.end()` when the last one is fully computed. Each adds up
its training loss over an epoch in the cheapest way that its library offers. Nothing else is logged, drawn or saved,
unless the competitor's title says so.

In a whole training (`Competitor.whole`) each also computes loss and accuracy of `job.validation` after every epoch, and
writes them with the training loss for TensorBoard and into a log, as its documentation does it. `clock.end()` then
comes after the files are closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


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
    """The workloads that it has a row in, by default all trainings; `whole` decides about the whole one."""
    whole: str = ""
    """The function for a whole training; empty if the library has no way to validate and log."""
    goal: bool = True
    """False for a different computation that is shown for orientation."""
    paths: Sequence[Path] = ()
    """Folders from which it imports before anything that is installed."""

    def takes_part(self, workload: str) -> bool:
        """Whether it has a row in a workload."""
        return bool(self.whole) if workload == "l" else workload in self.workloads


LIST = (
    Competitor("ours", "gluon-trainer, default plugins", "ours", "default_plugins", whole="whole"),
    Competitor("ours-bare", "gluon-trainer, no plugins", "ours", "no_plugins"),
    Competitor("ours-step", "gluon-trainer's step without the engine", "ours", "step_loop", whole="step_loop"),
    Competitor("notebook", "the notebook's loop (Gluon, DataLoader)", "gluon", "notebook"),
    Competitor("gluon-tuned", "Gluon by hand: hybridized, arrays in memory", "gluon", "tuned", whole="whole"),
    Competitor("estimator", "Gluon Estimator", "gluon", "estimator", whole="whole_estimator"),
    Competitor("torch", "PyTorch, DataLoader", "pytorch", "data_loader", "peers", whole="whole"),
    Competitor("torch-memory", "PyTorch, tensors in memory", "pytorch", "in_memory", "peers", whole="whole_in_memory"),
    Competitor("lightning", "Lightning, DataLoader", "lightning_module", "data_loader", "peers", whole="whole"),
    Competitor(
        "lightning-memory",
        "Lightning, tensors in memory",
        "lightning_module",
        "in_memory",
        "peers",
        whole="whole_in_memory",
    ),
    Competitor("ignite", "Ignite, DataLoader", "ignite_engine", "data_loader", "peers", whole="whole"),
    Competitor("skorch", "skorch", "skorch_net", "fit", "peers", whole="whole"),
    Competitor("keras", "Keras 3 on JAX", "keras_model", "fit", "peers", whole="whole"),
    Competitor("sklearn", "scikit-learn, MLPClassifier", "scikit", "mlp", "peers"),
    Competitor("sklearn-sgd", "scikit-learn, SGDClassifier (row by row)", "scikit", "sgd", "peers", "c", goal=False),
    Competitor("jax", "JAX, one jitted step", "jax_step", "steps", "peers", whole="whole"),
    Competitor("jax-scan", "JAX, an epoch in one scan", "jax_step", "scan", "peers", goal=False),
    Competitor("ours-step-sgd", "gluon-trainer's step, SGD", "categorical_ours", "sgd_step", workloads="mn"),
    Competitor("ours-step-ftrl", "gluon-trainer's step, FTRL", "categorical_ours", "ftrl_step", workloads="mn"),
    Competitor(
        "ours-fit-ftrl", "gluon-trainer, fit with default plugins, FTRL", "categorical_ours", "ftrl_fit", workloads="m"
    ),
    Competitor("vw-sgd", "Vowpal Wabbit, --sgd (row by row)", "categorical_vw", "sgd", "peers", "mn"),
    Competitor("vw-ftrl", "Vowpal Wabbit, --ftrl (row by row)", "categorical_vw", "ftrl", "peers", "mn"),
    Competitor(
        "torch-sparse", "PyTorch, EmbeddingBag(sparse=True), SGD", "categorical_peers", "torch_bag", "peers", "mn"
    ),
    Competitor("keras-embedding", "Keras 3 on JAX, Embedding, SGD", "categorical_peers", "keras_sum", "peers", "mn"),
    Competitor(
        "sklearn-hashed", "scikit-learn, SGDClassifier (row by row)", "categorical_peers", "sklearn_sgd", "peers", "mn"
    ),
    Competitor(
        "sklearn-lbfgs",
        "scikit-learn, LogisticRegression to its end",
        "categorical_peers",
        "sklearn_lr",
        "peers",
        "m",
        goal=False,
    ),
)

CATEGORICAL = "mn"
"""The workloads of numbers and many categories."""
BY_NAME = {competitor.name: competitor for competitor in LIST}
