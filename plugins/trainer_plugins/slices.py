"""Metrics of groups: every metric of the task by the values of columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainer import Phase, Plugin, Run, UsageError
from trainer.metrics import Metric
from trainer.seeds import derive

SPLITS = ("validation", "test")
Rows = tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]


@dataclass
class SliceMetrics(Plugin):
    """Logs every metric of the task for each value of the columns of `--slice`, and the largest gaps between them.

    `validation/slice/sex=f/f1` is the F1 of the rows with that value, and `validation/slice-gap/sex/f1` the difference
    between the best and the worst value of the column, which early stopping can watch. The net need not see the column.
    At the end, the test split (without one, the validation split) also has percentile intervals of resampled rows,
    `test/slice/sex=f/f1-low` and `-high`.
    """

    min_rows: Annotated[int, Field(ge=1, description="Values with fewer rows are put together as one, other.")] = 20
    most: Annotated[int, Field(ge=1, description="The most values per column; the others are put together too.")] = 20
    bootstrap: Annotated[
        int, Field(ge=0, description="Resamples for the intervals at the end; 0 for no intervals.")
    ] = 200
    confidence: Annotated[float, Field(gt=0, lt=1, description="The level of the intervals.")] = 0.95

    phase = Phase.MEASURE
    logs: ClassVar[Mapping[str, Literal["max", "min"] | None]] = {
        **dict.fromkeys(f"{split}/slice/*" for split in SPLITS),
        **{f"{split}/slice-gap/*": "min" for split in SPLITS},
    }

    def __post_init__(self) -> None:
        """The metrics are made in `on_setup`."""
        self._metrics: Sequence[Metric] = ()

    def on_setup(self, run: Run) -> None:
        """Refuses a run without columns to tell groups apart."""
        if not any(run.slices(split) for split in SPLITS):
            raise UsageError(
                "there are no slices of validation or test rows",
                where=f"plugin {self.name!r}",
                fix="Name a column: --slice COLUMN, and give the run such rows.",
            )
        # Copies: other plugins read what the run's own metrics have of the newest evaluation.
        self._metrics = deepcopy(run.task_metrics)

    def on_evaluate_end(self, run: Run) -> None:
        """Logs the validation rows' metrics by slice."""
        self._log(run, "validation")

    def on_fit_end(self, run: Run) -> None:
        """Logs the intervals of the last validation, if there is no test split."""
        evaluation = run.evaluation
        ended = run.status in ("finished", "stopped")
        if ended and run.test is None and evaluation is not None and evaluation.split == "validation":
            self._log_intervals(run, "validation")

    def on_test_end(self, run: Run) -> None:
        """Logs the test rows' metrics by slice, and their intervals."""
        self._log(run, "test")
        self._log_intervals(run, "test")

    def _log(self, run: Run, split: str) -> None:
        for column, groups in self._groups(run, split):
            values: dict[str, dict[str, float]] = {}
            for name, rows in groups:
                for metric, value in self._values(rows).items():
                    values.setdefault(metric, {})[name] = value
            for metric, by_name in values.items():
                better = run.direction(f"{split}/{metric}")
                for name, value in by_name.items():
                    if better is not None:
                        run.directions[f"{split}/slice/{column}={name}/{metric}"] = better
                    run.log({f"{split}/slice/{column}={name}/{metric}": value})
                known = [value for value in by_name.values() if not np.isnan(value)]
                if better is not None and known:
                    run.directions[f"{split}/slice-gap/{column}/{metric}"] = "min"
                    run.log({f"{split}/slice-gap/{column}/{metric}": max(known) - min(known)})

    def _log_intervals(self, run: Run, split: str) -> None:
        if not self.bootstrap:
            return
        outside = (1 - self.confidence) / 2
        for column, groups in self._groups(run, split):
            for name, rows in groups:
                generator = np.random.default_rng(derive(run.settings.seed, f"slice {column}={name}", run.step))
                drawn: dict[str, list[float]] = {}
                count = len(rows[1])
                for _ in range(self.bootstrap):
                    for metric, value in self._values(_taken(rows, generator.integers(0, count, count))).items():
                        drawn.setdefault(metric, []).append(value)
                for metric, values in drawn.items():
                    known = np.array(values)[~np.isnan(values)]
                    if run.direction(f"{split}/{metric}") is None or not len(known):
                        continue
                    low, high = np.quantile(known, [outside, 1 - outside])
                    start = f"{split}/slice/{column}={name}/{metric}"
                    run.log({f"{start}-low": float(low), f"{start}-high": float(high)})

    def _groups(self, run: Run, split: str) -> Iterator[tuple[str, Sequence[tuple[str, Rows]]]]:
        """Each column with its slices' names and rows."""
        found = run.slices(split)
        if not found:
            return
        evaluation = run.evaluation
        assert evaluation is not None  # noqa: S101  an event of an evaluation
        rows = evaluation.predictions, evaluation.labels, evaluation.weights
        for column, slices in found.items():
            names, codes = merged(slices.names, np.asarray(slices.codes, np.int64), self.min_rows, self.most)
            # Rows of a slice are next to each other once they are sorted by its number.
            order = np.argsort(codes, kind="stable")
            ends = np.searchsorted(codes[order], np.arange(len(names) + 1))
            yield (
                column,
                [
                    (name, _taken(rows, order[start:end]))
                    for name, start, end in zip(names, ends[:-1], ends[1:], strict=True)
                    if end > start
                ],
            )

    def _values(self, rows: Rows) -> dict[str, float]:
        found: dict[str, float] = {}
        for metric in self._metrics:
            metric.reset()
            metric.update(*rows)
            found |= metric.compute()
            metric.reset()
        return found


def merged(
    names: Sequence[str], codes: NDArray[np.int64], min_rows: int, most: int
) -> tuple[list[str], NDArray[np.int64]]:
    """Names and codes with the small slices as one at the end, `other`; slices without a row have none.

    A slice is small if it has fewer than `min_rows` rows, or is not among the `most` largest.
    """
    counts = np.bincount(codes, minlength=len(names))
    largest = np.argsort(-counts, kind="stable")[:most]
    kept = sorted(place for place in largest.tolist() if counts[place] >= min_rows)
    rest = [place for place in np.flatnonzero(counts).tolist() if place not in kept]
    if len(rest) == 1 and len(kept) < most:
        # Nothing to put it together with.
        kept, rest = sorted([*kept, *rest]), []
    table = np.full(len(names), len(kept))
    table[kept] = np.arange(len(kept))
    other = "other"
    while other in names:
        other += "s"
    return [names[place] for place in kept] + ([other] if rest else []), table[codes]


def _taken(rows: Rows, chosen: NDArray[Any]) -> Rows:
    predictions, labels, weights = rows
    return predictions[chosen], labels[chosen], None if weights is None else weights[chosen]
