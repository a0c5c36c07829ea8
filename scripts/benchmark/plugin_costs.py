"""The cost of plugins per batch: the task `logreg` with its defaults and one set of plugins after the other.

All sets run in turn in one process, so that compared measurements are close in time.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmark.competitors.ours import Timer, compute_as_for
from benchmark.worker import Clock
from trainer import Plugin, Run, fit
from trainer.catalog import registry

NONE = "no plugins"
NEEDED = {
    "gradient-clipping": {"norm": 1.0},
    "operating-points": {"points": ["review=recall-at-precision:0.5"]},
    "proximal": {"l1": 0.001},
}
"""Options for plugins that do nothing without them."""
NOT_HERE = {"conformal", "cutmix", "mixed-precision", "slices"}
"""Plugins that do not work here: they need images, oneDNN, rows kept for calibration, or columns of a table."""
Given = Callable[[], "tuple[Sequence[str | Plugin], Sequence[str]]"]
"""Returns the plugins to add to the task's default ones, and those to leave out."""


class Empty(Plugin):
    """Listens to every event of a batch, and does nothing."""

    def on_batch_begin(self, run: Run) -> None:
        """Nothing."""

    def on_backward_end(self, run: Run) -> None:
        """Nothing."""

    def on_batch_end(self, run: Run) -> None:
        """Nothing."""


def variants() -> dict[str, Given]:
    """The sets by name: none, ten empty ones, the task's defaults, and each built-in plugin."""
    defaults = list(registry.load(registry.TASKS, "logreg").defaults.plugins)  # type: ignore[attr-defined]
    sets: dict[str, Given] = {
        NONE: lambda: ((), defaults),
        "ten empty plugins": lambda: ([_named(Empty(), f"empty@{number}") for number in range(10)], defaults),
        "default plugins": lambda: ((), ()),
    }
    for entry in registry.installed(registry.PLUGINS):
        if entry.distribution == "gluon-trainer" and entry.name not in NOT_HERE:
            sets[entry.name] = _alone(entry.name, defaults)
    return sets


def _alone(name: str, defaults: Sequence[str]) -> Given:
    """A set of one plugin; a default plugin cannot be added again, so it is the only one not left out."""
    if name in defaults:
        return lambda: ((), [default for default in defaults if default != name])
    return lambda: ([registry.create_plugin(name, NEEDED.get(name, {}), where=name)], defaults)


def _named(plugin: Plugin, name: str) -> Plugin:
    plugin.name = name
    return plugin


def seconds_a_batch(given: Given, epochs: int) -> float:
    """Seconds per batch from the second epoch on, including evaluations and the ends of epochs."""
    clock = Clock()
    plugins, without = given()
    with tempfile.TemporaryDirectory() as folder:
        run = fit("logreg", plugins=[*plugins, Timer(clock)], without=without, epochs=epochs, runs_dir=folder)
    warm_up = run.step // max(run.epoch, 1)
    return (clock.times[-1] - clock.times[1]) / max(run.step - warm_up, 1)


def main(path: str) -> None:
    """Runs the job in the file at `path`."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    compute_as_for("logreg")
    sets = variants()
    times: dict[str, list[float]] = {name: [] for name in sets}
    answers: dict[str, dict[str, Any]] = {name: {} for name in sets}
    seconds_a_batch(sets[NONE], 2)
    for repeat in range(job["repeats"]):
        names = list(sets)
        random.Random(repeat).shuffle(names)
        for name in names:
            try:
                times[name].append(seconds_a_batch(sets[name], job["epochs"]))
            except Exception as error:  # noqa: BLE001  a plugin that cannot run alone is a line, not the end
                answers[name]["error"] = f"{type(error).__name__}: {error}"
    for name, measured in times.items():
        if "error" not in answers[name]:
            added = [one - none for one, none in zip(measured, times[NONE], strict=True)]
            answers[name] = {"seconds": median(measured)} | ({} if name == NONE else {"added": median(added)})
    answer = {"sets": answers, "seconds": answers[NONE].get("seconds")}
    Path(job["answer"]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
