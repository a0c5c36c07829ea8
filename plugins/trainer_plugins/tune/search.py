"""The syntax of --search: which settings to vary, and their values."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trainer import UsageError

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
RANGE = re.compile(rf"(?P<log>log:)?(?P<low>{NUMBER})\.\.(?P<high>{NUMBER})(?::(?P<step>{NUMBER}))?")
FORMS = "log:1e-3..1, 0..0.99, 2..10, 16..128:16 or relu|tanh"


@dataclass(frozen=True)
class Dimension:
    """One setting with its possible values: `choices` as text, or a range of numbers, integers if `whole`."""

    key: str
    text: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    whole: bool = False

    def suggest(self, trial: Any) -> str:
        """The study's next value, as text for an option; a number survives the round trip bit for bit."""
        if self.choices:
            return str(trial.suggest_categorical(self.key, self.choices))
        if self.whole:
            step = int(self.step or 1)
            return str(trial.suggest_int(self.key, int(self.low), int(self.high), step=step, log=self.log))
        return repr(float(trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)))

    @property
    def ends(self) -> tuple[str, ...]:
        """The choices, or both ends of the range: if the run accepts these, it accepts everything between."""
        return self.choices or tuple(self._text(value) for value in (self.low, self.high))

    @property
    def values(self) -> list[Any] | None:
        """Every value, for a grid; None for a range without steps."""
        if self.choices:
            return list(self.choices)
        if self.log or (self.step is None and not self.whole):
            return None
        step = self.step or 1
        numbers = [self.low + step * count for count in range(math.floor((self.high - self.low) / step + 1e-9) + 1)]
        return [int(number) for number in numbers] if self.whole else numbers

    def _text(self, value: float) -> str:
        return str(int(value)) if self.whole else repr(value)


def parse(entries: Sequence[str]) -> list[Dimension]:
    """The dimensions of `KEY=WHAT` entries. Raises UsageError for an invalid entry and for a repeated key."""
    if not entries:
        raise UsageError("there is nothing to search", where="--search", fix=f"Add KEY=WHAT, such as {FORMS}.")
    dimensions = [_dimension(entry) for entry in entries]
    for first, second in itertools.combinations(dimensions, 2):
        if first.key == second.key:
            raise UsageError(
                f"{first.key!r} is searched twice", where="--search", fix="Put all its values into one --search."
            )
    return dimensions


def combinations(dimensions: Sequence[Dimension]) -> Iterator[dict[str, Any]]:
    """Every combination of values. Raises UsageError if a dimension is a range without steps."""
    lists = []
    for dimension in dimensions:
        if dimension.values is None:
            raise UsageError(
                f"{dimension.text!r} has too many values for a grid",
                where=f"--search {dimension.key}",
                fix="Give a step, as in 0..1:0.25, or choices.",
            )
        lists.append(dimension.values)
    for values in itertools.product(*lists):
        yield {dimension.key: value for dimension, value in zip(dimensions, values, strict=True)}


def _dimension(entry: str) -> Dimension:
    key, equals, text = (part.strip() for part in entry.partition("="))
    if not equals or not key or not text:
        raise UsageError(f"{entry!r} is not a search", where="--search", fix=f"Write it as KEY=WHAT, such as {FORMS}.")
    where = f"--search {key}"
    found = RANGE.fullmatch(text)
    if found:
        return _range(key, text, found, where)
    if ".." in text or text.startswith("log:"):
        raise UsageError(f"{text!r} is not a range", where=where, fix=f"Write it as one of {FORMS}.")
    choices = tuple(dict.fromkeys(text.split("|")))
    if len(choices) < 2:
        raise UsageError(f"{text!r} is a single value", where=where, fix=f"Write {FORMS}; or set it with --set.")
    return Dimension(key, text, choices=choices)


def _range(key: str, text: str, found: re.Match[str], where: str) -> Dimension:
    low, high = float(found["low"]), float(found["high"])
    step = None if found["step"] is None else float(found["step"])
    whole = all(re.fullmatch(r"[+-]?\d+", found[part] or "1") for part in ("low", "high", "step"))
    log = found["log"] is not None
    if not low < high or not math.isfinite(high - low):
        raise UsageError(f"{text!r} has its ends the wrong way round", where=where, fix="Write LOW..HIGH.")
    if log and low <= 0:
        raise UsageError(f"{text!r} cannot be logarithmic", where=where, fix="Start above 0, or leave out log:.")
    if step is not None and (step <= 0 or log):
        why = "cannot be combined with log:" if log else "must be above 0"
        raise UsageError(f"{text!r}: a step {why}", where=where)
    # Whether the setting takes fractions too is checked with the study.
    return Dimension(key, text, low=low, high=high, step=step, log=log, whole=whole)
