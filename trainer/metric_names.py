"""The names of a run's metrics, known before its first epoch, so that a mistyped one is an error at once."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING

import numpy as np

from trainer.assignment import acting_as
from trainer.catalog import registry
from trainer.data.split_names import JUDGED
from trainer.errors import UsageError
from trainer.metric_log import not_logged

if TYPE_CHECKING:
    from trainer.evaluator import Evaluator
    from trainer.events import Plugin
    from trainer.metrics.base import Direction, Metric, Mode
    from trainer.run import Run


def check_names(run: Run, plugins: Sequence[Plugin], evaluator: Evaluator) -> None:
    """Raises UsageError for a metric that a plugin watches or the task's headline names, and that nothing logs.

    `plugins` are those of all processes, so that all of them decide the same. If one of them does not declare what it
    logs, a name cannot be wrong before the first epoch is over. Adds the declared directions to the run's.
    """
    declared = _declared(plugins)
    run.directions.update(
        {name: direction for name, direction in declared.items() if direction is not None and "*" not in name}
    )
    if any(plugin.logs is None for plugin in plugins):
        return
    names = Names(run, declared, evaluator)
    for plugin in plugins:
        for name, mode in plugin.watches().items():
            names.demand(name, mode, plugin.name)
    left_out = set(run.task.defaults.plugins) - {plugin.name.partition("@")[0] for plugin in plugins}
    absent = [declared_by(name) for name in sorted(left_out)]
    # What a plugin would log that the task suggests and the run leaves out may stand in the headline.
    if not any(logs is None for logs in absent):
        names.demand_shown(run.task.headline, absent=set().union(*(logs or () for logs in absent)))


def declared_by(name: str) -> Set[str] | None:
    """What an installed plugin logs, by its class; None if it does not say, or cannot be loaded."""
    try:
        logs = registry.load(registry.PLUGINS, name).logs  # type: ignore[attr-defined]
    except UsageError:
        return None
    # A property needs the options of an instance.
    return None if logs is None or isinstance(logs, property) else set(logs)


def declaring(name: str, declared: Iterable[str]) -> str | None:
    """The declared name that a logged one is, or the declared pattern with one `*` that it fits; None if none does."""
    if name in declared:
        return name
    for pattern in declared:
        start, star, end = pattern.partition("*")
        if star and len(name) > len(start) + len(end) and name.startswith(start) and name.endswith(end):
            return pattern
    return None


def names_in(metrics: Iterable[Metric]) -> set[str]:
    """The names of the metrics' values, without the split; those that depend on the rows may be missing."""
    found: set[str] = set()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for metric in metrics:
            try:
                metric.reset()
                found.update(metric.compute())
            except Exception:  # noqa: BLE001, S112  another package's metric may need rows
                continue
    return found


class Names:
    """What a run logs: the engine's own metrics, those of the task, and those that plugins declare."""

    def __init__(self, run: Run, declared: Mapping[str, Direction | None], evaluator: Evaluator) -> None:
        self._run = run
        self._evaluator = evaluator
        self._declared = declared
        self._splits = [split for split in JUDGED if getattr(run, split) is not None]
        self._task = names_in(run.task_metrics)
        self._asked_rows = False

    def demand(self, name: str, mode: Mode, plugin: str) -> None:
        """Raises UsageError if the metric is not logged during training, or if no one can tell what is better."""
        where = f"plugin {plugin!r}"
        split = name.partition("/")[0]
        if split == "validation" and split not in self._splits:
            raise UsageError(
                f"there is no validation split to watch {name!r} on",
                where=where,
                fix="Give the run validation rows, or watch train/loss.",
            )
        declared = declaring(name, self._declared)
        if split in JUDGED[1:] and declared is None:
            raise UsageError(
                f"{name!r} is not known during training: the {split} split is evaluated after it",
                where=where,
                fix="Watch a metric of the validation split.",
            )
        self._demand(name, where)
        if declared not in (None, name):
            direction = self._declared[declared]
            if direction is not None:
                self._run.directions[name] = direction
        if mode == "auto" and declared != name:
            with acting_as(self._run, plugin):
                self._run.sign(name)

    def demand_shown(self, headline: Iterable[str], *, absent: Set[str] = frozenset()) -> None:
        """Raises UsageError if a metric of the task's headline is never logged.

        Metrics of a missing split, and those in `absent`, which plugins would log that the run leaves out, are skipped.
        """
        for name in headline:
            split = name.partition("/")[0]
            if name in absent or (split in JUDGED and split not in self._splits):
                continue
            self._demand(name, f"the headline of the task {self._run.task.name!r}")

    def _demand(self, name: str, where: str) -> None:
        if declaring(name, self._all()) or (self._may_depend_on_rows(name) and name in self._all()):
            return
        known = {each for each in self._all() if each.partition("/")[0] not in JUDGED[1:] and "*" not in each}
        raise not_logged(name, known, where=where)

    def _all(self) -> set[str]:
        own = {f"{split}/{name}" for split in self._splits for name in ("loss", *self._task)}
        return {"train/loss", *own, *self._declared, *self._run.times_logged}

    def _may_depend_on_rows(self, name: str) -> bool:
        """Evaluates a batch, once, for metrics whose names depend on the rows; True if it has added names."""
        if self._asked_rows or name.partition("/")[0] not in self._splits:
            return False
        self._asked_rows = True
        self._task |= self._evaluator.names_of_a_batch(self._splits[0])
        return True


def _declared(plugins: Sequence[Plugin]) -> dict[str, Direction | None]:
    found: dict[str, Direction | None] = {}
    for plugin in plugins:
        logs = plugin.logs or ()
        found |= logs if isinstance(logs, Mapping) else dict.fromkeys(logs)
    return found
