"""The state of a run: `capture` collects it for a checkpoint, and `restore` loads it.

A run resumed from a captured state equals, bit for bit, one that never stopped. The state therefore holds everything
that the next step could read: weights and running statistics, the optimizer's states and counters, the position, open
requests, logged values, the running sums of the losses, and each plugin's `state_dict`. The order of the rows and the
random numbers are functions of the seed and the position; their only state is where MXNet's generator was last seeded.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.errors import PluginError, UsageError
from trainer.evaluation import of_state, state_of
from trainer.events import Plugin
from trainer.runs.changed_data import ChangedData, check_room, check_rows

if TYPE_CHECKING:
    from trainer.engine_state import EngineState
    from trainer.run import Run
    from trainer.step.parameters import Parameters

log = logging.getLogger("trainer")

COUNTED = ("epoch", "step", "step_in_epoch", "updates", "epoch_rows", "within_epoch", "started")
"""Attributes of a Run that go into the state unchanged."""


def capture(run: Run, state: EngineState) -> dict[str, Any]:
    """The state between two steps. Reads every parameter, so it waits for the device.

    Raises PluginError for a plugin whose `state_dict` fails, unless its `on_error` is `disable`.
    """
    parameters = state.step.parameters
    return {
        "run": {
            **{name: getattr(run, name) for name in COUNTED},
            **run.copy_decision(),
            **state.log.state_dict(),
            **state.requests.state_dict(),
            "seeded_at": state.seeder.seeded_at,
            "seconds": run.seconds,
            "ledger": state.ledger.rows(),
        },
        "rows": run.train.rows,
        "split_version": state.split_version,
        "data": None if run.fingerprint is None else run.fingerprint.to_json(),
        "evaluation": _last_evaluation(run),
        "loss": state.step.loss.state_dict(),
        "parameters": parameters.copy(),
        "optimizer": {
            "name": type(run.optimizer).__name__.lower(),
            "groups": [list(group.names) for group in parameters.groups],
            "states": parameters.states,
            "attributes": _attributes(run.optimizer),
            "updates": {str(index): count for index, count in run.optimizer._index_update_count.items()},  # noqa: SLF001
            **({"changes": changes} if (changes := parameters.changes()) else {}),
        },
        "plugins": {**state.kept, **_of_plugins(run, state)},
    }


def restore(run: Run, state: EngineState, saved: Mapping[str, Any]) -> None:
    """Puts a captured state, after `check`, into a run that was rebuilt from the same configuration.

    Raises PluginError for a plugin that cannot restore its own state.
    """
    parameters, optimizer = state.step.parameters, saved["optimizer"]
    for name in COUNTED:
        setattr(run, name, saved["run"][name])
    run.set_decision(saved["run"])
    run.resumed = True
    state.log.load_state_dict(saved["run"])
    state.requests.load_state_dict(saved["run"])
    state.seconds_before = saved["run"]["seconds"]
    state.ledger.add(saved["run"]["ledger"])
    if saved.get("evaluation") is not None:
        run.evaluation = of_state(saved["evaluation"], lambda: run.acting)
    state.seeder.seeded_at = saved["run"]["seeded_at"]
    if run.within_epoch:
        state.seeder.replay(run.step, lambda count: run.train.epoch(run.epoch, skip=run.step_in_epoch - count))
    parameters.assign(saved["parameters"])
    for held, values in zip(parameters.states, optimizer["states"], strict=True):
        _fill(held, values)
    for name, value in optimizer["attributes"].items():
        setattr(run.optimizer, name, _with_numbered_keys(value, getattr(run.optimizer, name, None)))
    parameters.remember_numbers()
    counts = run.optimizer._index_update_count  # noqa: SLF001  MXNet has no public way to its counters
    counts.clear()
    counts.update({int(index): count for index, count in optimizer["updates"].items()})
    state.step.loss.load_state_dict(saved["loss"])
    _to_plugins(state, saved["plugins"])


def _last_evaluation(run: Run) -> dict[str, Any] | None:
    """The newest evaluation, if only the final events follow: they use it, and no epoch will compute it again."""
    is_over = not run.within_epoch and (run.epoch >= run.settings.epochs or run.requested("stop") is not None)
    if not is_over or run.evaluation is None or run.evaluation.split != "validation":
        return None
    return state_of(run.evaluation)


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """The paths at which two captured states differ in any bit. Times and saves may differ."""
    found: list[str] = []
    _compare(_without_times(first), _without_times(second), "", found)
    return found


# ---- plugins --------------------------------------------------------------------------------------------------------


def _of_plugins(run: Run, state: EngineState) -> dict[str, Any]:
    states = {}
    for plugin in run.plugins:
        try:
            states[plugin.name] = plugin.state_dict()
        except Exception as error:
            fatal = state.plugin_failed(plugin, "state_dict", run, error)
            if fatal is not None:
                raise fatal from error
    return states


def _to_plugins(state: EngineState, states: Mapping[str, Any]) -> None:
    plugins = {plugin.name: plugin for plugin in state.plugins}
    for name, plugin in plugins.items():
        if name not in states:
            if type(plugin).state_dict is not Plugin.state_dict:
                log.warning("the checkpoint has no state for plugin %r, which starts from its initial state", name)
            continue
        try:
            plugin.load_state_dict(states[name])
        except UsageError:
            raise
        except Exception as error:
            raise PluginError(
                f"plugin {name!r} cannot load the state that it saved: {type(error).__name__}: {error}"
            ) from error
    state.kept = {name: kept for name, kept in states.items() if name not in plugins}
    for name in (name for name, kept in state.kept.items() if kept):
        log.warning("the checkpoint has state for plugin %r, which this run does not use; the state is kept", name)


# ---- the optimizer --------------------------------------------------------------------------------------------------

CONFIGURED = frozenset(
    {"param_dict", "idx2name", "sym_info", "lr_scheduler", "_index_update_count", "_all_index_update_counts"}
)
"""Attributes of an optimizer that describe its configuration, or that are saved separately."""


def _attributes(optimizer: Any) -> dict[str, Any]:
    """What an optimizer accumulates besides its states, such as Nadam's momentum schedule and LBSGD's sums."""
    numbers = (int, float)
    return {
        name: _with_text_keys(value)
        for name, value in vars(optimizer).items()
        if name not in CONFIGURED and (isinstance(value, numbers) or _is_numbered(value))
    }


def _is_numbered(value: Any) -> bool:
    """Whether a value is a dictionary from parameter numbers to numbers, arrays, or dictionaries of those."""
    return isinstance(value, dict) and bool(value) and all(isinstance(key, int) for key in value) and _plain(value)


def _plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_plain(part) for part in value.values())
    return isinstance(value, (int, float)) or hasattr(value, "asnumpy")


def _with_text_keys(value: Any) -> Any:
    return {str(key): part for key, part in value.items()} if isinstance(value, dict) else value


def _with_numbered_keys(value: Any, like: Any) -> Any:
    """The inverse of `_with_text_keys`; arrays become NDArrays again."""
    if not isinstance(value, dict):
        return value
    return {int(key): _as_arrays(part) for key, part in value.items()} if isinstance(like, dict) else value


def _as_arrays(value: Any) -> Any:
    from trainer.mxnet import mx

    if isinstance(value, dict):
        return {key: _as_arrays(part) for key, part in value.items()}
    return mx.nd.array(value, dtype=value.dtype) if hasattr(value, "dtype") else value


def _fill(held: Any, saved: Any) -> None:
    """Writes saved states into the arrays that the optimizer works with."""
    if held is None:
        return
    if isinstance(held, (list, tuple)):
        for part, value in zip(held, saved, strict=True):
            _fill(part, value)
        return
    held[:] = saved


# ---- checks ---------------------------------------------------------------------------------------------------------


def check(
    run: Run, engine_state: EngineState, state: Mapping[str, Any], *, changed_data: ChangedData = "refuse"
) -> None:
    """Raises UsageError if the data, the net or the optimizer are not those of the state.

    Only shapes of arrays are looked at, so they need not have been read yet. Changes of the parameters' settings are
    made again, since the groups of the optimizer's states depend on them.
    """
    parameters = engine_state.step.parameters
    check_rows(run, engine_state.split_version, state, changed_data=changed_data)
    saved = state["parameters"]
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.named.items()}
    if {name: value.shape for name, value in saved.items()} != shapes:
        names = sorted(name for name in shapes.keys() | saved.keys() if not _equal(shapes.get(name), saved.get(name)))
        raise UsageError(
            f"the net is not the one that was saved: {', '.join(names[:5])} differ",
            where="the checkpoint",
            fix="Give the run the options and the code that it was started with.",
        )
    _repeat_changes(parameters, state["optimizer"].get("changes", {}))
    groups = [list(group.names) for group in parameters.groups]
    name = type(run.optimizer).__name__.lower()
    if (state["optimizer"]["name"], state["optimizer"]["groups"]) != (name, groups):
        raise UsageError(
            f"the optimizer is {name}, but its saved states are those of {state['optimizer']['name']}"
            if state["optimizer"]["name"] != name
            else "the optimizer's states were saved for other groups of parameters",
            where="the checkpoint",
            fix="Give the run the options that it was started with.",
        )

    _check_optimizer(run, parameters, state["optimizer"])
    _check_position(run, state["run"], changed_data)
    sums, contexts = state["loss"]["sums"], state["loss"]["contexts"]
    if len(sums) != len(contexts) or any(len(held.shape) != 1 or held.dtype.kind != "f" for held in sums):
        raise _damaged("the sums of the loss are not one array of numbers for each context")
    if any({"epoch", "step"} - entry.keys() for entry in state["run"]["history"]):
        raise _damaged("an entry of the history is of no epoch")


def _repeat_changes(parameters: Parameters, changes: Mapping[str, Any]) -> None:
    """Makes the changes of settings again that the saved run had made since it was built."""
    settings = changes.get("settings", {})
    known = {*settings, *changes.get("late", ())} <= parameters.named.keys()
    whole = all(len(each) == 3 and each[0] in ("null", "write") for each in settings.values())
    if not known or not whole or any(not 0 <= index < len(parameters.groups) for index in changes.get("split", ())):
        raise _damaged("its changes of parameters are not of this net")
    parameters.repeat(changes)


def _check_optimizer(run: Run, parameters: Parameters, saved: Mapping[str, Any]) -> None:
    """The states have the shapes of this optimizer's, and its attributes are among those that it accumulates."""
    known = {name: value for name, value in vars(run.optimizer).items() if name not in CONFIGURED}
    for name, value in saved["attributes"].items():
        if name not in known or not _is_alike(value, known[name]):
            raise _damaged(f"the optimizer has no attribute {name!r} of that kind")
    if not _has_form(parameters.states, saved["states"]):
        raise _damaged("the optimizer's states do not have the shapes of the net's parameters")


