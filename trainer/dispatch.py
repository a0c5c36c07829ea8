"""Calls the plugins: tables of handlers built once, and one place where a handler runs.

At start-up every plugin is checked and the order is fixed. From then on an event is a list and a `for`; an event
without handlers costs one check of an empty list. The ledger records the time of each call.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from trainer.catalog.class_check import check_class
from trainer.catalog.registry import name_of
from trainer.config.options import check_instance, redacted
from trainer.device_time import waiting
from trainer.engine_state import EngineState
from trainer.errors import ChangeError, PluginError, UsageError, listed, message_of
from trainer.events import ALTERED, EVENTS, Due, Phase, Plugin
from trainer.runs import folder

if TYPE_CHECKING:
    from trainer.ledger import Cost
    from trainer.run import Run

log = logging.getLogger("trainer")


UNWATCHED = frozenset(
    {"batch_begin", "backward_end", "batch_end", "evaluate_batch_end", "calibration_batch_end", "test_batch_end"}
)
"""Events that fire for every batch. The step notices what their handlers change on the net; looking costs as much as a
handler."""


@dataclass(slots=True)
class Handler:
    """One hook of one plugin, and the ledger line that its calls are added to."""

    plugin: Plugin
    call: Callable[[Run], None]
    cost: Cost
    due: Due | None = None
    """When it has to be called next; None: at the next event."""


@dataclass(slots=True)
class Hook:
    """One event: calling it calls its handlers in order."""

    event: str
    state: EngineState
    handlers: list[Handler] = field(default_factory=list)
    due_is_asked: bool = False
    """Whether there are handlers that do not need every event."""
    due: Due | None = None
    """When the first handler has to be called next; None: at the next event."""

    def __call__(self, run: Run) -> None:
        """Calls every handler; the first error ends the round, unless its plugin's `on_error` is `disable`."""
        if self.handlers and (self.due is None or self.due.has_come(run.step, self.state.log.of_step)):
            self._call(run)

    def to_the_end(self, run: Run) -> list[Exception]:
        """Calls every handler, even if some raise, and returns the errors."""
        errors: list[Exception] = []
        self._call(run, errors)
        return errors

    def _call(self, run: Run, errors: list[Exception] | None = None) -> None:
        """Calls every handler and charges it with the time from the end of the previous one to its own end.

        An error that has to end the run is added to `errors`; without that list it is raised at once. Only
        `Exception` is caught: a KeyboardInterrupt passes through to the engine, which ends the run.
        """
        began, waited = perf_counter(), waiting.seconds
        state, look = self.state, None if self.event in UNWATCHED or errors is not None else self.state.look
        if look is not None:
            look()
        state.event = self.event
        try:
            for handler in self._due(run) if self.due_is_asked else self.handlers:
                state.acting = handler.plugin.name
                try:
                    handler.call(run)
                    if look is not None:
                        look()
                except Exception as error:  # noqa: BLE001  whatever a plugin raises is wrapped or makes it silent
                    failure = state.plugin_failed(handler.plugin, f"on_{self.event}", run, error)
                else:
                    failure = None
                finally:
                    ended, until = perf_counter(), waiting.seconds
                    cost = handler.cost
                    cost.calls += 1
                    if until != waited:
                        cost.waiting += until - waited
                        began += until - waited
                        waited = until
                    cost.seconds += ended - began
                    began = ended
                if failure is not None:
                    if errors is None:
                        raise failure
                    errors.append(failure)
        finally:
            state.acting = "engine"

    def _due(self, run: Run) -> Iterator[Handler]:
        """The handlers that need this event, then works out when the next one is needed."""
        for handler in self.handlers:
            # Looked at one by one: a handler may log what a later one waits for.
            if handler.due is None or handler.due.has_come(run.step, self.state.log.of_step):
                yield handler
        self.due = Due.first(handler.due for handler in self.handlers)


