"""Turns `fit(net, train=…, loss=…)` into a launch, and checks the arguments before training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from trainer.catalog import registry
from trainer.config import options
from trainer.config.settings import FLAGS, Settings, kebab, read_config
from trainer.errors import UsageError, did_you_mean, listed
from trainer.events import Plugin
from trainer.launch.launch import Launch
from trainer.launch.prepare import Request, prepare_run
from trainer.launch.resume import prepare_resume
from trainer.losses import check_loss
from trainer.nets.naming import NET
from trainer.nets.splits import rows_from, rows_or_fraction
from trainer.nets.task import NetTask
from trainer.runs import folder
from trainer.runs.find import find_run
from trainer.runs.names import DEFAULT_RUNS

OWN = ("train", "validation", "calibration", "loss", "metrics", "resume", "changed_data")
"""Keywords with a meaning for a bare net only; for a task they are its options."""
NEW_ENDS = ("epochs", "steps", "devices")
"""Arguments that a resumed run may be given again."""


ESTIMATORS = {
    "batches": "Did you mean 'steps'?",
    "data": "Did you mean 'train'?",
    "train_data": "Did you mean 'train'?",
    "val_data": "Did you mean 'validation'?",
    "val_metrics": "Did you mean 'metrics'?",
    "event_handlers": "Handlers are given within a plugin: plugins=[…].",
}
"""Keywords of MXNet's Estimator and of tasks, and what takes their place."""


def prepare_net(net: Any, request: Request) -> Launch:
    """A launch of a net from what `fit` was called with. Raises UsageError for arguments that contradict each other."""
    values = {key.replace("-", "_"): value for key, value in request.options.items()}
    own = {key: values.pop(key, None) for key in OWN}
    names, left_out = _default_plugins(values, with_folder=bool(request.runs_dir or own["resume"]))
    _check_options(values)
    task = _task(net, own)
    _check_batch_size(task, values)
    if own["resume"] is not None:
        for argument, given in (("name", request.name), ("config", request.config or None)):
            if given is not None:
                raise UsageError(
                    f"{argument}= cannot be combined with resume=: the run has a name and a configuration",
                    where="fit",
                    fix="Leave it out.",
                )
        request = replace(request, without=[*request.without, *left_out])
        return _resumed(task, own["resume"], values, request, changed_data=own["changed_data"] or "refuse")
    if own["changed_data"] is not None:
        raise UsageError("changed_data= is about a resumed run", where="fit", fix="Add resume=, or leave it out.")
    if request.name is not None and request.runs_dir is None:
        raise UsageError("name= needs a folder for runs", where="fit", fix="Add runs_dir='runs'.")
    named = {registry.name_of(each) if isinstance(each, Plugin) else each for each in request.plugins}
    configured = {key for path in request.configs for key in read_config(path)}
    if "plugins" in configured:
        names = []
    names = [each for each in names if each not in named and each not in left_out and not registry.block_of(each)]
    options = {kebab(key): value for key, value in values.items()}
    return prepare_run(replace(request, task=task, options=options, plugins=[*names, *request.plugins]))


def _task(net: Any, own: Mapping[str, Any]) -> NetTask:
    if own["train"] is None:
        raise UsageError("there are no rows to train on", where="fit", fix="Give them: fit(net, train=(X, y), loss=…).")
    loss = check_loss(own["loss"])
    train = rows_from(own["train"], "train")
    others = {split: rows_or_fraction(own[split], split) for split in ("validation", "calibration")}
    metrics = own["metrics"]
    if metrics is not None and not isinstance(metrics, (list, tuple)):
        metrics = [metrics]
    return NetTask.around(net, loss, metrics, train, **others)


def _default_plugins(values: dict[str, Any], *, with_folder: bool) -> tuple[list[str], list[str]]:
    """The default plugins of a net, and those that the call switches off with `NAME=False`."""
    by_folder: Mapping[bool, Sequence[str]] = registry.our_default("net") or {}
    left_out = []
    for each in by_folder.get(True, ()):
        given = values.pop(each.replace("-", "_"), True)
        if not isinstance(given, bool):
            raise UsageError(
                f"{each}={given!r} is not True or False",
                where="fit",
                fix=f"Options go to an instance or a configuration: trainer plugins show {each}.",
            )
        if not given:
            left_out.append(each)
    return list(by_folder.get(with_folder, ())), left_out


