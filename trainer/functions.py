"""`on`: a function as a plugin, for one event."""

from __future__ import annotations

import functools
import inspect
import re
import sys
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, overload

from trainer.errors import UsageError, did_you_mean, listed
from trainer.events import ENDINGS, EVENTS, Phase, Plugin

if TYPE_CHECKING:
    from trainer.run import Run

    Function = Callable[[Run], object]

BY_STEP = ("batch_begin", "backward_end", "batch_end")
BY_EPOCH = ("epoch_begin", "epoch_end", "evaluate_begin", "evaluate_end")
"""Events for which `every` counts: batches, or epochs."""


class FunctionPlugin(Plugin):
    """A plugin that calls one function at one event; `on` makes it. Calling it calls the function.

    It has no state: in a resumed run `once` starts over, and `every` counts by the run's own steps and epochs.
    """

    def __init__(
        self, function: Function, event: str, *, every: int | None, once: bool, name: str | None, phase: Phase
    ) -> None:
        where = f"on.{event}"
        _check(function, every, phase, event, where)
        self.function = function
        self.event = event
        self.every = every or 1
        self.once = once
        # A class attribute of plugins that are written as classes.
        vars(self)["phase"] = phase
        self.name = _name_of(function, where) if name is None else _checked_name(name, where)
        self._called_in: weakref.ReferenceType[Run] | None = None
        functools.update_wrapper(self, function, assigned=("__module__", "__doc__"), updated=())

    def __call__(self, run: Run) -> object:
        """Calls the function, regardless of `every` and `once`."""
        return self.function(run)

    def __repr__(self) -> str:
        return f"<on.{self.event} {self.name}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        """By its name if the function's name stands for the plugin, as below a decorator; otherwise by its parts.

        Another process knows no names of `__main__`.
        """
        name = getattr(self.function, "__qualname__", "")
        if self.__module__ != "__main__" and getattr(sys.modules.get(self.__module__), name, None) is self:
            return str(name)
        every = self.every if self.every > 1 else None
        parts = (self.event, self.function, every, self.once, self.name, self.phase)
        return _made, parts, {"on_error": self.on_error}

    def fire(self, run: Run) -> None:
        """Calls the function if `every` and `once` allow it."""
        count = run.step if self.event in BY_STEP else run.epoch
        if self.every > 1 and count % self.every:
            return
        if self.once:
            if self._called_in is not None and self._called_in() is run:
                return
            self._called_in = weakref.ref(run)
        self.function(run)


def _made(  # noqa: PLR0917  pickle gives them by place
    event: str, function: Function, every: int | None, once: bool, name: str, phase: Phase
) -> FunctionPlugin:
    """The plugin again, as `on` made it."""
    made: Event = getattr(on, event)
    return made(function, every=every, once=once, name=name, phase=phase)


class Event:
    """One event as a decorator: `on.epoch_end(function)`, or `@on.epoch_end`, or `@on.batch_end(every=100)`."""

    def __init__(self, event: str) -> None:
        self._event = event
        # One class per event, because the engine looks at the class to see which events a plugin listens to.
        self._cls = type(
            FunctionPlugin.__name__,
            (FunctionPlugin,),
            {f"on_{event}": _hook, "__module__": __name__, "__doc__": FunctionPlugin.__doc__},
        )

    def __repr__(self) -> str:
        return f"on.{self._event}"

    @overload
    def __call__(
        self,
        function: Function,
        *,
        every: int | None = None,
        once: bool = False,
        name: str | None = None,
        phase: Phase = Phase.MEASURE,
    ) -> FunctionPlugin: ...
    @overload
    def __call__(
        self,
        *,
        every: int | None = None,
        once: bool = False,
        name: str | None = None,
        phase: Phase = Phase.MEASURE,
    ) -> Callable[[Function], FunctionPlugin]: ...
    def __call__(
        self,
        function: Function | None = None,
        *,
        every: int | None = None,
        once: bool = False,
        name: str | None = None,
        phase: Phase = Phase.MEASURE,
    ) -> Any:
        """Turns a function of the run into a plugin; without a function, returns the decorator.

        With `every=n` it is called in every n-th batch or epoch; with `once`, at most once per run. `name` and `phase`
        are those of the plugin; the default name is the function's in kebab-case. Raises UsageError for anything but a
        function of one argument, and for options that have no effect.
        """

        def made(function: Function) -> FunctionPlugin:
            plugin: FunctionPlugin = self._cls(function, self._event, every=every, once=once, name=name, phase=phase)
            return plugin

        return made if function is None else made(function)


class _On:
    """A function as a plugin, one attribute per event: `fit(…, plugins=[on.epoch_end(function)])`.

    `on.batch_end(function, every=100)`; as decorators `@on.epoch_end` and `@on.batch_end(every=100)`. The function
    takes the run. Options: `every`, `once`, `name`, `phase`.
    """

    if TYPE_CHECKING:
        # For editors and type checkers; the attributes are made from EVENTS, and a test compares the two.
        setup: Event
        fit_begin: Event
        epoch_begin: Event
        batch_begin: Event
        backward_end: Event
        batch_end: Event
        evaluate_begin: Event
        evaluate_batch_end: Event
        evaluate_end: Event
        epoch_end: Event
        checkpoint: Event
        exception: Event
        fit_end: Event
        calibration_begin: Event
        calibration_batch_end: Event
        calibration_end: Event
        test_begin: Event
        test_batch_end: Event
        test_end: Event
        teardown: Event
    else:

        def __getattr__(self, name: str) -> Any:
            hint = did_you_mean(name, EVENTS) or f"Events are: {listed(EVENTS, 99)}."
            raise AttributeError(f"there is no event {name!r}. {hint}")

    def __init__(self) -> None:
        for event in EVENTS:
            setattr(self, event, Event(event))

    def __dir__(self) -> list[str]:
        return list(EVENTS)

    def __repr__(self) -> str:
        return "on"


def _hook(self: FunctionPlugin, run: Run) -> None:
    self.fire(run)


def _check(function: Any, every: Any, phase: Any, event: str, where: str) -> None:
    """Raises UsageError for something that cannot be called, and for options that have no effect."""
    if isinstance(function, type) or not callable(function):
        raise UsageError(f"{function!r} is not a function", where=where, fix=f"Give a function: {where}(function).")
    called = function if inspect.isroutine(function) or isinstance(function, functools.partial) else function.__call__
    if inspect.iscoroutinefunction(called):
        raise UsageError("it is a coroutine function, which is never awaited", where=where, fix="Use def.")
    try:
        inspect.signature(function).bind(None)
    except ValueError:
        pass  # a function without a signature, such as print
    except TypeError:
        raise UsageError(
            f"{_shown(function)} does not take one argument, the run", where=where, fix="Write it as: def name(run)."
        ) from None
    if every is not None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise UsageError(f"every={every!r} is not a positive integer", where=where, fix="Use an integer ≥ 1.")
        if event not in BY_STEP + BY_EPOCH:
            kind = "an ending" if event in ENDINGS else "not counted"
            raise UsageError(f"every= has no effect here: the event is {kind}", where=where, fix="Leave every= out.")
    if not isinstance(phase, Phase):
        raise UsageError(
            f"phase={phase!r} is not a phase", where=where, fix=f"Use {listed(f'Phase.{each.name}' for each in Phase)}."
        )


def _shown(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _name_of(function: Any, where: str) -> str:
    """The function's name in kebab-case; for a partial, the wrapped function's; for another object, its class's."""
    while isinstance(function, functools.partial):
        function = function.func
    name = _shown(function).strip("<>_")
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).replace("_", "-").lower()
    return _checked_name(re.sub(r"-+", "-", name), where)


def _checked_name(name: Any, where: str) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*(@[A-Za-z0-9][A-Za-z0-9._-]*)?", name):
        raise UsageError(
            f"{name!r} is not a plugin's name",
            where=where,
            fix="Give name=, of letters, digits, dashes and underscores.",
        )
    return name


on = _On()