class Dispatch:
    """The hooks of one run: `dispatch.batch_end(run)` and so on, one attribute per event.

    Checks and names the plugins; those of the phase `until` and of later phases are not called. Raises UsageError for
    an unknown or misdeclared hook, a name that is used twice, or a contradictory order.
    """

    setup: Hook
    fit_begin: Hook
    epoch_begin: Hook
    batch_begin: Hook
    backward_end: Hook
    batch_end: Hook
    evaluate_begin: Hook
    evaluate_batch_end: Hook
    evaluate_end: Hook
    epoch_end: Hook
    checkpoint: Hook
    exception: Hook
    fit_end: Hook
    calibration_begin: Hook
    calibration_batch_end: Hook
    calibration_end: Hook
    test_begin: Hook
    test_batch_end: Hook
    test_end: Hook
    teardown: Hook

    def __init__(
        self, plugins: Sequence[Plugin], state: EngineState | None = None, *, until: Phase | None = None
    ) -> None:
        self._state = state = EngineState() if state is None else state
        for plugin in plugins:
            check(plugin)
            plugin.name = name_of(plugin)
        self.plugins = ordered([plugin for plugin in plugins if until is None or plugin.phase < until])
        state.plugins, state.plugin_failed = self.plugins, self.failed
        for event in EVENTS:
            handlers = [
                Handler(plugin, getattr(plugin, f"on_{event}"), state.ledger.cost(plugin.name, event))
                for plugin in self.plugins
                if hasattr(type(plugin), f"on_{event}")
            ]
            setattr(self, event, Hook(event, state, handlers))
        asking = [handler for handler in self.batch_end.handlers if _tells_when_due(handler.plugin)]
        for handler in asking:
            handler.call = partial(_call_and_ask, handler, handler.call)
        self.batch_end.due_is_asked = bool(asking)

    def hook(self, event: str) -> Hook:
        """The hook of an event by name, for code outside the loop."""
        hook: Hook = getattr(self, event)
        return hook

    def failed(self, plugin: Plugin, method: str, run: Run, error: Exception) -> Exception | None:
        """Handles a plugin's error: returns the error that ends the run, or None if the plugin was switched off."""
        gone = folder.gone_or(error, run.folder)
        if isinstance(gone, folder.FolderGone):
            return gone
        where = f"plugin {plugin.name!r} in {method} at epoch {run.epoch}, step {run.step}"
        if isinstance(error, ChangeError):
            return error.by(where)
        if isinstance(error, UsageError):
            return error  # The message tells the user what to do, so the run does not continue without the plugin.
        raised = redacted(f"{type(error).__name__}: {message_of(error)}", plugin)
        if plugin.on_error == "disable":
            self.remove(plugin)
            reason = f"{method} raised {raised}"
            self._state.requests.decide("disable", reason, plugin=plugin.name, epoch=run.epoch, step=run.step)
            log.warning("%s raised %s. It is switched off, the run continues.", where, raised)
            return None
        wrapped = PluginError(f"{where} raised {raised}")
        wrapped.__cause__ = error
        return wrapped

    def blamed(self, error: BaseException, run: Run) -> BaseException:
        """The error; a change that was noticed later, in the step, with the plugins that may have made it."""
        if not isinstance(error, ChangeError) or error.where.startswith("plugin "):
            return error
        several = {each.plugin.name for event in sorted(UNWATCHED) for each in self.hook(event).handlers}
        names = [repr(plugin.name) for plugin in self.plugins if plugin.name in several]
        whom = f"plugin {names[0]}" if len(names) == 1 else f"one of the plugins {listed(names)}"
        return error.by(f"{whom}, up to step {run.step}") if names else error

    def remove(self, plugin: Plugin) -> None:
        """Removes a plugin from every event; a round that is under way still uses the old list."""
        self._state.disabled.add(plugin.name)
        for event in EVENTS:
            hook = self.hook(event)
            hook.handlers = [handler for handler in hook.handlers if handler.plugin is not plugin]


