"""The smallest real things to train: what the tests share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trainer import Engine, Phase, Plugin, Run, Task
from trainer.events import EVENTS
from trainer.testing.tiny import TinyTask as Tiny
from trainer.testing.tiny import rows, settings

__all__ = ["Recorder", "Tiny", "engine", "hooked", "plugin", "rows", "settings", "weights"]


def engine(
    task: Task | None = None,
    *plugins: Plugin,
    folder: Any = None,
    compiled: bool = True,
    resume_from: Any = None,
    start_over: bool = False,
    changed_data: Any = "refuse",
    **values: Any,
) -> Engine:
    return Engine(
        task or Tiny(),
        settings(**values),
        plugins,
        run_folder=folder,
        compiled=compiled,
        resume_from=resume_from,
        start_over=start_over,
        changed_data=changed_data,
    )


def weights(run: Run) -> list[np.ndarray]:
    """Every parameter of a run's net, in order, on the host."""
    return [parameter.data(run.contexts[0]).asnumpy() for parameter in run.net.collect_params().values()]


def hooked(**hooks: Callable[[Run], None]) -> type[Plugin]:
    """A plugin class whose hooks are these functions."""

    def method(function: Callable[[Run], None]) -> Callable[[Plugin, Run], None]:
        def hook(self: Plugin, run: Run) -> None:
            function(run)

        return hook

    return type("Hooked", (Plugin,), {f"on_{event}": method(function) for event, function in hooks.items()})


def plugin(name: str = "hooked", *, phase: Phase = Phase.MEASURE, on_error: str = "abort", **hooks: Any) -> Plugin:
    made = hooked(**hooks)()
    made.name = name
    made.on_error = on_error  # type: ignore[assignment]
    type(made).phase = phase
    return made


@dataclass
class Recorder(Plugin):
    """Writes down every event in order; what fires last within an event, since it reports."""

    events: list[str] = field(default_factory=list)

    phase = Phase.REPORT
    logs = ()


def _recording(event: str) -> Callable[[Recorder, Run], None]:
    def hook(self: Recorder, run: Run) -> None:
        self.events.append(event)

    return hook


for _event in EVENTS:
    setattr(Recorder, f"on_{_event}", _recording(_event))
