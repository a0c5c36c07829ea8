"""What is claimed of the results, and whether a new result still agrees. Nothing here measures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmark import calibration, report
from benchmark.record import Record

BEFORE = "d555041"
"""The commit that the step's speed is compared with: `scripts/bench --against d555041`."""


@dataclass(frozen=True)
class Goal:
    """An upper bound for the ratio of two rows of one workload, within a round."""

    workload: str
    row: str
    than: str
    most: float

    def __str__(self) -> str:
        return f"({self.workload}) {self.row} takes at most {self.most:.3g} × {self.than}"


GOALS = (
    Goal("a", "ours", "torch", 1 / 4),
    Goal("a", "ours", "notebook", 1 / 12),
    Goal("a", "ours", "lightning", 1 / 10),
    Goal("a", "ours", "sklearn", 1.0),
    *(goal for key in "bcd" for goal in (Goal(key, "ours", "torch-memory", 1.0), Goal(key, "ours", "lightning", 0.5))),
    Goal("c", "ours-step", "jax", 0.8),
    Goal("b", "ours-step", "jax", 1.0),
    Goal("a", "ours", "ours-step", 1.10),
    Goal("b", "ours", "ours-step", 1.05),
    Goal("c", "ours", "ours-step", 1.10),
    Goal("d", "ours", "ours-step", 1.10),
    Goal("a", "ours-step", f"ours-step@{BEFORE}", 1.0),
    Goal("l", "ours", f"ours@{BEFORE}", 0.65),
    Goal("e", "trainer run logreg", "the notebook as a script", 0.6),
    *(
        Goal("k", ours, f"GluonCV's loop, {workers}", 1.0)
        for ours in ("trainer run, no plugins", "trainer run, default plugins")
        for workers in ("no worker", "1 worker", "2 workers", "2 workers, one thread per core")
    ),
    Goal("m", "ours-step-sgd", "vw-sgd", 1 / 1.1),
    Goal("m", "ours-step-ftrl", "vw-ftrl", 1 / 1.3),
    Goal("m", "ours-step-sgd", "torch-sparse", 1 / 5),
    Goal("n", "ours-step-sgd, 2^24", "ours-step-sgd, 2^16", 1.3),
    Goal("n", "ours-step-ftrl, 2^24", "ours-step-ftrl, 2^16", 1.6),
    Goal("t", "10^7 rows, from the cache", "10^7 rows, in memory", 1.3),
    Goal("t", "10^7 rows, from the cache, in windows", "10^7 rows, in memory", 1.3),
    Goal("t", "10^6 rows, CSV, our three passes without writing", "10^6 rows, CSV, streamed by pyarrow as text", 3.0),
    Goal("t", "10^6 rows, Parquet, our three passes without writing", "10^6 rows, Parquet, streamed by pyarrow", 4.0),
    Goal("i", "a checkpoint", "a plain write and flush", 1.5),
)


@dataclass(frozen=True)
class Verdict:
    """What was measured of a goal; `met` is None if nothing can be said, and `words` says why."""

    goal: Goal
    measured: report.Interval | None
    met: bool | None
    words: str


def judge(goal: Goal, rounds: Sequence[report.Round]) -> Verdict:
    """Compares a goal with the rounds: the median decides, and the words tell if the interval reaches further."""
    measured = report.interval(rounds, goal.row, goal.than)
    if measured is None:
        return Verdict(goal, None, None, "not measured")
    for row in report.rows(goal.workload, rounds):
        if row.name in (goal.row, goal.than) and not row.counts:
            return Verdict(goal, measured, None, f"not counted: {row.name} {row.note}")
    met = measured.median <= goal.most
    words = "met" if met else "not met"
    if met and measured.most > goal.most:
        words = "met by the median, not by every round"
    if not met and measured.least <= goal.most:
        words = "not met by the median, met in some rounds"
    return Verdict(goal, measured, met, words)


def verdicts(record: Record) -> list[Verdict]:
    """Every goal whose workload was measured."""
    return [judge(goal, record[goal.workload].counted()) for goal in GOALS if goal.workload in record]


@dataclass(frozen=True)
class Finding:
    """One recorded claim against a new result."""

    claim: str
    holds: bool | None
    """None: it was not measured again."""
    words: str

    def __str__(self) -> str:
        kind = {True: "holds", False: "NO LONGER HOLDS", None: "not compared"}[self.holds]
        return f"{kind}: {self.claim}: {self.words}"


def check(recorded: Record, new: Record) -> list[Finding]:
    """Compares a new result with the recorded one: first the goals, then the intervals."""
    return [*_goals(recorded, new), *_intervals(recorded, new)]


def _goals(recorded: Record, new: Record) -> Iterator[Finding]:
    before = {verdict.goal: verdict for verdict in verdicts(recorded)}
    for verdict in verdicts(new):
        old = before.get(verdict.goal)
        claimed = old is None or old.met is None or old.met
        if verdict.met is None:
            yield Finding(str(verdict.goal), None, verdict.words)
        elif verdict.met or claimed:
            yield Finding(str(verdict.goal), verdict.met, f"measured {verdict.measured}, {verdict.words}")
        else:
            yield Finding(str(verdict.goal), True, f"measured {verdict.measured}; recorded as not met, still not met")


def _intervals(recorded: Record, new: Record) -> Iterator[Finding]:
    for key, section in recorded.items():
        to = report.REFERENCE.get(key)
        if to is None:
            continue
        rounds = new[key].counted() if key in new else []
        for row in report.rows(key, section.counted()):
            if row.ratio is None or row.name == to or not row.counts:
                continue
            claim = f"({key}) {row.name} takes {row.ratio} × {to}"
            measured = report.interval(rounds, row.name, to)
            yield Finding(claim, *_agree(row.ratio, measured))


def _agree(claimed: report.Interval, measured: report.Interval | None) -> tuple[bool | None, str]:
    """Two intervals agree if they overlap, up to what the calibration lets through."""
    if measured is None:
        return None, "not measured"
    slack = 1 + calibration.LIMIT
    apart = measured.least > claimed.most * slack or measured.most * slack < claimed.least
    return not apart, f"measured {measured}"