def _tells_when_due(plugin: Plugin) -> bool:
    """Whether it has a `next_batch_end` that knows its `on_batch_end`: a derived class may have changed only that."""
    for cls in type(plugin).__mro__:
        if "next_batch_end" in vars(cls):
            return cls is not Plugin
        if "on_batch_end" in vars(cls):
            break
    return False


def _call_and_ask(handler: Handler, call: Callable[[Run], None], run: Run) -> None:
    call(run)
    handler.due = handler.plugin.next_batch_end(run)


def check(plugin: Plugin) -> None:
    """Raises UsageError for a hook that would never be called, or that cannot be called."""
    if not isinstance(plugin, Plugin):
        fix = "A plugin is an instance of a class that derives from trainer.Plugin."
        if inspect.isroutine(plugin):
            fix = "A function becomes one with trainer.on, for an event: on.epoch_end(function)."
        raise UsageError(f"{plugin!r} is not a plugin", fix=fix)
    name = plugin.name or type(plugin).__name__
    if not isinstance(plugin.phase, Phase):
        raise UsageError(
            f"its phase is {plugin.phase!r}",
            where=f"plugin {name!r}",
            fix=f"A phase is one of {listed(f'Phase.{phase.name}' for phase in Phase)}.",
        )
    if plugin.alters is not None and not set(plugin.alters) <= ALTERED.keys():
        raise UsageError(
            f"its alters is {plugin.alters!r}",
            where=f"plugin {name!r}",
            fix=f"It is None, or names some of {listed(ALTERED)}.",
        )
    if plugin.on_error not in {"abort", "disable"}:
        raise UsageError(
            f"its on_error is {plugin.on_error!r}", where=f"plugin {name!r}", fix="It is 'abort' or 'disable'."
        )
    cls = type(plugin)
    check_class(cls, where=f"plugin {name!r} ({cls.__module__}.{cls.__qualname__})")
    check_instance(plugin, where=f"plugin {name!r}")


def ordered(plugins: Sequence[Plugin]) -> list[Plugin]:
    """The plugins in order of phase, then of `before` and `after`, and otherwise as the run lists them.

    Raises UsageError for two plugins with the same name, for a cycle, and for a `before` or `after` that contradicts
    the phases.
    """
    names = [plugin.name for plugin in plugins]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"two plugins are called {name!r}",
                fix="Give each its own name, as in {0}@first and {0}@second.".format(name.partition("@")[0]),
            )
    result: list[Plugin] = []
    for phase in Phase:
        waiting = [plugin for plugin in plugins if plugin.phase is phase]
        behind = {plugin.name: _predecessors(plugin, plugins) for plugin in waiting}
        while waiting:
            left = {plugin.name for plugin in waiting}
            ready = next((plugin for plugin in waiting if not behind[plugin.name] & left), None)
            if ready is None:
                raise UsageError(
                    f"the plugins {listed(sorted(left))} each have to run before the other",
                    fix="Remove one of the names from their before= and after=.",
                )
            # Compared by identity: two instances with the same options are equal, because the name is not an option.
            waiting = [plugin for plugin in waiting if plugin is not ready]
            result.append(ready)
    return result


def _predecessors(plugin: Plugin, plugins: Sequence[Plugin]) -> set[str]:
    """The names of the plugins that have to come before `plugin` within its phase."""
    before_me = set()
    for other in plugins:
        wants_other_first = _names(plugin.after, other) or _names(other.before, plugin)
        if wants_other_first and other.phase > plugin.phase:
            raise UsageError(
                f"{other.name!r} cannot run before {plugin.name!r}: its phase {other.phase.name} comes after "
                f"{plugin.phase.name}",
                fix="Change the phase of one of them, or remove the name from before= or after=.",
            )
        if wants_other_first:
            before_me.add(other.name)
    return before_me


def _names(wanted: Sequence[str], plugin: Plugin) -> bool:
    """Whether `wanted` names the plugin: by its full name, or every instance by the name before the @."""
    return plugin.name in wanted or plugin.name.partition("@")[0] in wanted
