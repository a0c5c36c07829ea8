"""The events of a run, and the contract of a plugin.

A run is this loop. Every line that starts with `on_` fires an event; a plugin listens by having a method of that name:

    on_setup                                   the net, the data and the run's folder exist; nothing is trained yet
    on_fit_begin
    for each epoch:
        on_epoch_begin
        for each batch:
            on_batch_begin                     run.batch is the batch, run.step its number
            forward, backward, sum over devices
            on_backward_end                    gradients exist, weights have not moved
            update
            on_batch_end                       run.loss is the batch's loss, computed when it is read
        if there is a validation split:
            on_evaluate_begin
            for each batch:
                on_evaluate_batch_end
            on_evaluate_end                    run.evaluation holds predictions and labels, run.metrics the metrics
        on_epoch_end
    on_fit_end                                 always fires: training is over, whatever ended it
    if training was not cut short by an error or an interrupt, and there is a calibration split:
        on_calibration_begin
        for each batch:
            on_calibration_batch_end
        on_calibration_end                     the weights are the final ones; no row has had a part in any choice
    if training was not cut short by an error or an interrupt, and there is a test split:
        on_test_begin
        for each batch:
            on_test_batch_end
        on_test_end
    the model is written, if training was not cut short and the run has a folder
    on_teardown                                always fires: close files

    on_checkpoint                              once a checkpoint is complete on disk: after on_batch_end if a
                                               batch asked for it, otherwise after on_epoch_end or on_fit_end
    on_exception                               run.exception is what went wrong; before on_fit_end and on_teardown

An epoch that a request ends early is evaluated and has its on_epoch_end; one that an interrupt ends has neither, since
it is not over. Every on_<x>_begin has its on_<x>_end unless an error occurs between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from trainer.metrics.base import Direction, Mode
    from trainer.run import Run

EVENTS = (
    "setup",
    "fit_begin",
    "epoch_begin",
    "batch_begin",
    "backward_end",
    "batch_end",
    "evaluate_begin",
    "evaluate_batch_end",
    "evaluate_end",
    "epoch_end",
    "checkpoint",
    "exception",
    "fit_end",
    "calibration_begin",
    "calibration_batch_end",
    "calibration_end",
    "test_begin",
    "test_batch_end",
    "test_end",
    "teardown",
)
"""Every event, in the order of its first occurrence (on_checkpoint and on_exception come before the final events)."""

EVERY_PLUGIN = frozenset({"alters", "on_error", "name", "phase", "before", "after", "api", "varying", "logs"})
"""Attributes of every plugin: a dataclass field of that name would be an option that no flag or file could set."""

ENDINGS = ("exception", "fit_end", "teardown")
"""Events whose handlers all run, even if one of them raises."""


class Phase(IntEnum):
    """The order of plugins within one event: all plugins of one phase run before those of the next."""

    TRANSFORM = 1
    """Changes what is trained: the batch, the gradients, the learning rate."""
    MEASURE = 2
    """Computes metrics and logs them."""
    TUNE = 3
    """Chooses something based on those metrics, such as the decision threshold."""
    DECIDE = 4
    """Makes requests based on what was measured and tuned: stop, save, evaluate."""
    SAVE = 5
    """Writes what is needed to resume a run."""
    REPORT = 6
    """Shows or records the results of the others."""


ALTERED = {"objective": "what is minimized", "steps": "the optimizer's steps"}
"""What a plugin may change about training, and in words."""


@dataclass(frozen=True)
class Changed:
    """A symbol, and the arrays for its variables other than parameters and data."""

    symbol: Any
    arguments: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    """For each variable's name, the array to bind on each context."""


@dataclass(frozen=True, slots=True)
class Due:
    """When a plugin needs its next `on_batch_end`: as soon as one of these conditions holds. `Due()` is never."""

    step: float = math.inf
    """In this step, or a later one."""
    time: float = math.inf
    """At this time of `time.perf_counter()`, or later."""
    logged: bool = False
    """After a batch in which a value was logged."""

    @classmethod
    def first(cls, dues: Iterable[Due | None]) -> Due | None:
        """When the first of several is due; None if one of them is None, which is at the next event."""
        step = time = math.inf
        logged = False
        for due in dues:
            if due is None:
                return None
            step, time, logged = min(step, due.step), min(time, due.time), logged or due.logged
        return cls(step, time, logged)

    def has_come(self, step: int, logged: Mapping[str, float]) -> bool:
        """Whether a condition holds; `logged` are the values of the batch."""
        return (
            step >= self.step
            or (self.logged and bool(logged))
            or (self.time < math.inf and perf_counter() >= self.time)
        )


def altered_by(plugin: Plugin) -> Collection[str]:
    """What a plugin changes about training, as it declares or as its phase implies."""
    if plugin.alters is not None:
        return plugin.alters
    return ALTERED if plugin.phase is Phase.TRANSFORM else ()