def _check_position(run: Run, saved: Mapping[str, Any], changed_data: ChangedData) -> None:
    """The position is one that the data have, and the generator was seeded within the steps before it."""
    within, at = saved["step_in_epoch"], saved["seeded_at"]
    # Unknown for a DataLoader that does not say.
    batches = run.train.batches_per_epoch
    if changed_data == "ok":
        check_room(saved, batches)
        batches = None
    if within > min(saved["step"], batches or within) or (saved["within_epoch"] and not saved["epoch"]):
        raise _damaged(f"it is at step {within} of an epoch with {batches}")
    if saved["within_epoch"] and at is not None and not 0 <= saved["step"] - at < within:
        raise _damaged(f"random numbers were seeded at step {at}, which is not in the epoch of step {saved['step']}")


def _is_alike(saved: Any, own: Any) -> bool:
    if isinstance(own, dict):
        # Its keys are numbers of parameters, and its values numbers and arrays.
        return (
            isinstance(saved, dict) and all(key.isdecimal() and len(key) < 10 for key in saved) and _plain_form(saved)
        )
    return _is_number(saved) and isinstance(saved, bool) == isinstance(own, bool)


def _is_number(value: Any) -> bool:
    # MXNet refuses numbers that do not fit into 32 bits.
    return isinstance(value, (int, float)) and not abs(value) >= 1e30


