"""The coefficients of a linear model of a table, in the units of the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from trainer.data.tables.kinds import Embedded
from trainer.errors import UsageError
from trainer.model.category_weights import LinearParts, linear_parts
from trainer.model.tables import TableModel
from trainer.model.uncertainty import Family, Fitted, Rows, errors_of, family_of, of_units

if TYPE_CHECKING:
    from trainer.data.tables.schema import Schema
    from trainer.model.model import Model


@dataclass(frozen=True)
class Interval:
    """What is known of a coefficient: its standard error, and the ends of its confidence interval."""

    error: float
    low: float
    high: float


@dataclass(frozen=True)
class Coefficient:
    """One input of the net: what each output gains if it grows by one, and by one deviation of the training rows."""

    feature: str
    """The name of the input, such as `age` or `colour=red`."""
    column: str
    """The table's column."""
    values: tuple[float, ...]
    """Per unit of the column, one for each output."""
    per_deviation: tuple[float, ...] | None
    """Per deviation of the training rows; None if the input is not standardised."""
    intervals: tuple[Interval, ...] | None = None
    """Of the values; None if there are none."""


@dataclass(frozen=True)
class Linear:
    """A linear model: each output is its intercept plus the sum of coefficient × input over the inputs."""

    outputs: tuple[str, ...]
    """What the outputs are about: of two classes the second, of more each, or what is predicted of a number."""
    intercepts: tuple[float, ...]
    coefficients: tuple[Coefficient, ...]
    quantity: Literal["log odds", "value", "logarithm"] = "log odds"
    """What an output is: the log odds of a class (of several, minus their mean), a number, or its logarithm."""
    many: tuple[str, ...] = ()
    """The columns with more categories than are one-hot; a row has no input for them, and one of their values."""
    level: float | None = None
    """The level of the confidence intervals; None if there are none."""
    intercept_intervals: tuple[Interval, ...] | None = None
    why_no_intervals: str = ""
    """A sentence; empty if there are some, or they were not asked for."""

    def to_json(self) -> dict[str, Any]:
        """A JSON value with everything by name."""
        return {
            "outputs": list(self.outputs),
            "quantity": self.quantity,
            "intercept": _by_name(self.outputs, self.intercepts),
            **self._intervals("intercept_", self.intercept_intervals),
            "level": self.level,
            "why_no_intervals": self.why_no_intervals or None,
            "coefficients": [
                {
                    "feature": each.feature,
                    "column": each.column,
                    "value": _by_name(self.outputs, each.values),
                    "per_deviation": each.per_deviation and _by_name(self.outputs, each.per_deviation),
                    **self._intervals("", each.intervals),
                }
                for each in self.coefficients
            ],
        }

    def _intervals(self, prefix: str, intervals: Sequence[Interval] | None) -> dict[str, Any]:
        if intervals is None:
            return {}
        return {
            f"{prefix}standard_error": _by_name(self.outputs, [each.error for each in intervals]),
            f"{prefix}interval": _by_name(self.outputs, [[each.low, each.high] for each in intervals]),
        }


def linear_of(model: Model) -> Linear:
    """The coefficients of a model. Raises UsageError if it is not a linear model of a table, or has diverged."""
    where, interface = str(model.folder), model.interface
    if not isinstance(interface, TableModel):
        raise UsageError("its inputs are not the columns of a table, so it has no coefficients by column", where=where)
    schema, numbers = interface.schema, model.task.numbers()
    parts = linear_parts(model, schema, where)
    outputs = schema.target.names[1:] if schema.target.is_binary else schema.target.names
    quantity: Literal["log odds", "value", "logarithm"] = "log odds"
    if numbers is not None:
        if len(parts.weight) > 1:
            raise UsageError(
                f"it predicts {len(parts.weight)} quantiles, of which only the lowest is linear in the columns",
                where=where,
                fix="Train a model of one quantile.",
            )
        outputs, quantity = interface.outputs.names, "value" if numbers.link == "identity" else "logarithm"
        if numbers.link == "identity":
            parts = parts.scaled(numbers.scale, numbers.offset)
        else:
            parts = parts.scaled(1.0, float(np.log(numbers.scale)))
    else:
        parts = _without_class_weights(parts, model.task.class_weights())
    if numbers is None and len(parts.weight) > 1:
        # All may be shifted together; with a mean of 0 they are the same however the training began.
        parts = parts.centred()
    weight, bias = parts.weight, parts.bias
    columns = [column.name for column in schema.columns for _ in column.feature_names]
    means, deviations = _scales(schema)
    # weight · (value - mean) / deviation = (weight / deviation) · value - weight · mean / deviation
    values = weight / deviations
    intercepts = bias - values @ means
    is_scaled = (means != 0) | (deviations != 1)
    return Linear(
        outputs,
        tuple(intercepts.tolist()),
        tuple(
            Coefficient(
                feature,
                columns[place],
                tuple(values[:, place].tolist()),
                tuple(weight[:, place].tolist()) if is_scaled[place] else None,
            )
            for place, feature in enumerate(schema.feature_names)
        )
        + tuple(_of_categories(schema, parts)),
        quantity,
        tuple(schema.id_names),
    )


