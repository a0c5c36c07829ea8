"""The plugin: its options, when it chooses, and what it logs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from trainer import Phase, Plugin, Run, UsageError
from trainer.decisions import Points, costs_of, demands_of
from trainer_plugins.decided_rows import suffix_of
from trainer_plugins.operating_points.ways import ByBand, ByCosts, ByGroups, ByPoints, Way

SPLITS = ("validation", "test")
EXAMPLES = (
    "points=review=recall-at-precision:0.9, band=accuracy:0.95, cost-matrix=0,1;5,0 or fairness=equal-opportunity"
)
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]

log = logging.getLogger("trainer")


@dataclass
class OperatingPoints(Plugin):
    """Decides by more than one threshold: the saved model writes a column `decision` with the decision's name.

    One of four ways, chosen on the validation rows after each evaluation, on calibrated probabilities:

    - `points`: cut-offs with names, each with a demand of its own, from the mildest to the strictest;
    - `band`: rows between two cut-offs go to a person;
    - `cost-matrix`: the decision of least expected cost, for two or more classes;
    - `fairness`: a threshold for each value of a column, so that groups are treated equally.

    The metrics of the decisions are logged for validation, whose rows have chosen them, and for the test split. Two
    ways at once are two instances: `operating-points@alarm` writes the column `decision-alarm`.
    """

    points: Annotated[
        tuple[str, ...],
        Field(
            description="Cut-offs such as review=recall-at-precision:0.95,block=fpr:0.001; also precision-at-recall, "
            "share, threshold, cost, fbeta (each with a number), f1, accuracy, balanced-accuracy, youden and mcc."
        ),
    ] = ()
    otherwise: Annotated[str, Field(description="For points: the decision for rows below all cut-offs.")] = "none"
    band: Annotated[
        str,
        Field(
            description="Which rows go to a person: cost:0.1 if a person costs that much per row, accuracy:0.95 to "
            "have that share of the other rows right with as few rows for a person as possible."
        ),
    ] = ""
    person: Annotated[str, Field(description="For band and cost-matrix: the name of that decision.")] = "person"
    cost_matrix: Annotated[
        str,
        Field(
            description="A row of costs for each class, divided by semicolons, with a cost for each decision: 0,1;5,0. "
            "A column more than classes is a person."
        ),
    ] = ""
    fairness: Annotated[
        Literal["none", "equal-opportunity", "demographic-parity"],
        Field(description="What is to be equal between groups: the recall, or the share decided as class 1."),
    ] = "none"
    group: Annotated[str | None, Field(description="For fairness: the column of --slice that names the groups.")] = None
    max_gap: Annotated[
        float, Field(ge=0, le=1, description="For fairness: by how much the groups' rates may differ.")
    ] = 0.02
    false_positive_cost: Annotated[Price, Field(description="For band and fairness: the price of one.")] = 1.0
    false_negative_cost: Annotated[Price, Field(description="For band and fairness: the price of one.")] = 1.0
    min_rows: Annotated[
        int, Field(ge=1, description="With fewer validation rows nothing is decided; for fairness, per group.")
    ] = 20

    phase = Phase.TUNE
    after = ("calibration", "threshold-tuner")

    def __post_init__(self) -> None:
        """Refuses options that contradict each other."""
        self._said: set[str] = set()
        self._way: Way | None = None
        given = {
            "points": self.points,
            "band": self.band,
            "cost-matrix": self.cost_matrix,
            "fairness": self.fairness != "none",
        }
        ways = [name for name, value in given.items() if value]
        if len(ways) > 1:
            raise ValueError(
                f"{' and '.join(ways)} decide in different ways; use two instances, such as operating-points@{ways[1]}"
            )
        self._kind = ways[0] if ways else ""
        if self._kind == "fairness" and self.group is None:
            raise ValueError("fairness needs group, the column of --slice that names the groups")
        if self.group is not None and self._kind != "fairness":
            raise ValueError("group is for fairness=equal-opportunity or demographic-parity")
        if self.false_positive_cost == self.false_negative_cost == 0:
            raise ValueError("both costs are 0, so all decisions cost the same")
        try:
            self._demands = demands_of(self.points, self.otherwise)
            self._band = _band_of(self.band) if self.band else ("", 0.0)
        except UsageError as error:
            # Whoever creates the plugin knows its name, and adds it to a ValueError.
            raise ValueError(str(error)) from error

    @property
    def logs(self) -> Mapping[str, Any]:
        """The metrics of its way."""
        end = suffix_of(self.name)
        names = {
            "points": ByPoints(self._demands, "", 0, "").logs,
            "band": ByBand.logs,
            "cost-matrix": ByCosts.logs,
            "fairness": ByGroups.logs,
        }.get(self._kind, {})
        return {f"{split}/{_ended(name, end)}": better for split in SPLITS for name, better in names.items()}

    def on_setup(self, run: Run) -> None:
        """Refuses a task that does not fit, and a run without validation rows to choose on."""
        where = f"plugin {self.name!r}"
        if not self._kind:
            raise UsageError("it has nothing to decide", where=where, fix=f"Give one of {EXAMPLES}.")
        classes = tuple(run.task.class_names()) or (("0", "1") if run.threshold is not None else ())
        if self._kind == "cost-matrix":
            if len(classes) < 2 or run.task.numbers() is not None:
                raise UsageError(f"the task {run.task.name!r} has no classes", where=where, fix="Leave it out.")
            try:
                self._way = ByCosts(costs_of(self.cost_matrix, classes, self.person, suffix_of(self.name)))
            except UsageError as error:
                raise UsageError(error.what, where=f"{self.name}.cost-matrix", fix=error.fix) from error
            run.rules[self.name] = self._way.rule
            return
        if run.threshold is None or len(classes) != 2:
            raise UsageError(
                f"{self._kind} is for two classes, and the task {run.task.name!r} has "
                f"{len(classes) if len(classes) > 2 else 'none'}",
                where=where,
                fix="For more classes give cost-matrix." if len(classes) > 2 else "Leave it out.",
            )
        if run.validation is None:
            raise UsageError(
                "there are no validation rows to choose on",
                where=where,
                fix="Give the run validation rows, such as --validation-split 0.2.",
            )
        if self.group is not None and self.group not in run.slices("validation"):
            raise UsageError(
                f"{self.group!r} is not a column of --slice", where=where, fix=f"Add --slice {self.group}."
            )
        self._way = self._made(classes)

    def on_evaluate_end(self, run: Run) -> None:
        """Chooses anew, and logs the metrics of the decisions."""
        assert self._way is not None  # noqa: S101  on_setup made it
        # What was chosen for older weights does not fit these.
        run.rules.pop(self.name, None)
        rule = self._way.choose(run, lambda text: self._say(run, text))
        if rule is not None:
            run.rules[self.name] = rule
        self._log(run)

    def on_test_end(self, run: Run) -> None:
        """Logs the metrics of the decisions on rows that did not choose them."""
        self._log(run)

    def on_teardown(self, run: Run) -> None:
        """Says which cut-offs contradict the points' order, once they are those of the model."""
        rule = run.rules.get(self.name)
        if isinstance(self._way, ByPoints) and isinstance(rule, Points) and run.status in ("finished", "stopped"):
            for text in self._way.remarks(rule):
                self._say(run, text)

    def _log(self, run: Run) -> None:
        rule, evaluation = run.rules.get(self.name), run.evaluation
        if rule is None or evaluation is None or self._way is None:
            return
        if not evaluation.kept and self._kind == "cost-matrix":
            self._say(
                run,
                f"the cost is that of a sample of the {evaluation.rows} {evaluation.split} rows, which --memory does "
                "not keep",
            )
        end = suffix_of(self.name)
        found = self._way.metrics(run, rule)
        run.log({f"{evaluation.split}/{_ended(name, end)}": value for name, value in found.items()})

    def _made(self, classes: Sequence[str]) -> Way:
        end = suffix_of(self.name)
        if self._kind == "points":
            return ByPoints(self._demands, self.otherwise, self.min_rows, end)
        negative, positive = classes
        costs = self.false_positive_cost, self.false_negative_cost
        if self._kind == "band":
            kind, value = self._band
            accuracy = value if kind == "accuracy" else None
            person_cost = value if kind == "cost" else 0.0
            return ByBand(accuracy, person_cost, *costs, (negative, self.person, positive), self.min_rows, end)
        assert self.group is not None  # noqa: S101  checked in __post_init__
        return ByGroups(self.fairness, self.group, self.max_gap, *costs, (negative, positive), self.min_rows, end)

    def _say(self, run: Run, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            if run.processes.is_first:
                log.warning("%s: %s.", self.name, text)


def _ended(name: str, end: str) -> str:
    """A metric's name with the instance's suffix, before the part that depends on the data."""
    first, slash, rest = name.partition("/")
    return f"{first}{end}{slash}{rest}"


def _band_of(text: str) -> tuple[str, float]:
    """`cost:0.1` or `accuracy:0.95`. Raises UsageError for anything else."""
    kind, _, number = (part.strip() for part in text.partition(":"))
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if kind == "cost" and 0 < value < float("inf"):
        return kind, value
    if kind == "accuracy" and 0.5 <= value <= 1:
        return kind, value
    raise UsageError(
        f"{text!r} is not a band", fix="Write cost:C with a number > 0, or accuracy:A with a number from 0.5 to 1."
    )
