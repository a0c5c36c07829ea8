"""`fit`: a training from Python, in one call."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

import trainer.environment  # noqa: F401  a plain `import mxnet` works after the import of `fit`
from trainer.config.settings import kebab
from trainer.errors import UsageError, type_of
from trainer.events import Plugin
from trainer.launch.prepare import Request, prepare_run
from trainer.run import Run
from trainer.runs.names import DEFAULT_RUNS
from trainer.task import Task


@overload
def fit(
    task: str | Task | type[Task],
    *,
    plugins: Sequence[str | Plugin] = (),
    without: Sequence[str] = (),
    config: str | Path | Sequence[str | Path] | None = None,
    runs_dir: str | Path | None = DEFAULT_RUNS,
    name: str | None = None,
    compiled: bool = True,
    **values: Any,
) -> Run: ...
@overload
def fit(
    task: Any,
    *,
    train: Any,
    loss: Any,
    validation: Any = None,
    calibration: Any = None,
    metrics: Any = None,
    epochs: int = 10,
    batch_size: int = 32,
    optimizer: str | Mapping[str, Any] = "adam",
    learning_rate: float | None = None,
    resume: str | Path | Run | None = None,
    changed_data: Literal["refuse", "ok"] = "refuse",
    plugins: Sequence[str | Plugin] = (),
    without: Sequence[str] = (),
    config: str | Path | Sequence[str | Path] | None = None,
    runs_dir: str | Path | None = None,
    name: str | None = None,
    compiled: bool = True,
    **values: Any,
) -> Run: ...
def fit(
    task: Any,
    *,
    plugins: Sequence[str | Plugin] = (),
    without: Sequence[str] = (),
    config: str | Path | Sequence[str | Path] | None = None,
    runs_dir: str | Path | None = DEFAULT_RUNS,
    name: str | None = None,
    compiled: bool = True,
    **values: Any,
) -> Run:
    """Trains a task or a Gluon net, and returns the finished run.

    A task is given by its name, as an instance, or as a class whose options are keywords. `values` are the options of
    `trainer run <task>` with underscores: `fit("my-task", epochs=3, learning_rate=0.05)`.

    A net is trained itself: `fit(net, train=(X, y), loss="softmax-cross-entropy")`. `train`, `validation` and
    `calibration` are tuples (X, y) or (X, y, weights) of arrays (rows, …), `Arrays`, a Gluon `DataLoader`, or an
    iterable of batches that can be iterated again; X is a tuple for several inputs, and a number between 0 and 1 is a
    part of the training rows. `loss` is a name, a Gluon loss or a function of (outputs, labels) that gives one value
    per row; `metrics` are names, metrics, or `mx.metric.EvalMetric`s. `resume` continues a run in its folder, with the
    same data unless `changed_data` is `ok`. Weights that the net has are kept; others are drawn from the seed. A
    default plugin's name with False leaves it out.

    `plugins` adds to the suggested ones, by name or as instances; `without` leaves some of them out. `config` is a file
    or a list of files, each laid over those before it. `optimizer` is a name, or a dict with `name` and its arguments.
    `runs_dir=None`, the default for a net, writes nothing. The run has `metrics` (the newest value of each) and
    `history` (one dict per epoch).

    Raises UsageError for what the caller can fix, PluginError for a plugin that failed, Interrupted after Ctrl-C or
    SIGTERM.
    """
    options, optimizer = _split_optimizer(values)
    request = Request(
        task,
        options={kebab(key): value for key, value in options.items()},
        optimizer=optimizer,
        plugins=_several(plugins, "plugins"),
        without=_several(without, "without"),
        config=_paths(config, "config"),
        runs_dir=_path(runs_dir, "runs_dir"),
        name=name,
        python=True,
    )
    if _is_net(task):
        from trainer.nets.launch import prepare_net

        # By identity: a folder that happens to have the default's name was asked for.
        launch = prepare_net(task, replace(request, runs_dir=None) if runs_dir is DEFAULT_RUNS else request)
    else:
        launch = prepare_run(request)
    return launch.train(compiled=compiled)


def _several(given: Any, argument: str) -> Sequence[Any]:
    """A list of plugins or names. Raises UsageError for a single one."""
    if isinstance(given, (list, tuple)):
        return given
    shown = repr(given) if isinstance(given, str) else "the plugin"
    raise UsageError(f"{given!r} is not a list", where=argument, fix=f"Give a list: {argument}=[{shown}].")


def _paths(given: Any, argument: str) -> list[Path]:
    several = given if isinstance(given, (list, tuple)) else [given]
    return [path for each in several if (path := _path(each, argument)) is not None]


def _path(given: Any, argument: str) -> Path | None:
    if given is None or isinstance(given, (str, Path)):
        return None if given is None else Path(given)
    raise UsageError(f"{given!r} is not a path", where=argument, fix="Give a path as a string or a pathlib.Path.")


def _is_net(task: Any) -> bool:
    """Whether it is a Gluon block. Raises UsageError for a block's class."""
    if isinstance(task, (str, Task)) or "mxnet" not in sys.modules:
        return False
    from trainer.mxnet import gluon

    if isinstance(task, type) and issubclass(task, gluon.Block):
        raise UsageError(
            f"{task.__name__} is a class", where="fit", fix=f"Give an instance: fit({task.__name__}(…), …)."
        )
    return isinstance(task, gluon.Block)


def _split_optimizer(values: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The options with the optimizer's name, and its further arguments in kebab-case.

    Raises UsageError for an object of MXNet's in place of a name.
    """
    given = values.get("optimizer")
    if given is None or isinstance(given, str):
        return values, {}
    if not isinstance(given, Mapping):
        raise UsageError(
            f"it is {type_of(given)}, not a name or a dict",
            where="optimizer",
            fix='Give its name and arguments: optimizer="sgd", learning_rate=0.1, or '
            'optimizer={"name": "sgd", "learning_rate": 0.1, "momentum": 0.9}.',
        )
    arguments = {kebab(str(key)): value for key, value in given.items()}
    name = arguments.pop("name", None)
    if not isinstance(name, str):
        raise UsageError("its dict has no name", where="optimizer", fix='Write {"name": "sgd", …}.')
    rates = {
        flag.replace("-", "_"): arguments.pop(flag) for flag in ("learning-rate", "weight-decay") if flag in arguments
    }
    return {**rates, **values, "optimizer": name}, arguments