def _check_batch_size(task: NetTask, values: Mapping[str, Any]) -> None:
    """Raises UsageError for a batch size that batches which are made elsewhere do not have."""
    given, rows = values.get("batch_size"), task.train_rows
    if given is None or rows is None or rows.batches is None:
        return
    if not len(rows.labels):
        next(iter(rows.batches))
    if given != len(rows.labels):
        raise UsageError(
            f"the training rows come in batches of {len(rows.labels)}, so {given} has no effect",
            where="batch_size",
            fix="Leave it out, and give it to the DataLoader.",
        )


def _check_options(values: Mapping[str, Any]) -> None:
    """Raises UsageError for an unknown keyword."""
    from trainer.data.tables.options import ClassOptions

    of_tables = {each.name for each in fields(ClassOptions)}
    known = [*(field for field in Settings.model_fields), *(flag.replace("-", "_") for flag in FLAGS)]
    for key in values:
        if key not in known:
            every = [*OWN, *known, "plugins", "without", "config", "runs_dir", "name", "compiled"]
            if key in of_tables - set(ESTIMATORS):
                raise UsageError(
                    f"{key!r} is an option of tasks that read tables, not of a net",
                    fix=f'Name such a task: fit("TASK", data=…, {key}=…).',
                )
            hint = ESTIMATORS.get(key) or did_you_mean(key, every) or f"For a net there are: {listed(every, 99)}."
            raise UsageError(f"fit has no option {key!r} for a net", fix=hint)


def _resumed(task: NetTask, run: Any, values: Mapping[str, Any], request: Request, *, changed_data: str) -> Launch:
    """Continues a run of the same net. Raises UsageError if the arguments differ from those of the run."""
    if not isinstance(run, (str, Path)):
        run = getattr(run, "folder", None)
        if run is None:
            raise UsageError("that run has no folder to continue in", where="resume", fix="Give the path of a folder.")
    runs_dir = request.runs_dir or DEFAULT_RUNS
    path = find_run(run, runs_dir)
    config = read_config(path / folder.CONFIG)
    _check_task(task, config, path)
    ends = {key: value for key, value in values.items() if key in NEW_ENDS and value != config.get(key)}
    _check_same({key: value for key, value in values.items() if key not in NEW_ENDS}, request.optimizer, config)
    used = config.get("plugins", {})
    for name in [each for each in request.plugins if isinstance(each, str)]:
        if name not in used:
            raise UsageError(f"the run does not use the plugin {name!r}", where="plugins", fix="Leave it out.")
    return prepare_resume(
        path,
        **ends,
        task=task,
        plugins=[each for each in request.plugins if isinstance(each, Plugin)],
        without=[each for each in request.without if each in used],
        runs_dir=runs_dir,
        changed_data=changed_data,
    )


def _check_task(task: NetTask, config: Mapping[str, Any], path: Path) -> None:
    was = config.get("task", {})
    if was.get("name") != NET:
        raise UsageError(
            f"it is a run of the task {was.get('name')!r}",
            where=f"resume={str(path)!r}",
            fix="Continue it with trainer.resume(path).",
        )
    now = {"name": NET, **options.to_toml(task)}
    words = {
        "net-name": "net",
        "loss-name": "loss",
        "validation-part": "validation",
        "calibration-part": "calibration",
    }
    for key in dict.fromkeys([*words, *now]):
        if now.get(key) != was.get(key):
            raise UsageError(
                f"the run has {words.get(key, key)} {_said(was.get(key))}, this call {_said(now.get(key))}",
                where="resume",
                fix="Give the arguments that the run was started with.",
            )


def _check_same(values: Mapping[str, Any], optimizer: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raises UsageError for a setting, or an argument of the optimizer, that differs from the run's."""
    given: list[tuple[str, Any, Any]] = []
    for key, value in values.items():
        section, inner = FLAGS.get(kebab(key), ("", kebab(key)))
        given.append((key, value, config.get(section, {}).get(inner) if section else config.get(inner)))
    given += [(key, value, config.get("optimizer", {}).get(key)) for key, value in optimizer.items()]
    for key, value, was in given:
        if value is not None and _folded(value) != _folded(was):
            raise UsageError(
                f"the run has {key}={was!r}, this call {value!r}",
                where="resume",
                fix="Leave it out: a run is continued with its own settings.",
            )


def _folded(value: Any) -> Any:
    """Names count whatever their capitals."""
    return value.lower() if isinstance(value, str) else value


def _said(value: Any) -> str:
    return "none" if value is None else repr(value)
