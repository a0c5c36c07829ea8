"""The events of a run, and the contract of a plugin.

A run is this loop. Every line that starts with `on_` fires an event; a plugin listens by having a method of that name:

    on_setup                                   the net, the data and the run's folder exist; nothing was trained yet
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
it is not over. Every on_<x>_begin has its on_<x>_end unless an error comes between them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
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
    "test_begin",
    "test_batch_end",
    "test_end",
    "teardown",
)
"""Every event, in the order in which a run first comes to it (the two at the side stand before the endings)."""

EVERY_PLUGIN = frozenset({"on_error", "name", "phase", "before", "after", "api", "varying"})
"""Attributes of every plugin: a dataclass field of that name would be an option that no flag or file could set."""

ENDINGS = ("exception", "fit_end", "teardown")
"""Events whose handlers all run, whatever one of them raises."""


class Phase(IntEnum):
    """When a plugin's turn comes within one event: all of one phase before any of the next."""

    TRANSFORM = 1
    """Changes what is trained: the batch, the gradients, the learning rate."""
    MEASURE = 2
    """Computes metrics and logs them."""
    TUNE = 3
    """Chooses something by those metrics, such as the decision threshold."""
    DECIDE = 4
    """Asks for things by what was measured and tuned: stop, save, evaluate."""
    SAVE = 5
    """Writes what a run can be continued from."""
    REPORT = 6
    """Shows or records everything that the others left behind."""


@dataclass(frozen=True)
class Changed:
    """A symbol, and the arrays for the variables that it has beyond parameters and data."""

    symbol: Any
    arguments: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    """By the variable's name: from a context to the array that is bound there."""


class Plugin:
    """What listens to the events of a run: a dataclass whose fields are its options.

    Its hooks are methods `on_<event>(self, run)`; the module's docstring says when each fires. Class attributes:

    - `phase`: when its turn comes within an event.
    - `before`, `after`: names of plugins of the same phase that it goes ahead of, or behind; names that a run does not
      use are passed over.
    - `api`: the version of `trainer.API_VERSION` that it was written for; empty for none in particular.
    - `varying`: what in its state, its attributes and its metrics differs between equal runs, such as a time or an id
      from elsewhere: names, or patterns with `*`. The conformance kit (`trainer.testing`) passes over them.
    - `on_error`: `"abort"` ends the run when a hook raises; `"disable"`, for plugins that only watch, switches the
      plugin off, says so, and lets the run continue. A run's configuration can set it for each plugin.
    """

    phase: ClassVar[Phase] = Phase.MEASURE
    before: ClassVar[tuple[str, ...]] = ()
    after: ClassVar[tuple[str, ...]] = ()
    api: ClassVar[str] = ""
    varying: ClassVar[tuple[str, ...]] = ()
    on_error: Literal["abort", "disable"] = "abort"
    name: str = ""
    """The name in this run, such as `my-plugin` or `my-plugin@first`; set by the code that creates the plugin."""

    def state_dict(self) -> Mapping[str, Any]:
        """What a continued run needs to behave as if it had never stopped: JSON values and numpy arrays."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` gave."""

    def change_symbol(self, run: Run, symbol: Any) -> Changed:
        """What becomes of the symbol that is trained, before it is bound; `on_setup` comes later.

        Its first output is the loss of every row, below `make_loss`, the others are the net's. For plugins that change
        how a net is computed rather than what; one that defines this needs a net that can be bound. Evaluations and the
        model that is written keep the net as it is.
        """
        return Changed(symbol)

    if TYPE_CHECKING:
        # For editors and type checkers alone: at run time a method that exists is a method that is called.
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
        def on_test_begin(self, run: Run) -> None: ...
        def on_test_batch_end(self, run: Run) -> None: ...
        def on_test_end(self, run: Run) -> None: ...
        def on_teardown(self, run: Run) -> None: ...