class Plugin:
    """Listens to the events of a run. A plugin is a dataclass whose fields are its options.

    Its hooks are methods `on_<event>(self, run)`; the module's docstring says when each fires. Class attributes:

    - `phase`: when it runs within an event.
    - `alters`: what it changes about training: `"objective"`, the function of the weights whose minimum is sought, as a
      penalty or other labels do, and `"steps"`, how the optimizer goes there, as clipping or a schedule do. None, the
      default: both in the phase TRANSFORM, nothing in the others. `--solver lbfgs` refuses plugins that change either.
    - `before`, `after`: names of plugins of the same phase that it runs before, or after; names that a run does not
      use are ignored.
    - `api`: the version of `trainer.API_VERSION` that it was written for; empty if it does not matter.
    - `varying`: names, or patterns with `*`, of states, attributes and metrics that differ between equal runs, such as
      a time or an external ID. The conformance kit (`trainer.testing`) ignores them.
    - `logs`: the names that it logs, or a mapping of each to `"max"`, `"min"` or None, the better direction; `()` if it
      logs nothing. A name may have one `*` for what depends on the data. It may be a property. A run whose plugins all
      declare it refuses a mistyped metric before training.
    - `on_error`: `"abort"` ends the run when a hook raises; `"disable"`, for plugins that only watch, switches the
      plugin off, says so, and lets the run continue. A run's configuration can set it for each plugin.
    """

    phase: ClassVar[Phase] = Phase.MEASURE
    alters: ClassVar[Collection[str] | None] = None
    before: ClassVar[tuple[str, ...]] = ()
    after: ClassVar[tuple[str, ...]] = ()
    api: ClassVar[str] = ""
    varying: ClassVar[tuple[str, ...]] = ()
    on_error: Literal["abort", "disable"] = "abort"
    name: str = ""
    """The name in this run, such as `my-plugin` or `my-plugin@first`; set by the code that creates the plugin."""
    suggested: bool = False
    """Whether the run has it because its task suggests it, with nothing said about it on the command line or in Python.
    Such a plugin does nothing where it has nothing to do; one that the user asked for raises UsageError."""

    @property
    def logs(self) -> Collection[str] | Mapping[str, Direction | None] | None:
        """The names that it logs; None if it does not say."""
        return None

    def state_dict(self) -> Mapping[str, Any]:
        """What a resumed run needs to behave as if it had never stopped: JSON values and numpy arrays."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned."""

    def watches(self) -> Mapping[str, Mode]:
        """The metrics that it reads during training, by logged name, each with what is better: min, max, or auto.

        If one of them is not logged, or if it is not known which values are better, the run is refused before training.
        """
        return {}

    def change_symbol(self, run: Run, symbol: Any) -> Changed:
        """Changes the symbol that is trained before it is bound; `on_setup` comes later.

        The symbol's first output is the loss of every row, inside `make_loss`; the others are the net's. For plugins
        that change how a net is computed, not what it computes. The net must be one that can be bound. Evaluations
        and the saved model use the net unchanged.
        """
        return Changed(symbol)

    def next_batch_end(self, run: Run) -> Due | None:
        """When it needs its next `on_batch_end`; asked after each one. None: after the next batch.

        Without it, a hook that does nothing costs some percent of a small net's step. The hook may be called earlier.
        A class that overrides `on_batch_end` is called after every batch, unless it overrides this method too.
        """
        return None

    if TYPE_CHECKING:
        # For editors and type checkers only: at run time, a hook that exists is called.
        def on_setup(self, run: Run) -> None: ...
        def on_fit_begin(self, run: Run) -> None: ...
        def on_epoch_begin(self, run: Run) -> None: ...
        def on_batch_begin(self, run: Run) -> None: ...
        def on_backward_end(self, run: Run) -> None: ...
        def on_batch_end(self, run: Run) -> None: ...
        def on_evaluate_begin(self, run: Run) -> None: ...
        def on_evaluate_batch_end(self, run: Run) -> None: ...
        def on_evaluate_end(self, run: Run) -> None: ...
        def on_epoch_end(self, run: Run) -> None: ...
        def on_checkpoint(self, run: Run) -> None: ...
        def on_exception(self, run: Run) -> None: ...
        def on_fit_end(self, run: Run) -> None: ...
        def on_calibration_begin(self, run: Run) -> None: ...
        def on_calibration_batch_end(self, run: Run) -> None: ...
        def on_calibration_end(self, run: Run) -> None: ...
        def on_test_begin(self, run: Run) -> None: ...
        def on_test_batch_end(self, run: Run) -> None: ...
        def on_test_end(self, run: Run) -> None: ...
        def on_teardown(self, run: Run) -> None: ...
