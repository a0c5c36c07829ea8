"""From measurements to tables, and ratios with their intervals. Nothing here measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmark.workloads import TRAINING, title

Round = Mapping[str, Mapping[str, Any]]
"""One round of one workload: what each competitor answered, by name. `seconds` is what is compared."""

REFERENCE = {
    **dict.fromkeys("abcdl", "ours"),
    "e": "trainer run logreg",
    "g": "no plugins",
    "i": "a plain write and flush",
    "k": "trainer run, default plugins",
    "m": "ours-step-sgd",
}
"""The reference row of each workload's ratios."""
CHANCE = 0.98
"""A final loss above this fraction of the loss of a constant prediction means that nothing was learned."""
DISTURBED = 0.25
"""If other processes keep more cores than this busy, a measurement says little: threads that wait for each other
become many times slower."""
ABSOLUTE, RELATIVE = 0.05, 0.10
"""How far a final loss may lie above ours."""


@dataclass(frozen=True)
class Interval:
    """The median over the rounds, and the lowest and the highest value."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """The interval of some values, at least one."""
        return cls(median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{digits(self.median)} [{digits(self.least)}, {digits(self.most)}]"

    @property
    def times(self) -> str:
        """It as seconds."""
        return f"{show(self.median)} [{show(self.least)}, {show(self.most)}]"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    workload: str
    name: str
    seconds: Interval | None
    """None if it never ran."""
    rounds: int
    ratio: Interval | None
    """This row's time divided by the reference's in the same round."""
    note: str = ""

    @property
    def counts(self) -> bool:
        """Whether it can be compared: it ran, and it learned."""
        return self.seconds is not None and not self.note.startswith("does not learn")


def mark_learning(results: dict[str, dict[str, Any]], reference: str, chance: float) -> None:
    """Flags the competitors of a round whose final loss shows that they did not train the reference's model.

    `chance` is the loss of a constant prediction, the labels' frequency. If the reference is not part of the round,
    only chance counts.
    """
    ours = results.get(reference, {}).get("loss")
    bound = CHANCE * chance if ours is None else min(CHANCE * chance, ours * (1 + RELATIVE) + ABSOLUTE)
    for answer in results.values():
        loss = answer.get("loss")
        if loss is not None:
            answer["learns"] = bool(loss <= bound)  # also False for NaN


def interval(rounds: Sequence[Round], name: str, to: str) -> Interval | None:
    """The ratios of the times of `name` and `to`, each within a round, over the rounds that have both."""
    ratios = [
        each[name]["seconds"] / each[to]["seconds"]
        for each in rounds
        if "seconds" in each.get(name, {}) and "seconds" in each.get(to, {})
    ]
    return Interval.of(ratios) if ratios else None


def rows(workload: str, rounds: Sequence[Round]) -> list[Row]:
    """The rows of one workload, with the competitors in their given order."""
    names = list(dict.fromkeys(name for each in rounds for name in each))
    return [_row(workload, rounds, name) for name in names]


def _row(workload: str, rounds: Sequence[Round], name: str) -> Row:
    answers = [each[name] for each in rounds if name in each]
    times = [answer["seconds"] for answer in answers if "seconds" in answer]
    if not times:
        return Row(workload, name, None, 0, None, note=str(answers[-1].get("error", "")))
    notes = []
    # A competitor that shuffles without a seed can have one bad round.
    missed = sum(not answer.get("learns", True) for answer in answers)
    if 2 * missed >= len(answers):
        losses = [answer["loss"] for answer in answers if "loss" in answer]
        notes.append(f"does not learn (loss {median(losses):.3f})")
    elif "loss" in answers[-1]:
        notes.append(f"loss {median(answer['loss'] for answer in answers if 'loss' in answer):.3f}")
    if notes and 0 < missed < len(answers) / 2:
        notes.append(f"did not reach our loss in {missed} of {len(answers)} rounds")
    if len(times) < len(answers):
        notes.append(f"failed in {len(answers) - len(times)} of {len(answers)} rounds")
    disturbed = sum(answer.get("others", 0.0) > DISTURBED for answer in answers)
    if disturbed:
        notes.append(f"disturbed in {disturbed} of {len(answers)} rounds")
    for key, text in NOTES.items():
        values = [answer[key] for answer in answers if key in answer]
        if values:
            notes.append(text(values))
    to = REFERENCE.get(workload)
    relative = None if to is None else interval(rounds, name, to)
    return Row(workload, name, Interval.of(times), len(times), relative, "; ".join(notes))


NOTES = {
    "threads": lambda values: values[-1] if not values[-1].isdecimal() else _threads(int(values[-1])),
    "cpu": lambda values: f"{show(median(values))} of CPU time",
    "evaluation": lambda values: f"evaluation {show(median(values))} per row",
    "memory": lambda values: f"{median(values) / 2**20:.0f} MiB in addition to the data",
    "share": lambda values: f"{median(values):.0%} of it exchange",
    "added": lambda values: f"{median(values) * 1e6:+.1f} µs per batch",
    "rate": lambda values: f"{median(values):.0f} a second",
    "growth": lambda values: f"last tenth {median(values):.2f} × first tenth",
    "above": lambda values: f"{median(values):.4f} above the best possible",
    "encoding": lambda values: f"encoding {show(median(values))} per row",
    "ready": lambda values: f"the first pass begins after {show(median(values))}",
    "private": lambda values: f"{median(values) / 2**20:.0f} MiB of private memory",
    "to_plain": lambda values: f"{Interval.of(values)} × the plain way",
    "to_fewest": lambda values: f"{Interval.of(values)} × the cost with the fewest buckets",
}
"""The notes on further measurements."""


def _threads(count: int) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"


def show(seconds: float) -> str:
    """A time with three digits, in a suitable unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {unit}" if abs(seconds) < 100 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def digits(value: float) -> str:
    """A ratio with three digits, without an exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 10 else f"{value:.2f}"


def markdown(workload: str, rounds: Sequence[Round], titles: Mapping[str, str]) -> str:
    """One workload's table."""
    to = REFERENCE.get(workload)
    lines = [
        f"**({workload}) {title(workload)}**",
        "",
        f"| | {UNITS[workload]}, median [lowest, highest] | {f'ratio to `{to}`' if to else ''} | |",
        "|---|---|---|---|",
    ]
    for row in rows(workload, rounds):
        time = "–" if row.seconds is None else row.seconds.times
        times = "" if row.ratio is None or row.name == to else str(row.ratio)
        lines.append(f"| {titles.get(row.name, row.name)} | {time} | {times} | {row.note} |")
    return "\n".join(lines) + "\n"


