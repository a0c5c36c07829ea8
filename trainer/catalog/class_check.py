"""Checks the class of a plugin or a task before it is used."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from trainer.catalog.api_version import why_unfit
from trainer.config.options import options_of
from trainer.config.settings import FLAGS, Settings, kebab
from trainer.errors import UsageError, did_you_mean, listed
from trainer.events import EVENTS, EVERY_PLUGIN, Plugin
from trainer.task import Task

COMMON_OPTIONS = (
    {kebab(name) for name in Settings.model_fields}
    | set(FLAGS)
    | {"plugin", "no-plugin", "set", "config", "runs-dir", "name", "dry-run"}
)
"""The options that every task has."""


def check_class(cls: type[Any], *, where: str) -> None:
    """Raises UsageError, with `where`, for the class of a plugin or a task that cannot work.

    The reason is another version of the API, an option that hides a common one or whose type cannot be read, or a hook
    that would never be called or cannot be.
    """
    what, fix = why_unfit(getattr(cls, "api", ""))
    if what:
        raise UsageError(what, where=where, fix=fix)
    try:
        own = {option.name for option in options_of(cls)}
    except UsageError as error:
        raise UsageError(error.what, where=where, fix=error.fix) from error
    if issubclass(cls, Task):
        _refuse_shadowing(own & COMMON_OPTIONS, where)
    if issubclass(cls, Plugin):
        fields: set[str] = {field.name for field in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()
        _refuse_shadowing({kebab(name) for name in fields & EVERY_PLUGIN}, where)
        for attribute in dir(cls):
            if attribute.startswith("on_") and attribute != "on_error":
                _check_hook(cls, attribute, where)


def _refuse_shadowing(shadowed: set[str], where: str) -> None:
    if shadowed:
        raise UsageError(
            f"its options {listed(sorted(shadowed))} have the names of common options",
            where=where,
            fix="Rename the fields.",
        )


def _check_hook(cls: type[Plugin], attribute: str, where: str) -> None:
    if attribute.removeprefix("on_") not in EVENTS:
        hint = did_you_mean(attribute, [f"on_{event}" for event in EVENTS])
        fix = hint or f"The hooks are {listed((f'on_{event}' for event in EVENTS), limit=99)}."
        raise UsageError(f"there is no event for its method {attribute}", where=where, fix=fix)
    method = getattr(cls, attribute)
    fix = f"Write it as: def {attribute}(self, run)."
    if not callable(method) or inspect.iscoroutinefunction(method):
        raise UsageError(f"{attribute} is not an ordinary method", where=where, fix=fix)
    taken = [
        parameter
        for parameter in inspect.signature(method).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        or (parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty)
    ]
    required = [parameter for parameter in taken if parameter.default is parameter.empty]
    if len(required) != 2 or required != taken[:2] or required[-1].kind is inspect.Parameter.KEYWORD_ONLY:
        raise UsageError(f"{attribute} has to take exactly one argument, the run", where=where, fix=fix)
