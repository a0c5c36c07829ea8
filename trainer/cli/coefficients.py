"""`trainer coefficients`: a linear model by the columns of its table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.cli.model import RunArgument, RunsDir
from trainer.cli.table import aligned
from trainer.errors import UsageError, listed
from trainer.runs.names import DEFAULT_RUNS
from trainer.terminal import safe, say

if TYPE_CHECKING:
    from trainer.model.coefficients import Coefficient, Interval, Linear
    from trainer.model.model import Model

INTERCEPT = "(intercept)"
MOST_SHOWN = 20
"""Categories of a column of many."""


def coefficients(
    run: RunArgument,
    level: Annotated[
        float, typer.Option("--level", help="The level of the confidence intervals, between 0 and 1.")
    ] = 0.95,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    runs_dir: RunsDir = DEFAULT_RUNS,
) -> None:
    """Shows what a linear model has learned of each column, in the units of the table.

    Standard errors and confidence intervals need the run's training rows, which are read again.

    Example: trainer coefficients runs/TASK/NAME
    """
    from trainer.model.coefficients import linear_of
    from trainer.model.load import find_model, load_from

    if not 0 < level < 1:
        raise UsageError(
            f"{level:g} is not a level", where="--level", fix="Use a number between 0 and 1, such as 0.95."
        )
    folder = find_model(run, runs_dir)
    model = load_from(folder)
    linear = _with_intervals(linear_of(model), model, folder.parent, level)
    if as_json:
        say(json.dumps(linear.to_json(), indent=2, ensure_ascii=False, allow_nan=False), block=True)
        return
    for line in _lines(linear):
        say(line)


def _with_intervals(linear: Linear, model: Model, run: Path, level: float) -> Linear:
    """The coefficients with intervals, or with a sentence why there are none."""
    if linear.many:
        why = f"the categories of {listed(linear.many)} are too many for one-hot columns"
        return replace(linear, why_no_intervals=why)
    import numpy as np

    from trainer.launch.training_rows import read_again
    from trainer.model.coefficients import with_intervals
    from trainer.model.uncertainty import Rows

    try:
        trained = read_again(run)
        rows = trained.rows
    except UsageError as error:
        return replace(linear, why_no_intervals=f"{error.where}: {error.what}" if error.where else error.what)
    if trained.penalties:
        return replace(linear, why_no_intervals=f"the model was trained with {listed(trained.penalties)}")
    if trained.splits.reweighted:
        return replace(linear, why_no_intervals="the loss weights rows by their class, so it is not their likelihood")
    count = float(trained.task.model_info().get("weight_mean", 1.0))
    weights = np.ones(len(rows)) if rows.weights is None else np.asarray(rows.weights, np.float64).reshape(-1) * count
    return with_intervals(linear, model, Rows(rows.features, rows.labels, weights), level=level)


def _lines(linear: Linear) -> Iterator[str]:
    several = len(linear.outputs) > 1
    of = "each class" if several else repr(linear.outputs[0])
    what = {
        "log odds": f"log odds of {of}{', minus the mean over the classes,' if several else ''}",
        "value": linear.outputs[0],
        "logarithm": f"log of {linear.outputs[0]}",
    }[linear.quantity]
    yield safe(f"{what} = intercept + the sum of coefficient × value")
    yield ""
    shows_deviation = not several and any(each.per_deviation for each in linear.coefficients)
    by_class = several and linear.level is not None
    yield from map(safe, aligned(_by_class(linear) if by_class else _rows(linear, shows_deviation=shows_deviation)))
    left_out = len(linear.coefficients) - len(_chosen(linear))
    if left_out:
        yield ""
        yield safe(f"the {MOST_SHOWN} largest of each column of many categories; --json has {left_out:,} more")
    if shows_deviation:
        yield ""
        yield "per deviation: for a change by one standard deviation of the training rows, to compare columns"
    if linear.why_no_intervals:
        yield ""
        yield safe(f"no standard errors: {linear.why_no_intervals}.")


def _rows(linear: Linear, *, shows_deviation: bool) -> list[list[str]]:
    """A line for each input, with a column for each output."""
    heads = list(linear.outputs) if len(linear.outputs) > 1 else ["coefficient"]
    rows = [["feature", *heads, *_heads(linear), *(["per deviation"] if shows_deviation else [])]]
    rows.append([
        INTERCEPT,
        *map(_number, linear.intercepts),
        *_shown(linear.intercept_intervals, 0),
        *([""] if shows_deviation else []),
    ])  # fmt: skip
    for each in _chosen(linear):
        row = [each.feature, *map(_number, each.values), *_shown(each.intervals, 0)]
        if shows_deviation:
            row.append(_number(each.per_deviation[0]) if each.per_deviation else "")
        rows.append(row)
    return rows


def _by_class(linear: Linear) -> list[list[str]]:
    """A line for each input and class."""
    rows = [["feature", "class", "coefficient", *_heads(linear)]]
    lines: list[tuple[str, Sequence[float], Sequence[Interval] | None]] = [
        (INTERCEPT, linear.intercepts, linear.intercept_intervals),
        *((each.feature, each.values, each.intervals) for each in linear.coefficients),
    ]
    for feature, values, intervals in lines:
        for place, (name, value) in enumerate(zip(linear.outputs, values, strict=True)):
            rows.append(["" if place else feature, name, _number(value), *_shown(intervals, place)])
    return rows


def _heads(linear: Linear) -> list[str]:
    return [] if linear.level is None else ["standard error", f"{linear.level * 100:g} % from", "to"]


def _shown(intervals: Sequence[Interval] | None, place: int) -> list[str]:
    return [] if intervals is None else [_number(value) for value in vars(intervals[place]).values()]


def _chosen(linear: Linear) -> list[Coefficient]:
    """The coefficients to print: of many categories, those with the largest ones."""
    chosen = [each for each in linear.coefficients if each.column not in linear.many]
    for column in linear.many:
        own = [each for each in linear.coefficients if each.column == column]
        chosen += sorted(own, key=lambda each: -max(map(abs, each.values)))[:MOST_SHOWN]
    return chosen


def _number(value: float) -> str:
    return f"{value: .4g}"
