"""Trains the same steps on one context and on several, and compares the results: a proof on the user's machine."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.engine import Engine
from trainer.errors import UsageError
from trainer.events import Phase, Plugin
from trainer.launch.launch import Launch
from trainer.processes import Processes, connect
from trainer.run import Run

if TYPE_CHECKING:
    from trainer.step import Step

TOLERANCE = 1e-5
"""The largest difference, relative to the largest value, that rounding explains: sums over other groups of rows round
differently."""


@dataclass(frozen=True)
class Difference:
    """The largest difference of one kind, relative to the largest value; `where` names the array."""

    kind: str
    size: float
    where: str

    @property
    def is_small(self) -> bool:
        """Whether rounding explains it."""
        return self.size <= TOLERANCE


@dataclass(frozen=True)
class Comparison:
    """How a run on several contexts differs from a run on the first of them."""

    one: str
    several: str
    steps: int
    differences: list[Difference]
    notes: list[str]
    """Reasons in the net why the two may differ."""


@dataclass
class _Watch(Plugin):
    """Keeps the gradients of each step's mean loss, and the weights at the end."""

    gradients: list[dict[str, Any]] = field(default_factory=list)
    weights: dict[str, Any] = field(default_factory=dict)

    name = "check-devices"
    phase = Phase.TRANSFORM

    def on_backward_end(self, run: Run) -> None:
        """Keeps the gradients before another plugin changes them."""
        rows = max(run.gradients.rows, 1)
        self.gradients.append({name: array.asnumpy() / rows for name, array in run.named_gradients()})

    def on_fit_end(self, run: Run) -> None:
        """Keeps the final weights."""
        self.weights = run.copy_weights()


def compare(launch: Launch, *, steps: int) -> Comparison:
    """Trains `steps` steps on the launch's devices and on the first of them alone, and compares the two.

    Several processes train together the first time, and each by itself the second time. Nothing is written. Plugins
    that only report are left out. Raises UsageError for a single device in a single process.
    """
    processes = connect()
    launch.settle_computing()
    with processes.together():
        engine, watched = _train(launch, launch.settings.devices, steps, processes)
        several, step = engine.run, engine.state.step
        if len(several.contexts) < 2 and processes.size == 1:
            raise UsageError(f"{launch.settings.devices!r} is one device", where="--devices", fix="Name two or more.")
        first = several.contexts[0]
        single, alone = _train(launch, f"{first.device_type}:{first.device_id}", steps, Processes())
    pairs = zip(alone.gradients, watched.gradients, strict=True)
    gradients = [
        _largest("gradients", before, after, f" at step {step}") for step, (before, after) in enumerate(pairs, start=1)
    ]
    differences = [
        max(gradients, key=lambda difference: difference.size, default=Difference("gradients", 0.0, "none")),
        _largest("weights", alone.weights, watched.weights),
        _largest("metrics", _arrays(single.run.metrics), _arrays(several.metrics)),
    ]
    names = ", ".join(map(str, several.contexts)) + (f" in {processes.size} processes" if processes.size > 1 else "")
    return Comparison(str(first), names, several.step, differences, _notes(several, step))


def _train(launch: Launch, devices: str, steps: int, processes: Processes) -> tuple[Engine, _Watch]:
    settings = launch.settings.model_copy(update={"devices": devices, "steps": steps})
    plugins = [deepcopy(plugin) for plugin in launch.plugins if plugin.phase is not Phase.REPORT]
    watch = _Watch()
    engine = Engine(deepcopy(launch.task), settings, [watch, *plugins], processes=processes)
    engine.fit()
    return engine, watch


def _arrays(metrics: Mapping[str, float]) -> dict[str, Any]:
    return {name: np.asarray(value) for name, value in metrics.items()}


def _largest(kind: str, one: dict[str, Any], several: dict[str, Any], at: str = "") -> Difference:
    """The largest difference between arrays of the same names, relative to the array's largest value or 1."""
    sizes = {
        name: float(np.max(np.abs(value - several[name]), initial=0.0) / max(1.0, np.max(np.abs(value), initial=0.0)))
        for name, value in one.items()
        if np.isfinite(value).all() or not np.array_equal(value, several[name], equal_nan=True)
    }
    # NaN means that only one of the two is not finite, which no tolerance covers.
    worst = max(sizes, key=lambda name: np.nan_to_num(sizes[name], nan=np.inf), default="")
    return Difference(
        kind, float(np.nan_to_num(sizes.get(worst, 0.0), nan=np.inf)), f"{worst}{at}" if worst else "none"
    )


def _notes(run: Run, step: Step) -> list[str]:
    notes = []
    if step.parameters.measures and run.settings.micro_batches is None:
        notes.append(
            "BatchNorm normalises each device's rows separately, so its outputs depend on the devices; with "
            "--micro-batches they do not"
        )
    if step.draws_random_numbers and step.kind == "compiled":
        notes.append("the net draws random numbers (dropout), and each device draws its own")
    return notes