def _without_class_weights(parts: LinearParts, weights: NDArray[np.float64] | None) -> LinearParts:
    """The outputs that the predicted probabilities have: those of a loss without class weights."""
    if weights is None:
        return parts
    logs = np.log(weights)
    return replace(parts, bias=parts.bias - (logs[1:] - logs[:1] if len(parts.bias) == 1 else logs))


def _of_categories(schema: Schema, parts: LinearParts) -> Iterator[Coefficient]:
    """A coefficient for each category of a column that is an id."""
    for table, weights in zip(schema.id_tables, parts.tables, strict=True):
        for column, first in zip(table.columns, table.offsets, strict=True):
            if isinstance(column, Embedded):
                rows = weights[first : first + column.rows].tolist()
                for name, values in zip(column.row_names, rows, strict=True):
                    yield Coefficient(f"{column.name}={name}", column.name, tuple(values), None)


def with_intervals(linear: Linear, model: Model, rows: Rows, *, level: float) -> Linear:
    """The same coefficients with standard errors and confidence intervals, or with a sentence why there are none.

    `rows` are those that the model was trained on, in the order of its inputs.
    """
    assert isinstance(model.interface, TableModel)  # noqa: S101  `linear_of` has checked it
    schema, numbers = model.interface.schema, model.task.numbers()
    family = family_of(model.task.loss())
    if family not in ("binomial", "multinomial", "normal", "poisson"):
        return replace(linear, why_no_intervals=family)
    parts = linear_parts(model, schema, str(model.folder))
    weight, bias = parts.weight, parts.bias
    offset, scale = (0.0, 1.0) if numbers is None else (numbers.offset, numbers.scale)
    inputs, kind = schema.feature_names, cast("Family", family)
    found = errors_of(Fitted(weight, bias, inputs, linear.outputs, kind, offset, scale), rows)
    if isinstance(found, str):
        return replace(linear, why_no_intervals=found)
    means, deviations = _scales(schema)
    reach, unit = found.quantile(level), scale if linear.quantity == "value" else 1.0
    errors = [of_units(each, means, deviations, unit) for each in found.covariances]
    return replace(
        linear,
        level=level,
        intercept_intervals=tuple(
            _interval(value, error, reach) for value, (_, error) in zip(linear.intercepts, errors, strict=True)
        ),
        coefficients=tuple(
            replace(
                each,
                intervals=tuple(
                    _interval(value, float(error[place]), reach)
                    for value, (error, _) in zip(each.values, errors, strict=True)
                ),
            )
            for place, each in enumerate(linear.coefficients)
        ),
    )


def _interval(value: float, error: float, reach: float) -> Interval:
    return Interval(error, value - reach * error, value + reach * error)


def _scales(schema: Schema) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means and deviations of the inputs."""
    scales = [scale for column in schema.columns for scale in column.scales]
    return np.array([each.mean for each in scales]), np.array([each.deviation for each in scales])


def _by_name(names: Sequence[str], values: Sequence[Any]) -> Mapping[str, Any]:
    return dict(zip(names, values, strict=True))
