"""Sets of classes and intervals of numbers that hold the truth with a promised probability."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainer import Phase, Plugin, Run, UsageError
from trainer.decisions import Bounds, ClassSets, Intervals, class_scores, codes_of, covered, number_scores, rows_needed
from trainer_plugins.decided_rows import DecidedRows, groups_of, suffix_of

FOR_CLASSES, FOR_NUMBERS = ("lac", "aps"), ("absolute", "cqr")
MOST_WARNED = 5

log = logging.getLogger("trainer")


@dataclass
class Conformal(Plugin):
    """Gives each prediction a set of classes or an interval that holds the truth with the probability `coverage`.

    The promise holds for any net and any distribution, as long as new rows come from where the calibration rows come
    from (split conformal prediction). It needs rows that nothing else has used: `--calibration-split`. The saved model
    writes the column `set`, or `lower` and `upper`. The test split shows what share of rows is covered.

    With `group`, a column of `--slice`, the promise holds for each of its values.
    """

    coverage: Annotated[
        float, Field(gt=0, lt=1, description="The probability that a set or interval holds the truth.")
    ] = 0.9
    method: Annotated[
        Literal["auto", "lac", "aps", "absolute", "cqr"],
        Field(
            description="For classes lac (the smallest sets) or aps (larger sets for difficult rows); for numbers "
            "absolute (intervals of one width) or cqr (around the predicted quantiles); auto: lac, and cqr if "
            "quantiles are predicted, otherwise absolute."
        ),
    ] = "auto"
    group: Annotated[
        str | None, Field(description="A column of --slice; the coverage then holds for each of its values.")
    ] = None

    phase = Phase.TUNE
    after = ("calibration", "threshold-tuner", "operating-points")

    @property
    def logs(self) -> Mapping[str, Literal["max", "min"] | None]:
        """Coverages have no better direction: the promised one is right."""
        end = suffix_of(self.name)
        names = dict.fromkeys(f"test/{name}{end}" for name in ("coverage", "coverage-low", "coverage-high"))
        groups: dict[str, Literal["max", "min"] | None] = {}
        if self.group is not None:
            groups = {f"test/coverage{end}/{self.group}=*": None}
        smaller: dict[str, Literal["max", "min"] | None] = {
            f"test/{name}{end}": "min" for name in ("set-size", "interval-width")
        }
        return {**names, **groups, **smaller, f"test/empty-sets{end}": None}

    def on_setup(self, run: Run) -> None:
        """Refuses a run without calibration rows, and a method that does not fit the task."""
        where = f"plugin {self.name!r}"
        if run.calibration is None:
            raise UsageError(
                "its promise needs rows that nothing else uses, and there are no calibration rows",
                where=where,
                fix="Add --calibration-split 0.2, or --calibration-data FILE.",
            )
        numbers = run.task.numbers()
        fitting = FOR_CLASSES if numbers is None else FOR_NUMBERS
        if self.method not in ("auto", *fitting):
            raise UsageError(
                f"the method {self.method} is for {'numbers' if numbers is None else 'classes'}, and the task "
                f"{run.task.name!r} predicts {'classes' if numbers is None else 'numbers'}",
                where=where,
                fix=f"Use {' or '.join(fitting)}.",
            )
        if self.method == "cqr" and numbers is not None and len(numbers.quantiles) < 2:
            ends = f"{(1 - self.coverage) / 2:.3g},{(1 + self.coverage) / 2:.3g}"
            raise UsageError(
                "cqr needs two predicted quantiles",
                where=where,
                fix=f"Add --objective quantile --quantiles {ends}, or use absolute.",
            )
        if self.group is not None and self.group not in run.slices("calibration"):
            raise UsageError(
                f"{self.group!r} is not a column of --slice", where=where, fix=f"Add --slice {self.group}."
            )

    def on_calibration_end(self, run: Run) -> None:
        """Chooses the sets' or intervals' size on rows that nothing else has used."""
        assert run.evaluation is not None  # noqa: S101  the event says so
        found = DecidedRows.of(run)
        if found is None:
            log.warning(
                "%s gives no sets: the predictions are neither probabilities of classes nor one number per row.",
                self.name,
            )
            return
        method = self._method(run)
        scores = _scores(found, method)
        names, codes = self._groups(run)
        bounds = Bounds.chosen(scores, self.coverage, found.weights, group=self.group, groups=names, codes=codes)
        self._warn(run, bounds, found, names, codes)
        if method in FOR_CLASSES:
            classes = tuple(map(str, run.task.class_names())) or tuple(map(str, range(found.classes)))
            run.rules[self.name] = ClassSets(self.coverage, method, classes, bounds, suffix_of(self.name))  # type: ignore[arg-type]
        else:
            numbers = run.task.numbers()
            least = 0.0 if numbers is not None and numbers.link == "log" else None
            run.rules[self.name] = Intervals(self.coverage, method, bounds, least, suffix_of(self.name))  # type: ignore[arg-type]

    def on_test_end(self, run: Run) -> None:
        """Logs the share of rows whose set or interval holds the truth, and how large they are."""
        rule, evaluation = run.rules.get(self.name), run.evaluation
        assert evaluation is not None  # noqa: S101
        found = DecidedRows.of(run)
        if not isinstance(rule, (ClassSets, Intervals)) or found is None:
            return
        names, codes = self._groups(run)
        own = np.zeros(0, int) if codes is None else codes_of(names, list(rule.bounds.by_group))
        bounds = rule.bounds.of_rows(len(found.labels), {}) if codes is None else rule.bounds.of_codes(own[codes])
        if isinstance(rule, ClassSets):
            members = rule.members(found.predictions, bounds)
            held = members[np.arange(len(members)), found.labels.astype(int)]
            sizes = members.sum(axis=1)
            told = {"set-size": found.mean(sizes), "empty-sets": found.mean(sizes == 0)}
        else:
            low, high = rule.ends(found.predictions, bounds)
            held = (low <= found.labels) & (found.labels <= high)
            told = {"interval-width": found.mean(high - low)}
        shares = {**covered(held, found.weights), **told}
        run.log({f"test/{name}{suffix_of(self.name)}": value for name, value in shares.items()})
        if codes is None:
            return
        for number in np.unique(codes):
            chosen = codes == number
            weights = None if found.weights is None else found.weights[chosen]
            share = covered(held[chosen], weights)["coverage"]
            run.log({f"test/coverage{suffix_of(self.name)}/{self.group}={names[number]}": share})

    def _method(self, run: Run) -> str:
        if self.method != "auto":
            return self.method
        numbers = run.task.numbers()
        if numbers is None:
            return "lac"
        return "cqr" if len(numbers.quantiles) > 1 else "absolute"

    def _groups(self, run: Run) -> tuple[list[str], NDArray[np.int64] | None]:
        """The values of the group column, and the number of each row's value; None without groups."""
        return ([], None) if self.group is None else groups_of(run, self.group)

    def _warn(
        self, run: Run, bounds: Bounds, found: DecidedRows, names: list[str], codes: NDArray[np.int64] | None
    ) -> None:
        """Says where the promise is not exact, or empty."""
        if not run.processes.is_first:
            return
        needed, promised = rows_needed(self.coverage), f"{100 * self.coverage:g} %"
        if found.weights is not None:
            log.warning("%s: the rows have weights, so the coverage of %s is approximate.", self.name, promised)
        if found.beyond:
            log.warning(
                "%s uses a sample of %d of the %d calibration rows, which --memory does not keep; the promise holds.",
                self.name, len(found.labels), found.beyond,
            )  # fmt: skip
        if codes is None and bounds.bound is None:
            log.warning(
                "%s: %d calibration rows are too few for %s, so every set has everything; it needs %d or more.",
                self.name, bounds.rows, promised, needed,
            )  # fmt: skip
        if codes is not None:
            small = [name for name in names if name not in bounds.by_group]
            if small:
                counts = dict(zip(names, np.bincount(codes, minlength=len(names)).tolist(), strict=True))
                told = ", ".join(f"{name} ({counts[name]} rows)" for name in small[:MOST_WARNED])
                more = f" and {len(small) - MOST_WARNED} more" if len(small) > MOST_WARNED else ""
                result = "have everything in every set" if bounds.bound is None else "share one promise"
                log.warning(
                    "%s: %d rows per value of %s are needed for %s; %s%s %s.",
                    self.name, needed, self.group, promised, told, more, result,
                )  # fmt: skip


def _scores(rows: DecidedRows, method: str) -> NDArray[np.float64]:
    """How badly each row's label fits, (rows,)."""
    if method in FOR_CLASSES:
        found: NDArray[np.float64] = class_scores(rows.predictions, method)[  # type: ignore[arg-type]
            np.arange(len(rows.labels)), rows.labels
        ]
        return found
    return number_scores(rows.predictions, rows.labels)