def _plain_form(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_plain_form(part) for part in value.values())
    return _is_number(value) or hasattr(value, "dtype")


def _has_form(held: Any, saved: Any) -> bool:
    """Whether a saved state is made of arrays as the held one is."""
    if held is None:
        return saved is None
    if isinstance(held, (list, tuple)):
        return isinstance(saved, list) and len(saved) == len(held) and all(map(_has_form, held, saved))
    return hasattr(saved, "shape") and tuple(saved.shape) == tuple(held.shape) and saved.dtype.kind in "fiub"


def _damaged(what: str) -> UsageError:
    return UsageError(
        f"its state is damaged: {what}", where="the checkpoint", fix="Resume from an older one with --from."
    )


def _equal(shape: Any, value: Any) -> bool:
    return value is not None and value.shape == shape


def _without_times(state: Mapping[str, Any]) -> dict[str, Any]:
    run = {name: value for name, value in state["run"].items() if name not in ("started", "seconds", "ledger")}
    if "decisions" in run:
        run["decisions"] = [each for each in run["decisions"] if each["action"] != "save"]
    return {**state, "run": run}


def _compare(first: Any, second: Any, path: str, found: list[str]) -> None:
    first, second = (value.asnumpy() if hasattr(value, "asnumpy") else value for value in (first, second))
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for key in dict.fromkeys([*first, *second]):
            _compare(first.get(key), second.get(key), f"{path}/{key}" if path else str(key), found)
    elif isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)) and len(first) == len(second):
        for number, (one, other) in enumerate(zip(first, second, strict=True)):
            _compare(one, other, f"{path}/{number}", found)
    elif isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        if (first.dtype, first.shape, first.tobytes()) != (second.dtype, second.shape, second.tobytes()):
            found.append(path)
    elif repr(first) != repr(second):  # compared as text, so that NaN equals NaN
        found.append(path)
