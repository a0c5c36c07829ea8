"""The options of `trainer tune`, checked against the task."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainer import UsageError
from trainer.config import full_name
from trainer.errors import did_you_mean
from trainer.launch import Launch, Request, prepare_run
from trainer.runs import folder_path
from trainer_plugins.tune.search import Dimension


@dataclass(frozen=True)
class StudyOptions:
    """The options of one `trainer tune` command. `trials` None: 20, or every combination of a grid."""

    request: Request
    dimensions: Sequence[Dimension]
    trials: int | None
    monitor: str
    direction: Literal["auto", "max", "min"]
    sampler: str
    pruner: str
    name: str
    storage: str | None
    minutes: float | None

    def with_values(self, values: Mapping[str, str]) -> Request:
        """The request with the values of a trial: keys without a dot as options, the others as `--set` entries."""
        request = self.request
        given = {key: value for key, value in values.items() if "." not in key}
        sets = [f"{key}={value}" for key, value in values.items() if "." in key]
        return dataclasses.replace(request, options={**request.options, **given}, sets=[*request.sets, *sets])

    def checked(self) -> tuple[Launch, list[Dimension]]:
        """The launch without any trial's values, and the dimensions; a range of integers may become one of fractions.

        Raises UsageError for a search that a run would not accept.
        """
        request = self.request
        folder_path(request.runs_dir or Path(), "none", self.name)
        keys = [dimension.key for dimension in self.dimensions]
        taken = {entry.partition("=")[0].strip() for entry in request.sets} | set(request.options)
        for key in keys:
            if full_name(key) in map(full_name, taken):
                raise UsageError(f"{key!r} is both searched and set", where="--search", fix="Leave out one of them.")
        base = prepare_run(dataclasses.replace(request, name=None))
        for dimension in self.dimensions:
            for end in dimension.ends:
                try:
                    prepare_run(self.with_values({dimension.key: end}))
                except UsageError as error:
                    where = f"--search {dimension.key}"
                    raise UsageError(error.what, where=where, fix=error.fix) from error
        return base, [self._fractional(dimension) for dimension in self.dimensions]

    def resolved_direction(self, base: Launch) -> Literal["max", "min"]:
        """Whether the largest or the smallest value is the best. Raises UsageError if that is not known."""
        if self.direction != "auto":
            return self.direction
        from trainer.metrics import Metric, MulticlassClassification, as_metric, direction_of

        name = self.monitor
        metrics: list[Metric] = [as_metric(metric) for metric in base.task.metrics()]
        # The rows, which are not read yet, may decide that the task has several classes.
        _, _, of_class = name.partition("/")[2].partition("/")
        metrics.append(
            MulticlassClassification((1, 2, 5), macro_f1=True, classes=[of_class], log_loss=True, roc_auc=True)
        )
        found = direction_of(name, metrics)
        if found is None:
            known = ["loss", *dict.fromkeys(each for metric in metrics for each in metric.directions)]
            hint = did_you_mean(name, [f"{split}/{each}" for split in ("train", "validation") for each in known])
            raise UsageError(
                f"it is not known whether a larger or a smaller {name!r} is better",
                where="--monitor",
                fix=f"{hint} Otherwise add --direction max, or --direction min."
                if hint
                else "Add --direction max, or --direction min.",
            )
        return found

    def _fractional(self, dimension: Dimension) -> Dimension:
        """A range written in integers, as a range of fractions if the setting accepts them."""
        if not dimension.whole or dimension.step is not None:
            return dimension
        try:
            prepare_run(self.with_values({dimension.key: repr(dimension.low + 0.5)}))
        except UsageError:
            return dimension
        return dataclasses.replace(dimension, whole=False)
