"""The parts of Optuna that a study is made of."""

from __future__ import annotations

from typing import Any

from trainer import UsageError


def import_optuna() -> Any:
    """Optuna, with only errors logged. Raises UsageError if it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise UsageError(
            f"Optuna cannot be imported: {error}", where="trainer tune", fix="pip install 'gluon-trainer[tune]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def storage_at(url: str) -> Any:
    """The storage at a URL. SQLite waits up to a minute for a lock, because several processes write to it."""
    arguments = {"connect_args": {"timeout": 60}} if url.startswith("sqlite:") else {}
    return import_optuna().storages.RDBStorage(url, engine_kwargs=arguments)


def pruner_of(name: str) -> Any:
    """Optuna's pruner: `median`, `halving`, `hyperband` or `none`."""
    pruners = import_optuna().pruners
    return {
        "median": pruners.MedianPruner,
        "halving": pruners.SuccessiveHalvingPruner,
        "hyperband": pruners.HyperbandPruner,
        "none": pruners.NopPruner,
    }[name]()


def sampler_of(name: str, seed: int) -> Any:
    """Optuna's sampler: `tpe`, or random for any other name."""
    samplers = import_optuna().samplers
    return samplers.TPESampler(seed=seed) if name == "tpe" else samplers.RandomSampler(seed)