def compact(results: Mapping[str, Sequence[Round]], titles: Mapping[str, str]) -> str:
    """One table of all trainings: a row per competitor, with its time per step and the ratio to ours."""
    trainings = [workload for workload in results if workload in TRAINING and results[workload]]
    tables = {workload: {row.name: row for row in rows(workload, results[workload])} for workload in trainings}
    names = [name for name in titles if any(name in table for table in tables.values())]
    names += [name for table in tables.values() for name in table if name not in names]
    lines = ["| | " + " | ".join(f"({key}) {title(key)}" for key in trainings) + " |"]
    lines.append("|---" * (1 + len(trainings)) + "|")
    for name in dict.fromkeys(names):
        cells = [_cell(tables[key].get(name)) for key in trainings]
        lines.append(f"| {titles.get(name, name).partition(': ')[2] or name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(row: Row | None) -> str:
    if row is None or row.seconds is None:
        return "–"
    if not row.counts:
        return "does not learn"
    if row.name == REFERENCE.get(row.workload):
        return row.seconds.times
    return show(row.seconds.median) + ("" if row.ratio is None else f", {row.ratio} ×")


def text(workload: str, rounds: Sequence[Round]) -> str:
    """One workload's table for a terminal."""
    to = REFERENCE.get(workload)
    lines = [
        f"({workload}) {title(workload)}; {UNITS[workload]}: median [lowest, highest]{f', ratio to {to}' if to else ''}"
    ]
    for row in rows(workload, rounds):
        time = "–" if row.seconds is None else row.seconds.times
        times = "" if row.ratio is None or row.name == to else str(row.ratio)
        lines.append(f"  {row.name:28} {time:>30} {times:>22}  {row.note}".rstrip())
    return "\n".join(lines)


UNITS = {
    **dict.fromkeys("abcd", "per step"),
    "l": "per step, with everything",
    "e": "in total",
    "f": "in total",
    "g": "per batch",
    "h": "per row",
    "i": "per save",
    "j": "per step",
    "k": "per image",
    "m": "per row",
    "n": "per row",
    "t": "per row",
}
