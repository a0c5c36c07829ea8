"""`trainer coefficients`: a linear model by the columns of its table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.cli.model import RunArgument, RunsDir
from trainer.cli.table import aligned
from trainer.runs.names import DEFAULT_RUNS
from trainer.terminal import safe, say

if TYPE_CHECKING:
    from trainer.model.coefficients import Coefficient, Linear

INTERCEPT = "(intercept)"
MOST_SHOWN = 20
"""Categories of a column of many."""


def coefficients(
    run: RunArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    runs_dir: RunsDir = DEFAULT_RUNS,
) -> None:
    """Shows what a linear model has learned of each column, in the units of the table.

    Example: trainer coefficients runs/TASK/NAME
    """
    from trainer.model.coefficients import linear_of
    from trainer.model.load import find_model, load_from

    linear = linear_of(load_from(find_model(run, runs_dir)))
    if as_json:
        say(json.dumps(linear.to_json(), indent=2, ensure_ascii=False, allow_nan=False), block=True)
        return
    for line in _lines(linear):
        say(line)


def _lines(linear: Linear) -> Iterator[str]:
    several = len(linear.outputs) > 1
    of = "each class" if several else repr(linear.outputs[0])
    what = {
        "log odds": f"log odds of {of}{' up to a constant' if several else ''}",
        "value": linear.outputs[0],
        "logarithm": f"log of {linear.outputs[0]}",
    }[linear.quantity]
    yield safe(f"{what} = intercept + the sum of coefficient × value")
    yield ""
    heads = list(linear.outputs) if several else ["coefficient"]
    shows_deviation = not several and any(each.per_deviation for each in linear.coefficients)
    rows = [["feature", *heads, *(["per deviation"] if shows_deviation else [])]]
    rows.append([INTERCEPT, *map(_number, linear.intercepts), *([""] if shows_deviation else [])])
    shown, left_out = _shown(linear)
    for each in shown:
        row = [each.feature, *map(_number, each.values)]
        if shows_deviation:
            row.append(_number(each.per_deviation[0]) if each.per_deviation else "")
        rows.append(row)
    yield from map(safe, aligned(rows))
    if left_out:
        yield ""
        yield safe(f"the {MOST_SHOWN} largest of each column of many categories; --json has {left_out:,} more")
    if shows_deviation:
        yield ""
        yield "per deviation: for a change by one standard deviation of the training rows, to compare columns"


def _shown(linear: Linear) -> tuple[list[Coefficient], int]:
    """The coefficients to print, and how many are left out: of many categories, those with the largest ones are."""
    shown = [each for each in linear.coefficients if each.column not in linear.many]
    left_out = 0
    for column in linear.many:
        own = [each for each in linear.coefficients if each.column == column]
        own.sort(key=lambda each: -max(map(abs, each.values)))
        shown += own[:MOST_SHOWN]
        left_out += len(own[MOST_SHOWN:])
    return shown, left_out


def _number(value: float) -> str:
    return f"{value: .4g}"
